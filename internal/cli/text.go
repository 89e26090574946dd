package cli

import (
	"fmt"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// width is what all text but commands keeps to, and tables that need more. Main
// sets it for terminals that are narrower, before there is any text.
var width = fullWidth

const (
	fullWidth  = 80
	leastWidth = 40 // the narrowest that text is made for
)

// narrowed is the width for an output: its own if it is a terminal that has less.
func narrowed(stdout any) int {
	if size := windowSize(stdout); size != nil && size.Col > 0 {
		return min(width, max(leastWidth, int(size.Col)))
	}
	return width
}

// windowSize is the size of a terminal; nil: it is none.
func windowSize(stream any) *unix.Winsize {
	f, ok := stream.(*os.File)
	if !ok {
		return nil
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return nil
	}
	return size
}

// colour is the number of an SGR sequence (ECMA-48, section 8.3.117).
type colour string

const (
	plain  colour = ""
	bold   colour = "1"
	red    colour = "31"
	green  colour = "32"
	yellow colour = "33"
)

// page builds text for a terminal. What it is given is cleaned: the name of a
// link may hold any byte but a slash, a colon and white space
// (dev_valid_name, net/core/dev.c).
type page struct {
	b       strings.Builder
	colours bool
}

// coloured tells whether the output understands and wants colours
// (https://no-color.org).
func (a *app) coloured() bool {
	return a.env["NO_COLOR"] == "" && a.env["TERM"] != "dumb" && a.env["TERM"] != "" && isTerminal(a.stdout)
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

func (p *page) paint(c colour, s string) string {
	if !p.colours || c == plain || s == "" {
		return s
	}
	return "\x1b[" + string(c) + "m" + s + "\x1b[0m"
}

func (p *page) line(s string) {
	p.b.WriteString(strings.TrimRight(s, " "))
	p.b.WriteByte('\n')
}

// head begins a section.
func (p *page) head(s string) {
	p.b.WriteString("\n")
	p.line(p.paint(bold, s))
}

// label writes a coloured word and behind it wrapped text; lines after the
// first begin below the text.
func (p *page) label(indent int, word string, pad int, c colour, text string) {
	word = clean(word)
	if most := width - indent - 12; displayed(word) > most {
		word = fit(word, most)
	}
	column := indent + max(pad, displayed(word)+2)
	lines := wrap(clean(text), width-column)
	first := strings.Repeat(" ", indent) + p.paint(c, word) + strings.Repeat(" ", column-indent-displayed(word))
	for i, l := range lines {
		if i == 0 {
			p.line(first + l)
		} else {
			p.line(strings.Repeat(" ", column) + l)
		}
	}
}

// beside writes wrapped text behind a front of so many columns, or below it where
// that leaves next to nothing.
func (p *page) beside(front string, column int, text string) {
	if width-column < 12 {
		p.line(front)
		column = 4
		front = strings.Repeat(" ", column)
	}
	for i, l := range wrap(clean(text), width-column) {
		if i > 0 {
			front = strings.Repeat(" ", column)
		}
		p.line(front + l)
	}
}

// wrap breaks text at blanks so that no line is wider than w; a word that is
// too long is cut. There is always one line.
func wrap(text string, w int) []string {
	w = max(w, 8)
	if len(text) <= w && spaced(text) {
		return []string{text}
	}
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		for displayed(word) > w {
			if line != "" {
				lines = append(lines, line)
			}
			line, word = cut(word, w)
			lines = append(lines, line)
			line = ""
		}
		switch {
		case line == "":
			line = word
		case displayed(line)+1+displayed(word) <= w:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	if line != "" || len(lines) == 0 {
		lines = append(lines, line)
	}
	return lines
}

// spaced tells whether a text has single blanks between its words and no other
// white space, so that it may stay as it is.
func spaced(text string) bool {
	blank := true
	for i := range len(text) {
		switch c := text[i]; {
		case c == ' ' && blank, c < ' ', c >= utf8.RuneSelf:
			return false
		default:
			blank = c == ' '
		}
	}
	return !blank || text == ""
}

// fit pads or cuts a text to exactly w columns; a cut shows as "~".
func fit(s string, w int) string {
	n := displayed(s)
	if n > w {
		s, _ = cut(s, w-1)
		s += "~"
		n = displayed(s)
	}
	return s + strings.Repeat(" ", max(0, w-n))
}

// clean replaces what a terminal would take for a command.
func clean(s string) string {
	if strings.IndexFunc(s, unprintable) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n':
			b.WriteByte(' ')
		case unprintable(r):
			fmt.Fprintf(&b, "\\x%02x", r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

// age is a duration in one unit or two: "45s", "3m", "2h05m", "6d".
func age(d time.Duration) string {
	switch {
	case d < time.Second:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
