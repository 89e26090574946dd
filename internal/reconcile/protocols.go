package reconcile

import (
	"slices"
	"time"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/netstate"
)

// configure makes the loop follow another configuration. Under other numbers,
// what was made under the old ones stays ours: it goes after the new is there.
func (l *Loop) configure(c config.Config) {
	if old := l.cfg.Routing.Protocol; old != c.Routing.Protocol {
		l.protocols(append(slices.Clone(l.o.Record.Owned().Protocols), old, c.Routing.Protocol))
	}
	l.cfg = c
	l.tellConfig()
	l.resync = time.Time{}
}

// claim names the protocol in the record before anything is made under it, so
// that a start with another configuration knows what to take away.
func (l *Loop) claim(list []netstate.Change) {
	known := l.o.Record.Owned().Protocols
	if slices.Contains(known, l.cfg.Routing.Protocol) {
		return
	}
	if slices.ContainsFunc(list, func(c netstate.Change) bool { return objectOf(c).kinds()&netstate.KindEndpoints == 0 }) {
		l.protocols(append(slices.Clone(known), l.cfg.Routing.Protocol))
	}
}

// retire forgets former protocols of which nothing is left, because whoever uses
// them from now on owns what he makes, and names that of what was adopted.
func (l *Loop) retire() {
	owned := l.o.Record.Owned()
	if l.snap == nil || l.reading.tries > 0 || !l.changes.Empty() {
		return
	}
	now := l.cfg.Routing.Protocol
	left := slices.DeleteFunc(slices.Clone(owned.Protocols), func(p uint8) bool {
		// The next number of one protocol may be another one that was used before.
		return p != now && !l.uses(p, func(r netstate.Rule) bool { return !netstate.OwnsRule(now, r) })
	})
	if owned.Known && !slices.Contains(left, now) && l.uses(now, func(netstate.Rule) bool { return true }) {
		left = append(left, now)
	}
	if !slices.Equal(left, owned.Protocols) {
		l.protocols(left)
		l.tellConfig()
	}
}

// uses tells whether the kernel holds a route under a protocol, or a rule that
// counts.
func (l *Loop) uses(p uint8, counts func(netstate.Rule) bool) bool {
	return slices.ContainsFunc(l.snap.Rules, func(r netstate.Rule) bool { return netstate.OwnsRule(p, r) && counts(r) }) ||
		slices.ContainsFunc(l.snap.Routes, func(r netstate.Route) bool { return netstate.OwnsRoute(p, r) })
}

func (l *Loop) protocols(p []uint8) { l.recorded(l.o.Record.SetProtocols(p...)) }

func (l *Loop) tellConfig() {
	if l.o.OnConfig != nil {
		l.o.OnConfig(l.cfg, l.o.Record.Owned())
	}
}
