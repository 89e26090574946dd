package diff

import (
	"fmt"
	"slices"

	"github.com/subflowd/subflowd/internal/netstate"
)

// model does with changes what the kernel does, traps included, and refuses
// what must never be asked of it.
type model struct {
	snap   netstate.Snapshot
	record netstate.Ownership
	nextID uint8
}

const protocol = 77

func (m *model) apply(c netstate.Change) error {
	switch c.Op {
	case netstate.RouteAdd:
		return m.addRoute(c.Route)
	case netstate.RouteReplace:
		return m.replaceRoute(c.Route)
	case netstate.RouteDelete:
		return m.deleteRoute(c.Route)
	case netstate.RuleAppend:
		m.appendRule(c.Rule)
	case netstate.RuleDelete:
		return m.deleteRule(c.Rule)
	case netstate.LimitsSet:
		m.snap.Limits = c.Limits
	case netstate.EndpointAdd:
		return m.addEndpoint(c.Endpoint)
	case netstate.EndpointSet:
		return m.setEndpoint(c.Endpoint)
	case netstate.EndpointDelete:
		m.snap.Endpoints = slices.DeleteFunc(m.snap.Endpoints, func(e netstate.Endpoint) bool { return e.ID == c.Endpoint.ID })
		delete(m.record.Endpoints, c.Endpoint.Addr)
	}
	return nil
}

func (m *model) addRoute(r netstate.Route) error {
	for _, o := range m.snap.Routes {
		if placeOf(o) == placeOf(r) {
			return fmt.Errorf("file exists: %s", o)
		}
	}
	m.snap.Routes = append(m.snap.Routes, r)
	return nil
}

// replaceRoute takes the first route of the key; in IPv6 the first that is
// gatewayed or not as the new one is, with all its siblings.
func (m *model) replaceRoute(r netstate.Route) error {
	var there []int
	for i, o := range m.snap.Routes {
		if placeOf(o) == placeOf(r) {
			there = append(there, i)
		}
	}
	if len(there) == 0 {
		return fmt.Errorf("nothing to replace for %s", r)
	}
	hit := there[0]
	for _, i := range there {
		o := m.snap.Routes[i]
		if r.Family == netstate.IPv6 && o.Gateway.IsValid() == r.Gateway.IsValid() {
			hit = i
			break
		}
	}
	old := m.snap.Routes[hit]
	m.snap.Routes[hit] = r
	var err error
	m.snap.Routes = slices.DeleteFunc(m.snap.Routes, func(o netstate.Route) bool {
		gone := old.Multipath && o.Multipath && o.Key() == old.Key() && o != r
		if gone && !netstate.OwnsRoute(protocol, o) {
			err = fmt.Errorf("replaced foreign %s", o)
		}
		return gone
	})
	if !netstate.OwnsRoute(protocol, old) {
		err = fmt.Errorf("replaced foreign %s", old)
	}
	return err
}

func (m *model) deleteRoute(r netstate.Route) error {
	i := slices.IndexFunc(m.snap.Routes, func(o netstate.Route) bool { return o.Key() == r.Key() && o.Same(r) })
	if i < 0 {
		return fmt.Errorf("no such route: %s", r)
	}
	if !netstate.OwnsRoute(protocol, m.snap.Routes[i]) {
		return fmt.Errorf("deleted foreign %s", r)
	}
	if r.Family == netstate.IPv4 && r.Multipath {
		m.snap.Routes = slices.DeleteFunc(m.snap.Routes, func(o netstate.Route) bool { return o.Multipath && o.Key() == r.Key() })
		return nil
	}
	m.snap.Routes = slices.Delete(m.snap.Routes, i, i+1)
	return nil
}

func (m *model) appendRule(r netstate.Rule) {
	i := len(m.snap.Rules)
	for i > 0 && (m.snap.Rules[i-1].Family > r.Family || m.snap.Rules[i-1].Family == r.Family && m.snap.Rules[i-1].Priority > r.Priority) {
		i--
	}
	m.snap.Rules = slices.Insert(m.snap.Rules, i, r)
}

// deleteRule takes the first that matches: an absent suppressor and absent
// selectors match anything.
func (m *model) deleteRule(r netstate.Rule) error {
	i := slices.IndexFunc(m.snap.Rules, func(o netstate.Rule) bool {
		if r.Suppress == netstate.NoSuppress {
			o.Suppress = netstate.NoSuppress
		}
		o.Others = ""
		return o == r
	})
	if i < 0 {
		return fmt.Errorf("no such rule: %s", r)
	}
	if o := m.snap.Rules[i]; o != r {
		return fmt.Errorf("meant %s and deleted %s", r, o)
	}
	m.snap.Rules = slices.Delete(m.snap.Rules, i, i+1)
	return nil
}

func (m *model) addEndpoint(e netstate.Endpoint) error {
	if len(m.snap.Endpoints) >= m.snap.MPTCP.MaxEndpoints {
		return fmt.Errorf("too many endpoints for %s", e)
	}
	m.nextID++
	e.ID = m.nextID
	for i, o := range m.snap.Endpoints {
		if o.Addr != e.Addr || o.Port != e.Port {
			continue
		}
		if o.Flags&netstate.ImplicitFlag == 0 {
			return fmt.Errorf("file exists: %s", o)
		}
		e.ID = o.ID
		m.snap.Endpoints = slices.Delete(m.snap.Endpoints, i, i+1)
		break
	}
	m.snap.Endpoints = append(m.snap.Endpoints, e)
	if m.record.Known {
		m.record.Endpoints[e.Addr] = netstate.Endpoint{Addr: e.Addr, Link: e.Link, ID: e.ID}
	}
	return nil
}

func (m *model) setEndpoint(e netstate.Endpoint) error {
	i := slices.IndexFunc(m.snap.Endpoints, func(o netstate.Endpoint) bool { return o.ID == e.ID })
	if i < 0 || m.snap.Endpoints[i].Addr != e.Addr {
		return fmt.Errorf("no such endpoint: %s", e)
	}
	if m.snap.Endpoints[i].Flags^e.Flags != netstate.BackupFlag {
		return fmt.Errorf("more than backup changes in place: %s", e)
	}
	m.snap.Endpoints[i] = e
	return nil
}

// way is where a lookup from an address ends among our rules.
type way struct {
	third   bool // at a rule that takes the path table as it is
	main    bool // main's specific routes were asked before that
	refused bool // at an unreachable rule
}

func (m *model) way(from netstate.Rule) way {
	var w way
	for _, r := range m.snap.Rules {
		if r.From != from.From || !netstate.OwnsRule(protocol, r) {
			continue
		}
		switch {
		case r.Action == netstate.ActUnreachable:
			w.refused = true
			return w
		case r.Suppress == netstate.NoSuppress:
			w.third = true
			return w
		case r.Table == netstate.TableMain:
			w.main = true
		}
	}
	return w
}

// thirdFirst tells whether a third rule of the address stands before all of
// its rules for main, reached or not.
func (m *model) thirdFirst(from netstate.Rule) bool {
	for _, r := range m.snap.Rules {
		if r.From != from.From || !netstate.OwnsRule(protocol, r) || r.Action != netstate.ActLookup {
			continue
		}
		if r.Suppress == netstate.NoSuppress {
			return true
		}
		if r.Table == netstate.TableMain {
			return false
		}
	}
	return false
}
