package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Problem is one mistake in a configuration.
type Problem struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`         // from 1; 0: the file as a whole
	Column  int    `json:"column,omitempty"`       // in characters, from 1
	Width   int    `json:"width,omitempty"`        // in characters
	Text    string `json:"text"`                   // what is wrong
	Meant   string `json:"did_you_mean,omitempty"` // what was probably meant, as it is written in a file
	Allowed string `json:"allowed,omitempty"`      // what can stand there, in words
	Excerpt string `json:"excerpt,omitempty"`      // the line, or what fits a terminal of a long one

	mark  int   // where in the excerpt the column is
	cause error // of a file that cannot be read
}

// Error is the problem in one line: "subflowd.toml:3:8: role cannot be ...".
func (p *Problem) Error() string {
	if p.Line == 0 {
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Text)
}

// Unwrap is the system's error where a file cannot be read.
func (p *Problem) Unwrap() error { return p.cause }

// print writes the problem for a terminal: the line in question, a mark below
// what is wrong in it, and what could stand there.
func (p *Problem) print(b *strings.Builder) {
	b.WriteString(p.Error())
	margin := strings.Repeat(" ", 4)
	if p.Line > 0 {
		mark := strings.Repeat("^", max(1, min(p.Width, utf8.RuneCountInString(p.Excerpt)-p.mark)))
		number := fmt.Sprintf("%4d | ", p.Line)
		margin = strings.Repeat(" ", len(number))
		fmt.Fprintf(b, "\n%s%s\n%s| %s%s", number, p.Excerpt, margin[2:], strings.Repeat(" ", p.mark), mark)
	}
	if p.Meant != "" {
		b.WriteString("\n" + margin + "did you mean " + p.Meant + "?")
	}
	if p.Allowed != "" {
		b.WriteString("\n" + margin + "allowed: " + p.Allowed)
	}
}

// Problems is every mistake of a configuration, in the order of the files and
// of their lines. It is the only error of Load.
type Problems []*Problem

// Error prints all problems for a terminal, without a newline at the end.
func (ps Problems) Error() string {
	var b strings.Builder
	for i, p := range ps {
		if i > 0 {
			b.WriteByte('\n')
		}
		p.print(&b)
	}
	return b.String()
}

// Summary is the first problem and the number of the others in one line, for a
// log or a status.
func (ps Problems) Summary() string {
	switch len(ps) {
	case 0:
		return ""
	case 1:
		return ps[0].Error()
	case 2:
		return ps[0].Error() + " (and one more problem)"
	}
	return fmt.Sprintf("%s (and %d more problems)", ps[0].Error(), len(ps)-1)
}

// Unwrap lets errors.Is and errors.As see every problem.
func (ps Problems) Unwrap() []error {
	all := make([]error, len(ps))
	for i, p := range ps {
		all[i] = p
	}
	return all
}

// inOrder sorts the problems of one file by their place.
func (ps Problems) inOrder() Problems {
	slices.SortStableFunc(ps, func(x, y *Problem) int {
		return cmp.Or(cmp.Compare(x.Line, y.Line), cmp.Compare(x.Column, y.Column))
	})
	return ps
}

// excerptWidth is what of a line fits a terminal of 80 columns.
const excerptWidth = 68

// excerpt is what of a line a person needs to see of a place in it, and where
// in that the place is, both in characters. What would control the terminal is
// a blank.
func excerpt(line string, column int) (string, int) {
	shown := []rune(line)
	if from := max(0, column-excerptWidth/2); len(shown) > excerptWidth {
		shown, column = shown[from:min(len(shown), from+excerptWidth)], column-from
	}
	for i, r := range shown {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			shown[i] = ' '
		}
	}
	return string(shown), column
}
