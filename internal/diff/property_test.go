package diff

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/netstate/iptext"
	"github.com/subflowd/subflowd/internal/plan"
)

var hosts = []netip.Addr{netip.MustParseAddr("10.1.1.2"), netip.MustParseAddr("10.1.2.2"), netip.MustParseAddr("2001:db8::2")}

// oneOf is a draw from a list.
func oneOf[T any](t *rapid.T, list ...T) T { return rapid.SampledFrom(list).Draw(t, "one of") }

// rulesOf are the rules of an address that a plan may want, by their place.
func rulesOf(ip netip.Addr, table, prio uint32) [4]netstate.Rule {
	r := netstate.Rule{
		Family: netstate.FamilyOf(ip), Priority: prio, From: netip.PrefixFrom(ip, ip.BitLen()),
		Action: netstate.ActLookup, Table: table, Suppress: netstate.NoSuppress, Protocol: protocol,
	}
	r1, r2, r4 := r, r, r
	r1.Suppress, r1.Protocol = 0, protocol+1
	r2.Suppress, r2.Table = 0, netstate.TableMain
	r4.Action, r4.Table = netstate.ActUnreachable, 0
	return [4]netstate.Rule{r1, r2, r, r4}
}

// drawSet draws a rule set: the third and main's are there more often than not.
func drawSet(t *rapid.T) []int {
	var set []int
	for i, odds := range []int{3, 7, 8, 3} {
		if rapid.IntRange(0, 9).Draw(t, "odds") < odds {
			set = append(set, i)
		}
	}
	return set
}

// drawRules fills a model with rules as histories leave them: sets, parts of
// sets, and foreign rules in between. odd adds rules that we never made.
func drawRules(t *rapid.T, m *model, odd bool) {
	for _, f := range netstate.Families {
		m.appendRule(netstate.Rule{Family: f, Action: netstate.ActLookup, Table: netstate.TableLocal, Suppress: netstate.NoSuppress, Protocol: 2})
		m.appendRule(netstate.Rule{Family: f, Priority: 32766, Action: netstate.ActLookup, Table: netstate.TableMain, Suppress: netstate.NoSuppress, Protocol: 2})
	}
	for range rapid.IntRange(0, 5).Draw(t, "pieces of rules") {
		ip := oneOf(t, hosts...)
		all := rulesOf(ip, oneOf[uint32](t, 100002, 100003), oneOf[uint32](t, 32765, 32765, 32765, 1000, 32766))
		switch oneOf(t, "set", "set", "set", "one", "foreign", "odd") {
		case "set":
			for _, i := range drawSet(t) {
				m.appendRule(all[i])
			}
		case "one":
			m.appendRule(oneOf(t, all[:]...))
		case "foreign":
			r := all[2]
			r.Protocol = oneOf[uint8](t, 2, 3, 99)
			r.From = oneOf(t, netip.Prefix{}, r.From)
			r.Others = oneOf(t, "", "fwmark 0x1")
			r.Table = oneOf[uint32](t, 51, netstate.TableLocal)
			m.appendRule(r)
		case "odd":
			if !odd {
				continue
			}
			r := oneOf(t, all[0], all[1], all[2])
			r.Protocol = oneOf[uint8](t, protocol, protocol+1)
			r.Suppress = oneOf[int32](t, netstate.NoSuppress, 0, 8)
			r.Others = oneOf(t, "", "fwmark 0x1")
			m.appendRule(r)
		}
	}
}

func drawRoute(t *rapid.T, proto uint8) netstate.Route {
	f := oneOf(t, netstate.IPv4, netstate.IPv6)
	r := netstate.Route{Family: f, Table: oneOf[uint32](t, 100002, 100003), Type: netstate.Unicast, Protocol: proto, Link: 2}
	dsts, gws, metric := []string{"0.0.0.0/0", "10.1.1.0/24", "10.1.1.128/25"}, []string{"10.1.1.1", "10.1.1.9"}, uint32(0)
	if f == netstate.IPv6 {
		dsts, gws, metric = []string{"::/0", "2001:db8::/64", "2001:db8::/80"}, []string{"fe80::1", "fe80::9"}, 1024
	}
	r.Dst = netip.MustParsePrefix(oneOf(t, dsts...))
	r.Metric = oneOf(t, metric, metric, 7)
	switch oneOf(t, "gateway", "gateway", "on-link", "throw") {
	case "gateway":
		r.Gateway = netip.MustParseAddr(oneOf(t, gws...))
	case "throw":
		r.Type, r.Link = netstate.Throw, 0
	}
	return r
}

func drawRoutes(t *rapid.T, m *model) {
	for range rapid.IntRange(0, 8).Draw(t, "routes") {
		r := drawRoute(t, oneOf[uint8](t, protocol, protocol, protocol, 3))
		if r.Family == netstate.IPv6 {
			if slices.ContainsFunc(m.snap.Routes, func(o netstate.Route) bool { return o.Key() == r.Key() && o.Same(r) }) {
				continue // IPv6 has no two equal routes
			}
			r.Multipath = r.Gateway.IsValid()
		}
		m.snap.Routes = append(m.snap.Routes, r)
		if other := r; r.Family == netstate.IPv4 && r.Gateway.IsValid() && rapid.IntRange(0, 9).Draw(t, "multipath") == 0 {
			other.Link = 3
			r.Multipath, other.Multipath = true, true
			m.snap.Routes = slices.DeleteFunc(m.snap.Routes, func(o netstate.Route) bool { return placeOf(o) == placeOf(r) })
			m.snap.Routes = append(m.snap.Routes, r, other)
		}
	}
	// A multipath route of IPv4 is alone at its key.
	alone := map[netstate.RouteKey]bool{}
	for _, r := range m.snap.Routes {
		if r.Family == netstate.IPv4 && r.Multipath {
			alone[placeOf(r)] = true
		}
	}
	m.snap.Routes = slices.DeleteFunc(m.snap.Routes, func(r netstate.Route) bool { return alone[placeOf(r)] && !r.Multipath })
}

func drawEndpoint(t *rapid.T, ip netip.Addr) netstate.Endpoint {
	return netstate.Endpoint{
		Addr: ip, Link: oneOf(t, 2, 2, 3),
		Flags: oneOf(t, netstate.SubflowFlag, netstate.SubflowFlag, netstate.SubflowFlag|netstate.BackupFlag, netstate.SubflowFlag|netstate.FullmeshFlag, netstate.SignalFlag),
	}
}

var spare = netip.MustParseAddr("10.7.7.7")

func drawEndpoints(t *rapid.T, m *model) {
	for _, ip := range append([]netip.Addr{spare}, hosts...) {
		kind := oneOf(t, "none", "ours", "announced", "foreign", "implicit", "port")
		if kind == "none" {
			continue
		}
		e := drawEndpoint(t, ip)
		m.nextID++
		e.ID = m.nextID
		rec := netstate.Endpoint{Addr: ip, Link: e.Link}
		switch kind {
		case "ours":
			rec.ID = e.ID
			m.record.Endpoints[ip] = rec
		case "announced":
			m.record.Endpoints[ip] = rec
		case "implicit":
			e.Flags, e.Link = netstate.ImplicitFlag, 0
		case "port":
			e.Port, e.Flags = 8080, netstate.SignalFlag
		}
		m.snap.Endpoints = append(m.snap.Endpoints, e)
	}
	m.snap.MPTCP = netstate.MPTCP{
		Present: true, Enabled: true, MaxLimit: 8,
		MaxEndpoints: max(len(m.snap.Endpoints), oneOf(t, 1, 3, 8)),
	}
	m.record.Known = rapid.IntRange(0, 3).Draw(t, "record") > 0
	if !m.record.Known {
		m.record.Endpoints = nil
	}
}

func drawModel(t *rapid.T, odd bool) *model {
	m := &model{snap: netstate.Snapshot{Limits: netstate.Limits{Subflows: 2}}}
	m.record.Endpoints = map[netip.Addr]netstate.Endpoint{}
	drawRules(t, m, odd)
	drawRoutes(t, m)
	drawEndpoints(t, m)
	return m
}

func drawPlan(t *rapid.T) *plan.Plan {
	p := &plan.Plan{}
	keys := map[netstate.RouteKey]bool{}
	for range rapid.IntRange(0, 6).Draw(t, "wanted routes") {
		r := drawRoute(t, protocol)
		if !keys[r.Key()] {
			keys[r.Key()] = true
			p.Routes = append(p.Routes, plan.Route{Route: r, Reason: "test"})
		}
	}
	for _, ip := range hosts {
		all := rulesOf(ip, oneOf[uint32](t, 100002, 100003), 32765)
		set := plan.RuleSet{Family: netstate.FamilyOf(ip), Addr: ip, Reason: "test"}
		if rapid.IntRange(0, 3).Draw(t, "set") > 0 {
			for _, i := range drawSet(t) {
				set.Rules = append(set.Rules, all[i])
			}
			p.RuleSets = append(p.RuleSets, set)
		}
		switch rapid.IntRange(0, 4).Draw(t, "endpoint") {
		case 0, 1:
			p.Endpoints = append(p.Endpoints, plan.Endpoint{Endpoint: drawEndpoint(t, ip), Reason: "test"})
		case 2:
			p.Waning = append(p.Waning, plan.Endpoint{Endpoint: drawEndpoint(t, ip), Reason: "test"})
		}
	}
	if rapid.Bool().Draw(t, "limits") {
		p.Limits = &netstate.Limits{Subflows: 4, AddAddrAccepted: 4}
	}
	return p
}

func (m *model) input(p *plan.Plan, foreign config.ForeignPolicy) Input {
	s := m.snap
	s.Rules, s.Routes, s.Endpoints = slices.Clone(s.Rules), slices.Clone(s.Routes), slices.Clone(s.Endpoints)
	own := m.record
	own.Endpoints = maps.Clone(own.Endpoints)
	return Input{Snapshot: &s, Plan: p, Owned: own, Routing: config.Default().Routing, Foreign: foreign}
}

// carryOut applies a diff with every unwanted endpoint vacant, and calls watch
// after each change.
func (m *model) carryOut(t *rapid.T, c Changes, watch func(netstate.Change)) {
	do := func(c netstate.Change) {
		if err := m.apply(c); err != nil {
			t.Fatalf("%s: %v", c, err)
		}
		watch(c)
	}
	for _, x := range c.Up {
		do(x)
	}
	for _, u := range c.Unwanted {
		do(netstate.Change{Op: netstate.EndpointDelete, Endpoint: u.Endpoint})
	}
	for _, x := range c.Down {
		do(x)
	}
}

// foreign lists what must never change: rules in their order.
func (m *model) foreign(taken map[netip.Addr]bool) string {
	var s netstate.Snapshot
	for _, r := range m.snap.Rules {
		if !netstate.OwnsRule(protocol, r) {
			s.Rules = append(s.Rules, r)
		}
	}
	for _, r := range m.snap.Routes {
		if !netstate.OwnsRoute(protocol, r) {
			s.Routes = append(s.Routes, r)
		}
	}
	for _, e := range m.snap.Endpoints {
		if e.Port != 0 || !taken[e.Addr] && e.Flags&netstate.ImplicitFlag == 0 {
			s.Endpoints = append(s.Endpoints, e)
		}
	}
	return iptext.Text(&s)
}

// One round leads rules, routes and limits to the plan, two rounds endpoints
// too, and nothing foreign changes on the way.
func TestConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, p := drawModel(t, true), drawPlan(t)
		policy := oneOf(t, config.ForeignRespect, config.ForeignTakeOver)
		taken := map[netip.Addr]bool{} // addresses on which an endpoint may change
		for ip := range m.record.Endpoints {
			taken[ip] = true
		}
		for _, e := range p.Endpoints {
			there := slices.ContainsFunc(m.snap.Endpoints, func(h netstate.Endpoint) bool {
				return h.Addr == e.Addr && h.Port == 0 && h.Flags&netstate.ImplicitFlag == 0
			})
			if policy == config.ForeignTakeOver || !there {
				taken[e.Addr] = true
			}
		}
		before := m.foreign(taken)
		for round := 1; ; round++ {
			c := Diff(m.input(p, policy))
			if c.Empty() && len(c.Unwanted) == 0 {
				break
			}
			for _, x := range append(slices.Clone(c.Up), c.Down...) {
				if round > 2 || round == 2 && x.Op != netstate.EndpointAdd {
					t.Fatalf("still to do in round %d: %s", round, x)
				}
			}
			m.carryOut(t, c, func(netstate.Change) {})
			if round > 2 {
				t.Fatalf("unwanted in round %d: %v", round, c.Unwanted)
			}
		}
		if d := gocmp.Diff(before, m.foreign(taken)); d != "" {
			t.Fatalf("foreign state changed (-before +after):\n%s", d)
		}
	})
}

// What was reached before and is wanted after is reached at every moment; the
// third rule never comes first without main's specific routes before it; and
// where the plan is without foreign rules the result is exactly its sets.
func TestEveryMomentOfAnExchange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, p := drawModel(t, false), drawPlan(t)
		type want struct {
			rule             netstate.Rule
			before           way
			third, main, bad bool
		}
		wants := make([]want, len(hosts))
		for i, ip := range hosts {
			w := &wants[i]
			w.rule = rulesOf(ip, 1, 1)[0]
			w.before = m.way(w.rule)
			w.bad = m.thirdFirst(w.rule)
			for _, s := range p.RuleSets {
				if s.Addr == ip {
					for _, r := range s.Rules {
						w.main = w.main || r.Table == netstate.TableMain
						w.third = w.third || r.Action == netstate.ActLookup && r.Suppress == netstate.NoSuppress
					}
				}
			}
		}
		m.carryOut(t, Diff(m.input(p, "")), func(c netstate.Change) {
			for _, w := range wants {
				now := m.way(w.rule)
				if w.before.third && w.third && !now.third {
					t.Fatalf("after %s: %s does not reach its third rule", c, w.rule.From)
				}
				// A set without main's rule may replace one with it, and an
				// unwanted set was somebody's wish before.
				if wished := w.main || !w.third; wished && !w.bad && now.third && !now.main {
					t.Fatalf("after %s: %s reaches its third rule past main's routes", c, w.rule.From)
				}
				if !w.before.refused && now.refused && w.third {
					t.Fatalf("after %s: %s is refused", c, w.rule.From)
				}
			}
		})
		for i, ip := range hosts {
			var found, wanted []netstate.Rule
			for _, r := range m.snap.Rules {
				if r.From == wants[i].rule.From && netstate.OwnsRule(protocol, r) {
					found = append(found, r)
				}
			}
			for _, s := range p.RuleSets {
				if s.Addr == ip {
					wanted = s.Rules
				}
			}
			if !slices.Equal(found, wanted) {
				t.Fatalf("%s: wanted %v, found %v", ip, wanted, found)
			}
		}
	})
}

// The order of a plan's routes, rule sets and paths means nothing.
func TestOrderOfThePlanMeansNothing(t *testing.T) {
	same := gocmp.Options{gocmp.Comparer(func(x, y netip.Addr) bool { return x == y }), gocmp.Comparer(func(x, y netip.Prefix) bool { return x == y })}
	rapid.Check(t, func(t *rapid.T) {
		m, p := drawModel(t, true), drawPlan(t)
		first := Diff(m.input(p, ""))
		q := *p
		q.Routes = rapid.Permutation(p.Routes).Draw(t, "routes")
		q.RuleSets = rapid.Permutation(p.RuleSets).Draw(t, "rule sets")
		if d := gocmp.Diff(first, Diff(m.input(&q, "")), same); d != "" {
			t.Fatalf("changed with the order of the plan:\n%s", d)
		}
	})
}

// The index gives what the function gives; fewer live addresses and less time
// never make an endpoint vacant; and a delete leaves every connection that
// uses the endpoint a subflow that was heard from since.
func TestVacancyIsSafe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var conns []netstate.Connection
		for i := range rapid.IntRange(0, 4).Draw(t, "connections") {
			c := netstate.Connection{Token: uint32(i), State: oneOf(t, netstate.Established, netstate.FinWait2, netstate.Closed), Fallback: rapid.IntRange(0, 9).Draw(t, "fallback") == 0}
			for range rapid.IntRange(0, 3).Draw(t, "subflows") {
				c.Subflows = append(c.Subflows, netstate.Subflow{
					State: oneOf(t, netstate.Established, netstate.Established, netstate.SynSent, netstate.TimeWait),
					Local: netip.AddrPortFrom(oneOf(t, hosts...), 1), FullyEstablished: rapid.IntRange(0, 5).Draw(t, "full") > 0,
					Backoff: oneOf[uint8](t, 0, 0, 1), CAState: oneOf[uint8](t, 0, 0, 4),
					LastRecv: oneOf(t, time.Millisecond, time.Second), LastAck: oneOf(t, time.Millisecond, time.Second),
				})
			}
			conns = append(conns, c)
		}
		alive := map[netip.Addr]bool{}
		for _, ip := range hosts {
			alive[ip] = rapid.Bool().Draw(t, "alive")
		}
		e := netstate.Endpoint{Addr: hosts[0]}
		v := Vacancy(e, conns, alive, 100*time.Millisecond)
		if ix := IndexConnections(conns).Vacancy(e, alive, 100*time.Millisecond); ix != v {
			t.Fatalf("directly %+v, indexed %+v", v, ix)
		}
		if v.Vacant != (v.Blocking == 0) || v.Why == "" {
			t.Fatalf("verdict %+v", v)
		}
		fewer := maps.Clone(alive)
		delete(fewer, hosts[1])
		for _, less := range []Verdict{Vacancy(e, conns, fewer, 100*time.Millisecond), Vacancy(e, conns, alive, time.Millisecond)} {
			if less.Vacant && !v.Vacant {
				t.Fatalf("vacant with less: %+v, %+v", v, less)
			}
		}
		if !v.Vacant {
			return
		}
		for _, c := range conns {
			uses, left := false, false
			for _, s := range c.Subflows {
				if s.Local.Addr() == hosts[0] {
					uses = uses || s.State != netstate.TimeWait
				} else if s.State == netstate.Established && s.FullyEstablished && alive[s.Local.Addr()] && s.Backoff == 0 && s.CAState < 4 && (s.LastRecv < 98*time.Millisecond || s.LastAck < 98*time.Millisecond) {
					left = true
				}
			}
			if uses && !left && !c.Fallback && c.State != netstate.Closed {
				t.Fatal(fmt.Sprintf("vacant, and yet this is cut: %+v", c))
			}
		}
	})
}
