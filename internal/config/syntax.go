package config

import (
	"bytes"
	"errors"
	"regexp"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// syntax tells a mistake of the parser in a part of the text that starts at
// base, and returns its place.
func (d *document) syntax(err error, part []byte, base int) span {
	at, text := span{base, base}, err.Error()
	var perr *unstable.ParserError
	if errors.As(err, &perr) {
		text = perr.Message
		// The capacity of a slice tells where in the text it starts.
		if from := cap(part) - cap(perr.Highlight); perr.Highlight != nil && from >= 0 && from+len(perr.Highlight) <= len(part) {
			at = span{base + from, base + from + len(perr.Highlight)}
		}
	}
	if word, meant := d.bareWord(at); meant != "" {
		d.add(word, noValue, meant, "")
		return word
	}
	if strings.HasPrefix(text, "expected keyword") {
		text = noValue
	}
	d.add(at, text, "", "")
	return at
}

const noValue = "this is no value: text stands in quotes, a yes or no is true or false"

// single tells whether a mistake at a place leaves the next line readable: it
// is in the first line of its expression, which is no header, and no bracket is
// open at the end.
func (d *document) single(at span, first int) bool {
	if first != d.lineOf(at.from) || first != d.lineOf(max(at.from, at.to-1)) || first+1 >= len(d.lines) {
		return false
	}
	line := bytes.TrimSpace(d.text[d.lines[first]:d.lines[first+1]])
	if bytes.HasPrefix(line, []byte("[")) {
		return false
	}
	count := func(set string) (n int) {
		for _, c := range line {
			if strings.IndexByte(set, c) >= 0 {
				n++
			}
		}
		return n
	}
	return count("{[") <= count("}]")
}

var bareValue = regexp.MustCompile(`^[ \t]*[A-Za-z0-9_.\-]+[ \t]*=[ \t]*([A-Za-z0-9_*][^ \t#,"'\r\n]*)`)

// truths are the words of other file formats for the two that TOML has.
var truths = map[string]string{
	"true": "true", "yes": "true", "on": "true", "1": "true",
	"false": "false", "no": "false", "off": "false", "0": "false",
}

// bareWord finds the commonest mistake, a word without quotes, around the place
// where the parser met it, and what was meant.
func (d *document) bareWord(at span) (span, string) {
	start := d.lines[d.lineOf(at.from)]
	m := bareValue.FindSubmatchIndex(d.text[start:])
	if m == nil || at.from < start+m[2] || at.from >= start+m[3] {
		return at, ""
	}
	word := string(d.text[start+m[2] : start+m[3]])
	at = span{start + m[2], start + m[3]}
	if truth, ok := truths[strings.ToLower(word)]; ok {
		return at, truth
	}
	return at, quote(word)
}

// recheck lets the library decode a file in which nothing wrong was found: what
// it refuses nevertheless (a date that does not exist, a corner of TOML's rules
// for tables) is no valid TOML.
func (d *document) recheck() {
	var all map[string]any
	err := toml.NewDecoder(bytes.NewReader(d.text)).Decode(&all)
	if err == nil {
		return
	}
	at := span{}
	var de *toml.DecodeError
	if errors.As(err, &de) {
		if line, column := de.Position(); line > 0 && line <= len(d.lines) && column > 0 {
			from := min(d.lines[line-1]+column-1, len(d.text))
			at = span{from, from}
		}
	}
	d.add(at, strings.TrimPrefix(err.Error(), "toml: "), "", "")
}
