package config

import (
	"fmt"
	"slices"

	"github.com/subflowd/subflowd/internal/netstate"
)

// Conflicts tells, a line for each, where the numbers of the configuration are
// in use by others in the running kernel: a routing table that would be a
// link's path table, or the protocol that marks what is ours. None: it can be
// used. What carries one of the earlier protocols, under which we have made
// things that may be there still (netstate.Ownership), is not foreign.
func (c Config) Conflicts(snap *netstate.Snapshot, earlier ...uint8) []string {
	protocols := append([]uint8{c.Routing.Protocol}, earlier...)
	found := c.tableConflicts(snap, protocols)
	return append(found, c.protocolConflicts(snap, protocols)...)
}

// set names a key with its value and where it comes from.
func (c Config) set(key string, value any) string {
	s := fmt.Sprintf("%s = %v", key, value)
	if w, ok := c.Where[key]; ok {
		s += " (" + w + ")"
	}
	return s
}

func (c Config) tableConflicts(snap *netstate.Snapshot, protocols []uint8) []string {
	n := snap.Names()
	users := map[uint32]string{}
	use := func(table uint32, text string) {
		if _, seen := users[table]; !seen {
			users[table] = text
		}
	}
	for _, r := range snap.Routes {
		if !slices.ContainsFunc(protocols, func(p uint8) bool { return netstate.OwnsRoute(p, r) }) {
			use(r.Table, "route "+r.Text(n))
		}
	}
	for _, r := range snap.Rules {
		if r.Action == netstate.ActLookup && !slices.ContainsFunc(protocols, func(p uint8) bool { return netstate.OwnsRule(p, r) }) {
			use(r.Table, "rule "+r.Text())
		}
	}
	var found []string
	for _, l := range snap.Links {
		if l.Loopback() {
			continue
		}
		table := c.Routing.TableBase + uint32(l.Index)
		if user, taken := users[table]; taken {
			found = append(found, fmt.Sprintf("%s: table %d would be %s's, and others use it: %s",
				c.set("routing.table_base", c.Routing.TableBase), table, l.Name, user))
		}
	}
	return found
}

// protocolConflicts looks for our mark on what we cannot have made. Our rules
// have one address and nothing else as their selector, our routes lie in tables
// above minTableBase, whatever table base an earlier configuration had.
func (c Config) protocolConflicts(snap *netstate.Snapshot, protocols []uint8) []string {
	var found []string
	n := snap.Names()
	p := c.Routing.Protocol
	name := c.set("routing.protocol", p)
	for _, r := range snap.Routes {
		if r.Protocol == p && (!netstate.OwnsRoute(p, r) || r.Table <= minTableBase) {
			found = append(found, fmt.Sprintf("%s: others use protocol %d: route %s", name, p, r.Text(n)))
			break
		}
	}
	for _, r := range snap.Rules {
		ours := slices.ContainsFunc(protocols, func(q uint8) bool { return netstate.OwnsRule(q, r) })
		if (r.Protocol == p || r.Protocol == p+1) && !ours {
			found = append(found, fmt.Sprintf("%s: others use protocol %d: rule %s", name, r.Protocol, r.Text()))
			break
		}
	}
	return found
}
