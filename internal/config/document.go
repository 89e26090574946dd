package config

import (
	"bytes"
	"fmt"
	"sort"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2/unstable"
)

// span is a piece of a file's text, in bytes.
type span struct{ from, to int }

// origin tells how a table came to be, which decides who may add to it (TOML
// 1.0, sections Keys, Table and Inline Table).
type origin int

const (
	implied origin = iota // by the header of a table inside it
	headed                // by its own header
	dotted                // by a dotted key
	closed                // as a value
)

// node is a value of a file with its place. The library decodes into Go types
// and stops at the first mistake; here everything is kept, so that all mistakes
// can be told at once.
type node struct {
	kind   unstable.Kind // InlineTable for every table
	text   string        // the content of a string, else the value as it is written
	at     span
	origin origin
	fields []*field // of a table, as written
	byName map[string]*field
	items  []*node // of an array
}

// field is one key of a table.
type field struct {
	name  string
	at    span
	value *node
}

func newTable(o origin, at span) *node {
	return &node{kind: unstable.InlineTable, origin: o, at: at, byName: map[string]*field{}}
}

func (n *node) isTable() bool { return n.kind == unstable.InlineTable }

func (n *node) add(k field, value *node) *node {
	k.value = value
	n.fields = append(n.fields, &k)
	n.byName[k.name] = &k
	return value
}

// document is one file.
type document struct {
	path     string // as it was opened
	label    string // as explain names it
	text     []byte
	lines    []int // where each line starts
	root     *node
	problems Problems
	more     int // problems beyond maxProblems
}

// maxProblems is how many problems of one file are told: a file that is no
// configuration at all has one in every line.
const maxProblems = 100

// maxMeant is the longest proposal in bytes: it is made of what the file says,
// which may be anything, and must fit a line.
const maxMeant = 120

func (d *document) full() bool { return len(d.problems) == maxProblems }

// parse reads TOML. Mistakes are in the document's problems, beside what could
// be read in spite of them.
func parse(path, label string, text []byte) *document {
	d := &document{path: path, label: label, text: text, lines: []int{0}, root: newTable(headed, span{})}
	for i, c := range text {
		if c == '\n' {
			d.lines = append(d.lines, i+1)
		}
	}
	var p unstable.Parser
	current, from := d.root, 0
	for {
		base, end := from, from
		p.Reset(text[base:])
		for p.NextExpression() {
			current, end = d.expression(p.Expression(), base, current)
		}
		if p.Error() == nil {
			return d
		}
		at := d.syntax(p.Error(), text[base:], base)
		// What stands behind a mistake is read as well, if the mistake is in one
		// line and cannot have swallowed the next ones.
		first := d.contentLine(end, end > base)
		if !d.single(at, first) {
			return d
		}
		from = d.lines[first+1]
	}
}

// expression takes one key or header in, and returns the table that the next
// keys belong to and the end of what was read.
func (d *document) expression(e *unstable.Node, base int, current *node) (*node, int) {
	parts := keyOf(e, base)
	end := parts[len(parts)-1].at.to
	switch e.Kind {
	case unstable.Table, unstable.ArrayTable:
		return d.header(parts, e.Kind == unstable.ArrayTable), end
	case unstable.KeyValue:
		end = base + int(e.Raw.Offset+e.Raw.Length)
		d.keyValue(current, e, base)
	}
	return current, end
}

// keyOf is a dotted key in its parts.
func keyOf(e *unstable.Node, base int) []field {
	var parts []field
	for it := e.Key(); it.Next(); {
		n := it.Node()
		from := base + int(n.Raw.Offset)
		parts = append(parts, field{name: string(n.Data), at: span{from, from + int(n.Raw.Length)}})
	}
	return parts
}

func (d *document) keyValue(table *node, e *unstable.Node, base int) {
	parts := keyOf(e, base)
	last := parts[len(parts)-1]
	for _, k := range parts[:len(parts)-1] {
		switch f := table.byName[k.name]; {
		case f == nil:
			table = table.add(k, newTable(dotted, k.at))
		case f.value.isTable() && f.value.origin == dotted:
			table = f.value
		default:
			d.twice(k, f)
			return
		}
	}
	if f := table.byName[last.name]; f != nil {
		d.twice(last, f)
		return
	}
	// Arrays and inline tables have no position of their own in the library's tree.
	at := span{last.at.to, base + int(e.Raw.Offset+e.Raw.Length)}
	for at.from < at.to && bytes.IndexByte([]byte(" \t="), d.text[at.from]) >= 0 {
		at.from++
	}
	table.add(last, d.value(e.Value(), base, at))
}

func (d *document) value(e *unstable.Node, base int, at span) *node {
	n := &node{kind: e.Kind, text: string(e.Data), at: at}
	switch e.Kind {
	case unstable.Array:
		for it := e.Children(); it.Next(); {
			child, place := it.Node(), at
			if r := child.Raw; r.Length > 0 {
				place = span{base + int(r.Offset), base + int(r.Offset+r.Length)}
			}
			n.items = append(n.items, d.value(child, base, place))
		}
	case unstable.InlineTable:
		n = newTable(closed, at)
		for it := e.Children(); it.Next(); {
			d.keyValue(n, it.Node(), base)
		}
	}
	return n
}

// header finds or makes the table of a [header], or a new one for [[header]].
// One that cannot be is told, and what follows it goes nowhere.
func (d *document) header(parts []field, list bool) *node {
	nowhere := newTable(closed, span{})
	table, last := d.root, parts[len(parts)-1]
	for _, k := range parts[:len(parts)-1] {
		f := table.byName[k.name]
		switch {
		case f == nil:
			table = table.add(k, newTable(implied, k.at))
		case f.value.isTable() && f.value.origin != closed:
			table = f.value
		case f.value.kind == unstable.Array && f.value.origin == headed:
			table = f.value.items[len(f.value.items)-1]
		default:
			d.twice(k, f)
			return nowhere
		}
	}
	at := d.brackets(parts[0].at.from, last.at.to)
	f := table.byName[last.name]
	if list {
		if f == nil {
			table.add(last, &node{kind: unstable.Array, origin: headed, at: at})
			f = table.byName[last.name]
		}
		if f.value.kind != unstable.Array || f.value.origin != headed {
			d.add(last.at, fmt.Sprintf("%s is a list here, and was none in line %d", quote(last.name), d.lineOf(f.at.from)+1), "", "")
			return nowhere
		}
		item := newTable(headed, at)
		f.value.items = append(f.value.items, item)
		return item
	}
	switch {
	case f == nil:
		return table.add(last, newTable(headed, at))
	case f.value.isTable() && f.value.origin == implied:
		f.value.origin = headed
		return f.value
	}
	d.twice(last, f)
	if f.value.isTable() && f.value.origin == headed {
		return f.value
	}
	return nowhere
}

// brackets widens the span of a header's name to the brackets around it.
func (d *document) brackets(from, to int) span {
	in := func(i int, set string) bool {
		return i >= 0 && i < len(d.text) && bytes.IndexByte([]byte(set), d.text[i]) >= 0
	}
	for in(from-1, "[ \t") {
		from--
	}
	for in(from, " \t") {
		from++
	}
	for in(to, " \t]") {
		to++
	}
	for in(to-1, " \t") {
		to--
	}
	return span{from, to}
}

func (d *document) twice(k field, first *field) {
	d.add(k.at, fmt.Sprintf("%s is there twice, first in line %d", quote(k.name), d.lineOf(first.at.from)+1), "", "")
}

// add notes a problem with a piece of the text: what is wrong, and, where that
// is known, what was meant and what is allowed.
func (d *document) add(at span, text, meant, allowed string) {
	if d.full() {
		d.more++
		return
	}
	if len(meant) > maxMeant {
		meant = ""
	}
	line := d.lineOf(at.from)
	end := len(d.text)
	if line+1 < len(d.lines) {
		end = d.lines[line+1]
	}
	whole := bytes.TrimRight(d.text[d.lines[line]:end], "\r\n")
	column := utf8.RuneCount(d.text[d.lines[line]:at.from])
	p := &Problem{
		File: d.path, Line: line + 1, Column: 1 + column, Text: text, Meant: meant, Allowed: allowed,
		Width: utf8.RuneCount(d.text[at.from:max(at.from, min(at.to, d.lines[line]+len(whole)))]),
	}
	p.Excerpt, p.mark = excerpt(string(whole), column)
	d.problems = append(d.problems, p)
}

// lineOf is the number of the line, from 0, that holds a place.
func (d *document) lineOf(offset int) int {
	return sort.SearchInts(d.lines, offset+1) - 1
}

// contentLine is the first line from a place on, or behind that line, that is
// neither empty nor a comment.
func (d *document) contentLine(offset int, behind bool) int {
	line := d.lineOf(offset)
	if behind {
		line++
	}
	for ; line < len(d.lines); line++ {
		rest := bytes.TrimLeft(d.text[d.lines[line]:], " \t\r")
		if len(rest) > 0 && rest[0] != '\n' && rest[0] != '#' {
			break
		}
	}
	return line
}

// where names a place as explain does: "subflowd.toml:3".
func (d *document) where(at span) string { return fmt.Sprintf("%s:%d", d.label, d.lineOf(at.from)+1) }
