package config

import (
	"path"
	"strings"
)

// checkCombinations tells the settings that cannot work together, in one entry
// or in several that are certain to meet at a link.
func checkCombinations(c *Config, entries []placed) {
	for i, e := range entries {
		e.checkEndpoints()
		if e.Fullmesh != nil || e.Role != nil {
			checkFullmesh(c, entries, i)
		}
	}
}

// checkEndpoints refuses wishes about endpoints beside the wish for none.
func (e placed) checkEndpoints() {
	if e.Endpoints == nil || *e.Endpoints {
		return
	}
	for _, w := range []struct {
		key, text string
		wished    bool
	}{
		{"addresses", `addresses = "all"`, e.Addresses != nil && *e.Addresses == AddressesAll},
		{"backup", "backup = true", e.Backup != nil && *e.Backup},
		{"fullmesh", "fullmesh = true", e.Fullmesh != nil && *e.Fullmesh},
	} {
		if w.wished {
			e.doc.add(e.at[w.key], w.text+" is about endpoints, and endpoints = false asks for none", "", "one of the two")
		}
	}
}

func signals(r Role) bool { return r == RoleServer || r == RoleBoth }

// merged is a setting after several entries: who set it last, and whether an
// entry that may or may not match could set it to something harmless.
type merged[T any] struct {
	value   T
	where   string
	certain bool
}

func (m *merged[T]) take(v *T, where string, r relation, harmless func(T) bool) {
	switch {
	case v == nil:
	case r == covers:
		*m = merged[T]{*v, where, true}
	case r == overlaps && harmless(*v):
		m.certain = false
	}
}

// checkFullmesh refuses fullmesh together with a role that signals, which the
// kernel does (EINVAL, net/mptcp/pm_kernel.c), where every link that the entry
// matches would get both.
func checkFullmesh(c *Config, entries []placed, i int) {
	e := entries[i]
	role := merged[Role]{c.Role, "the default", true}
	if w, ok := c.Where["role"]; ok {
		role.where = "role in " + w
	}
	mesh := merged[bool]{false, "", true}
	endpoints := merged[bool]{true, "", true}
	for _, o := range entries {
		r := relate(o.LinkEntry, e.LinkEntry)
		where := "[[link]] in " + o.Where
		role.take(o.Role, where, r, func(r Role) bool { return !signals(r) })
		mesh.take(o.Fullmesh, where, r, func(on bool) bool { return !on })
		endpoints.take(o.Endpoints, where, r, func(on bool) bool { return !on })
	}
	if !mesh.value || !signals(role.value) || !endpoints.value || !mesh.certain || !role.certain || !endpoints.certain {
		return
	}
	key, text := "fullmesh", "fullmesh = true cannot work with role = "+quote(string(role.value))
	other := role.where
	if e.Fullmesh == nil || !*e.Fullmesh {
		key, text = "role", "role = "+quote(string(role.value))+" cannot work with fullmesh = true"
		other = mesh.where
	}
	if other == "[[link]] in "+e.Where {
		other = "the same entry"
	}
	e.doc.add(e.at[key], text+" ("+other+")", "",
		`fullmesh with role = "client" only: the kernel takes no endpoint that is both fullmesh and signalled`)
}

// relation is what is known about two entries without any link at hand.
type relation int

const (
	overlaps relation = iota // may match the same links
	covers                   // matches whatever the other one matches
	disjoint                 // never matches what the other one matches
)

// relate compares an entry with another one, e.
func relate(o, e LinkEntry) relation {
	all := covers
	for _, m := range [][2]string{
		{o.Name, e.Name}, {o.Type, e.Type}, {o.Driver, e.Driver}, {strings.ToLower(o.MAC), strings.ToLower(e.MAC)}, {o.Kind, e.Kind},
	} {
		switch relatePatterns(m[0], m[1]) {
		case disjoint:
			return disjoint
		case overlaps:
			all = overlaps
		}
	}
	return all
}

func relatePatterns(o, e string) relation {
	switch {
	case o == "" || o == "*" || o == e:
		return covers
	case e == "":
		return overlaps
	case literal(e):
		if glob(o, e) {
			return covers
		}
		return disjoint
	case literal(o):
		if ok, err := path.Match(e, o); err == nil && !ok {
			return disjoint
		}
	}
	return overlaps
}
