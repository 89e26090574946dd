package config

import (
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// unknown tells a key that does not exist, and which one was probably meant.
// Scope is the table that it was found in: "", "link", or a group.
func (d *document) unknown(scope string, f *field) {
	name := &node{kind: unstable.String, text: strings.TrimPrefix(scope+"."+f.name, ".")}
	meant := ""
	if !d.full() {
		meant = meantKey(scope, f.name)
	}
	d.add(f.at, "unknown key "+shown(name), meant, "")
}

// meantKey looks for a key among those of the same table, then for the very key
// in another one: a key below a header belongs to that header, which surprises
// those who append to a file.
func meantKey(scope, name string) string {
	if near := nearest(name, keysIn(scope)); near != "" && !elsewhere(scope, name) {
		return describe(scope, near)
	}
	for _, s := range scopes {
		if s == scope {
			continue
		}
		for _, k := range keysIn(s) {
			if distance(k, name) == 0 {
				return describe(s, k) + ", " + place(s)
			}
		}
	}
	return ""
}

var scopes = append([]string{"", "link", "limits"}, groups...)

// elsewhere tells whether a key exists in another table as it is written.
func elsewhere(scope, name string) bool {
	for _, s := range scopes {
		for _, k := range keysIn(s) {
			if s != scope && k == name {
				return true
			}
		}
	}
	return false
}

// keysIn are the names of a table's keys, without the table.
func keysIn(scope string) []string {
	switch scope {
	case "link":
		return names(linkKeys)
	case "limits":
		return within("limits.", names(limitKeys))
	case "":
		all := append([]string{"link"}, groups...)
		for _, n := range names(hostKeys) {
			if !strings.Contains(n, ".") {
				all = append(all, n)
			}
		}
		return all
	}
	return within(scope+".", names(hostKeys))
}

func within(prefix string, all []string) []string {
	var in []string
	for _, n := range all {
		if rest, ok := strings.CutPrefix(n, prefix); ok {
			in = append(in, rest)
		}
	}
	return in
}

// describe is a key as it is written, with what it is for.
func describe(scope, name string) string {
	var help string
	switch {
	case scope == "link":
		help = find(linkKeys, name).help
	case scope == "limits":
		help = find(limitKeys, "limits."+name).help
	case scope == "" && name == "link":
		return "[[link]]"
	case scope == "" && isGroup(name):
		return "[" + name + "]"
	default:
		help = find(hostKeys, strings.TrimPrefix(scope+"."+name, ".")).help
	}
	return name + " (" + help + ")"
}

// place says where the keys of a table stand.
func place(scope string) string {
	switch scope {
	case "":
		return "which stands above the first [table]"
	case "link":
		return "which stands below a [[link]]"
	case "limits":
		return "which stands in limits = { ... }"
	}
	return "which stands below [" + scope + "]"
}
