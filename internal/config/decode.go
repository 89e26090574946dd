package config

import (
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/subflowd/subflowd/internal/netstate"
)

// decode reads files on top of each other: a later one's keys for the host win,
// its links are appended. On any problem the configuration is Default().
func decode(docs []*document) (Config, error) {
	c := Default()
	var entries []placed
	for _, d := range docs {
		d.host(&c)
		entries = append(entries, d.links()...)
		if len(d.problems) == 0 {
			d.recheck()
		}
	}
	checkCombinations(&c, entries)
	var all Problems
	for _, d := range docs {
		all = append(all, d.problems.inOrder()...)
		if d.more > 0 {
			all = append(all, &Problem{File: d.path, Text: fmt.Sprintf("%d more problems, not shown", d.more)})
		}
	}
	if len(all) > 0 {
		return Default(), all
	}
	for _, e := range entries {
		c.Links = append(c.Links, e.LinkEntry)
	}
	return c, nil
}

// host reads everything but the links.
func (d *document) host(c *Config) {
	for _, f := range d.root.fields {
		switch {
		case f.name == "link":
		case isGroup(f.name) && f.value.isTable():
			d.settings(c, f)
		case isGroup(f.name):
			d.add(f.value.at, f.name+" must be a table", "["+f.name+"]", "")
		case f.name == "limits" && f.value.isTable():
			d.fixedLimits(c, f)
		default:
			if k := find(hostKeys, f.name); k != nil {
				if read(d, k, c, f.value) {
					d.came(c, k.name, f.at)
				}
			} else {
				d.unknown("", f)
			}
		}
	}
}

func isGroup(name string) bool {
	for _, g := range groups {
		if g == name {
			return true
		}
	}
	return false
}

// settings reads a table such as [routing].
func (d *document) settings(c *Config, group *field) {
	for _, f := range group.value.fields {
		k := find(hostKeys, group.name+"."+f.name)
		if k == nil {
			d.unknown(group.name, f)
		} else if read(d, k, c, f.value) {
			d.came(c, k.name, f.at)
		}
	}
}

// came notes where a key was set.
func (d *document) came(c *Config, key string, at span) {
	if c.Where == nil {
		c.Where = map[string]string{}
	}
	c.Where[key] = d.where(at)
}

func (d *document) fixedLimits(c *Config, limits *field) {
	var v netstate.Limits
	good := 0
	for _, f := range limits.value.fields {
		k := find(limitKeys, "limits."+f.name)
		if k == nil {
			d.unknown("limits", f)
		} else if read(d, k, &v, f.value) {
			good++
		}
	}
	for _, k := range limitKeys {
		name := strings.TrimPrefix(k.name, "limits.")
		if limits.value.byName[name] == nil {
			d.add(limits.at, "limits needs both numbers, and "+name+" is missing", "", find(hostKeys, "limits").allowed)
		}
	}
	if good == len(limitKeys) {
		c.Limits = Limits{Mode: LimitsFixed, Values: v}
		d.came(c, "limits", limits.at)
	}
}

// read sets a key, or tells what speaks against its value.
func read[T any](d *document, k *key[T], dst *T, n *node) bool {
	o := k.read(dst, n)
	if o == nil {
		return true
	}
	text := k.name + " cannot be " + shown(n)
	if o.why != "" {
		text += ": " + o.why
	}
	d.add(n.at, text, o.meant, k.allowed)
	return false
}

// shown is a value as a message names it.
func shown(n *node) string {
	const longest = 40 // characters; the excerpt has all of it
	switch {
	case n.isTable():
		return "a table"
	case n.kind == unstable.Array:
		return "a list"
	}
	text := []rune(n.text)
	if len(text) > longest {
		text = append(text[:longest], '…')
	}
	if n.kind == unstable.String {
		return quote(string(text))
	}
	return string(text)
}

// placed is an entry and its place.
type placed struct {
	LinkEntry
	doc    *document
	header span
	at     map[string]span // of its keys
}

// maxLinks bounds the work for each link of the host.
const maxLinks = 1000

// links reads every [[link]].
func (d *document) links() []placed {
	f := d.root.byName["link"]
	if f == nil {
		return nil
	}
	if f.value.kind != unstable.Array {
		d.add(f.value.at, "every link has an entry of its own in a list",
			"[[link]]", "[[link]], in two pairs of brackets, as often as there are entries")
		return nil
	}
	if n := len(f.value.items); n > maxLinks {
		d.add(f.value.items[maxLinks].at, fmt.Sprintf("there are %d entries, and at most %d are read", n, maxLinks), "", "a pattern, which names many")
		return nil
	}
	var all []placed
	for _, item := range f.value.items {
		if !item.isTable() {
			d.add(item.at, "link cannot be "+shown(item), "[[link]]", "")
			continue
		}
		all = append(all, d.link(item))
	}
	return all
}

func (d *document) link(table *node) placed {
	e := placed{doc: d, header: table.at, at: map[string]span{}}
	e.Where = d.where(table.at)
	matched := false
	for _, f := range table.fields {
		k := find(linkKeys, f.name)
		if k == nil {
			d.unknown("link", f)
			continue
		}
		e.at[f.name] = f.at
		matched = matched || find(matcherKeys, f.name) != nil
		read(d, k, &e.LinkEntry, f.value)
	}
	if !matched {
		d.add(table.at, "this entry does not say which links it is for",
			"", "any of "+strings.Join(names(matcherKeys), ", ")+`; for every link name = "*"`)
	}
	return e
}
