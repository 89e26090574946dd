package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/subflowd/subflowd/internal/config"
)

// entry is what the reference file says of one key.
type entry struct {
	table string // "", "routing", "[link]"
	key   string
	value string
	text  []string // comment lines before it, without their mark
	only  bool     // the line is an example, not a default
}

var (
	tableRow   = regexp.MustCompile(`^#?\[(\[?[a-z_]+\]?)\]$`)
	keyRow     = regexp.MustCompile(`^(#?)([a-z0-9_]+) = (.*)$`)
	matcherRow = regexp.MustCompile(`^  ([a-z]+) {2,}(.*)$`)
)

// link is the table whose keys are all examples.
const link = "[link]"

// entries reads the reference file. A second line for the same key is an
// example, and belongs to the first.
func entries(reference string) []entry {
	var all []entry
	seen := map[string]int{}
	table, text := "", []string(nil)
	add := func(e entry) {
		name := e.table + "." + e.key
		if i, ok := seen[name]; ok {
			if e.only && table != link {
				all[i].text = append(all[i].text, "Example: "+e.key+" = "+e.value)
			}
			if len(all[i].text) == 0 {
				all[i].text = e.text
			}
			return
		}
		seen[name] = len(all)
		all = append(all, e)
	}
	for line := range strings.Lines(reference) {
		line = strings.TrimRight(line, "\n")
		if m := tableRow.FindStringSubmatch(line); m != nil {
			table, text = m[1], nil
			continue
		}
		if m := keyRow.FindStringSubmatch(line); m != nil {
			add(entry{table: table, key: m[2], value: m[3], text: text, only: m[1] != ""})
			text = nil
			continue
		}
		switch {
		case strings.HasPrefix(line, "# "):
			comment := line[2:]
			if m := matcherRow.FindStringSubmatch(comment); m != nil && table != "" {
				add(entry{table: link, key: m[1], text: []string{m[2]}, only: true})
				continue
			}
			text = append(text, comment)
		case line == "":
			text = nil
		}
	}
	return all
}

// keysSection lists every key. One without a text of its own shares that of
// the key before it, or is that of the whole host again.
func keysSection() string {
	var b strings.Builder
	all := entries(string(config.Reference()))
	table := "-"
	for i, e := range all {
		if e.table != table {
			table = e.table
			b.WriteString(tableHeader(table))
		}
		forHost := slices.ContainsFunc(all, func(o entry) bool { return o.table == "" && o.key == e.key && e.table != "" })
		shared := len(e.text) == 0 && !forHost && i > 0
		switch {
		case shared:
			text := body(all[i-1].text)
			before := strings.TrimSuffix(b.String(), text)
			b.Reset()
			fmt.Fprintf(&b, "%s.TQ\n.B %s\n%s", before, escape(e.key), text)
		case e.only:
			fmt.Fprintf(&b, ".TP\n.B %s\n", escape(e.key))
		default:
			fmt.Fprintf(&b, ".TP\n\\fB%s\\fR = %s\n", escape(e.key), escape(e.value))
		}
		if len(e.text) == 0 && forHost {
			fmt.Fprintf(&b, "As\n.B %s\nof the whole host, for this link.\n", escape(e.key))
		}
		b.WriteString(body(e.text))
	}
	return b.String()
}

// body is the text of a key. What is indented stays as it is.
func body(lines []string) string {
	var b strings.Builder
	literal := false
	for _, line := range lines {
		if indented := strings.HasPrefix(line, "  "); indented != literal {
			literal = indented
			b.WriteString(map[bool]string{true: ".nf\n", false: ".fi\n"}[literal])
		}
		if example, ok := strings.CutPrefix(line, "Example: "); ok {
			b.WriteString(".br\nExample: " + escape(example) + "\n")
			continue
		}
		b.WriteString(escape(strings.TrimPrefix(line, "  ")) + "\n")
	}
	if literal {
		b.WriteString(".fi\n")
	}
	return b.String()
}

func tableHeader(table string) string {
	switch table {
	case "":
		return ".SH KEYS\nEach is shown with its default.\n"
	case link:
		return `.SH LINKS
subflowd decides by itself which links lead to the outside: those with a default route that are no tunnel.
Entries of
.B [[link]]
say it differently for the links that they match.
An entry has at least one of name, type, driver, mac and kind, and all that it has must match;
each is a name, or a pattern with *, ? and [a\-z].
All entries that match a link apply, in order, and of a key that several of them have the last one counts.
.B subflowctl explain
.I LINK
shows the outcome.
`
	}
	return fmt.Sprintf(".SS [%s]\n", escape(table))
}
