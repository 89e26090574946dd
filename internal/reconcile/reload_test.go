package reconcile

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/kernel/kerneltest"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/netstate/iptext"
)

// threeLinks has two families, several addresses of a link, and two links in one
// subnet.
const threeLinks = `
link 1 lo loopback
link 2 eth0
link 3 eth1
link 4 wwan0 type wwan
addr 10.1.1.2/24 dev eth0
addr 10.1.1.3/24 dev eth0 secondary
addr 2001:db8:1::2/64 dev eth0
addr 10.1.2.2/24 dev eth1
addr 10.1.2.3/24 dev wwan0
route 10.1.1.0/24 dev eth0 proto kernel src 10.1.1.2
route 2001:db8:1::/64 dev eth0 proto kernel
route 10.1.2.0/24 dev eth1 proto kernel src 10.1.2.2
route 10.1.2.0/24 dev wwan0 proto kernel src 10.1.2.3 metric 700
route default via 10.1.1.1 dev eth0 proto dhcp metric 100
route default via fe80::1 dev eth0 proto ra metric 100
route default via 10.1.2.1 dev eth1 proto dhcp metric 200
route default via 10.1.2.1 dev wwan0 proto dhcp metric 700
`

func draw[T any](t *rapid.T, list ...T) T { return rapid.SampledFrom(list).Draw(t, "one of") }

// maybe is nil or a pointer to one of the list.
func maybe[T any](t *rapid.T, list ...T) *T {
	if rapid.IntRange(0, 3).Draw(t, "set") > 0 {
		return nil
	}
	v := draw(t, list...)
	return &v
}

func drawConfig(t *rapid.T) config.Config {
	c := config.Default()
	c.Role = draw(t, config.RoleClient, config.RoleServer, config.RoleBoth)
	c.Limits.Mode = draw(t, config.LimitsAuto, config.LimitsKeep)
	c.Routing = drawRouting(t)
	for range rapid.IntRange(0, 3).Draw(t, "entries") {
		e := config.LinkEntry{
			Name:   draw(t, "eth0", "eth1", "wwan0", "eth*", "*"),
			Uplink: maybe(t, true, false), Role: maybe(t, config.RoleClient, config.RoleServer, config.RoleBoth), Backup: maybe(t, true, false),
			Fullmesh: maybe(t, true, false), Addresses: maybe(t, config.AddressesAll, config.AddressesOne),
			Endpoints: maybe(t, true, false), Preference: maybe(t, 1, 100, 200),
		}
		c.Links = append(c.Links, e)
	}
	return c
}

func drawRouting(t *rapid.T) config.Routing {
	r := config.Default().Routing
	if rapid.Bool().Draw(t, "default numbers") {
		return r
	}
	return config.Routing{
		Priority: draw[uint32](t, 32765, 20000, 31000), TableBase: draw[uint32](t, 100000, 7000), Protocol: draw[uint8](t, 77, 78, 90),
		MainFirst: draw(t, true, false), Strict: draw(t, true, false),
	}
}

// made is all that any of our protocols has made, the limits apart.
func made(s *netstate.Snapshot) []string {
	all := netstate.Ownership{Protocols: []uint8{77, 78, 90}}
	n := s.Names()
	var routes, rules []string
	for _, r := range s.Routes {
		if all.OwnsRoute(77, r) {
			r.Scope = 0
			routes = append(routes, "route "+r.Text(n))
		}
	}
	for _, a := range s.Addrs { // the order among addresses is that of history
		for _, r := range s.Rules {
			if all.OwnsRule(77, r) && r.From.Addr() == a.IP() {
				rules = append(rules, "rule "+r.Text())
			}
		}
	}
	for _, e := range s.Endpoints {
		e.ID = 0
		routes = append(routes, "endpoint "+e.Text(n))
	}
	slices.Sort(routes)
	return append(routes, rules...)
}

// reload takes a configuration and lets the loop do all that follows at once,
// and what waits.
func (h *host) reload(c config.Config) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	if err := h.loop.SetConfig(ctx, c); err != nil {
		h.t.Error(err)
	}
	h.pass(2 * time.Minute)
}

func threeLinkHost(t *testing.T, c config.Config) *host {
	f := kerneltest.New(iptext.MustSnapshot(threeLinks))
	o, logs := options(f, &memory{})
	o.Config = c
	h := runWith(t, f, o, logs)
	h.pass(2 * time.Minute)
	return h
}

// TestReloadsProperty: a configuration makes of a host what it makes of it
// without any history, equal ones change nothing, links that the difference does
// not name see nothing, and at no moment has an address no way out.
func TestReloadsProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a, b := drawConfig(rt), drawConfig(rt)
		if rapid.Bool().Draw(rt, "one entry more") {
			b, a.Links = a, nil
		}
		var problem string
		synctest.Test(t, func(t *testing.T) { problem = reloads(t, a, b) })
		if problem != "" {
			rt.Fatal(problem)
		}
	})
}

// reloads goes from one configuration to the other and back, and returns what is
// wrong.
func reloads(t *testing.T, a, b config.Config) string {
	h := threeLinkHost(t, a)
	first := made(h.Snapshot())
	h.Applied()
	h.reload(a)
	if l := h.AppliedText(); len(l) > 0 {
		return fmt.Sprintf("an equal configuration changed %q", l)
	}
	lost := h.watchWays(a, b)
	h.reload(b)
	h.After(nil)
	if *lost != "" {
		return *lost
	}
	if c := h.touched(a, b); c != "" {
		return "eth0 is the same in both, and was changed: " + c
	}
	scratch := threeLinkHost(t, b)
	if d := cmp.Diff(made(scratch.Snapshot()), made(h.Snapshot())); d != "" {
		return "from scratch (-) and after a reload (+):\n" + d
	}
	if own := h.rec.Owned(); !slices.Equal(own.Protocols, []uint8{b.Routing.Protocol}) && len(made(h.Snapshot())) > 0 {
		return fmt.Sprintf("the record names the protocols %v", own.Protocols)
	}
	h.reload(a)
	if d := cmp.Diff(first, made(h.Snapshot())); d != "" {
		return "before (-) and after two reloads (+):\n" + d
	}
	if v := h.loop.View(); !v.Converged {
		return fmt.Sprintf("not converged: %+v", v.Left)
	}
	return ""
}

// touched is a change of eth0 where the two configurations say the same of it.
// Who shares a subnet with another link depends on that one too.
func (h *host) touched(a, b config.Config) string {
	changes, s := h.Applied(), h.Snapshot()
	eth0, _ := s.LinkByIndex(2)
	if a.Routing != b.Routing || !slices.Equal(settings(a, eth0), settings(b, eth0)) {
		return ""
	}
	for _, c := range changes {
		from := c.Rule.From
		if c.Link() == 2 || from.IsValid() && !strings.HasPrefix(from.Addr().String(), "10.1.2.") {
			return c.Text(s.Names())
		}
	}
	return ""
}

// settings are a link's, with what pointers point to.
func settings(c config.Config, l netstate.Link) []any {
	s := c.For(l)
	val := func(p *bool) any {
		if p == nil {
			return nil
		}
		return *p
	}
	return []any{val(s.Uplink), s.Role, val(s.Backup), s.Fullmesh, s.Addresses, s.Endpoints, s.Preference}
}

// watchWays looks after every change whether each address of a link that is a
// path in both configurations has a way out by its link; the result names the
// first that had none.
func (h *host) watchWays(a, b config.Config) *string {
	s, lost := h.Snapshot(), new(string)
	h.After(func(c netstate.Change) {
		now := h.Snapshot()
		for _, ad := range s.Addrs {
			l, _ := s.LinkByIndex(ad.Link)
			ua, ub := a.For(l).Uplink, b.For(l).Uplink
			none := l.Loopback() || ua != nil && !*ua || ub != nil && !*ub
			if !none && *lost == "" && !hasWay(now, ad) {
				*lost = fmt.Sprintf("after %q %s has no way out:\n%s", c.Text(s.Names()), ad.IP(), strings.Join(made(now), "\n"))
			}
		}
	})
	return lost
}

// hasWay asks the rules in their order.
func hasWay(s *netstate.Snapshot, a netstate.Addr) bool {
	for _, r := range s.Rules {
		if !r.From.IsValid() || r.From.Addr() != a.IP() || r.Suppress == 0 {
			continue
		}
		return r.Action == netstate.ActLookup && slices.ContainsFunc(s.Routes, func(o netstate.Route) bool {
			return o.Table == r.Table && o.Family == a.Family() && o.Default() && o.Link == a.Link
		})
	}
	return false
}

// TestForeignAfterAnExchange: once nothing is left of a protocol, what appears
// under it is somebody else's.
func TestForeignAfterAnExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets)
		h.pass(time.Second)
		told := h.loop.o.Config
		told.Routing.Protocol = 90
		h.reload(told)
		foreign := iptext.MustRule("32765: from 10.1.1.2 lookup 100002 proto 77")
		if err := h.AddRule(foreign); err != nil {
			t.Fatal(err)
		}
		h.pass(time.Minute)
		if !slices.Contains(h.Snapshot().Rules, foreign) {
			t.Error("a rule of somebody else was removed")
		}
		if got := h.rec.Owned().Protocols; !slices.Equal(got, []uint8{90}) {
			t.Errorf("the record names the protocols %v", got)
		}
	})
}

// TestStartWithOtherNumbers takes away what a killed daemon made under others.
func TestStartWithOtherNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets)
		h.pass(time.Second)
		h.stop()
		for _, protocol := range []uint8{78, 90, 77} {
			o, logs := options(h.Fake, h.rec)
			o.Config.Routing.Protocol = protocol
			n := 0
			h.FailWith(func(int, netstate.Change) error { // cut short once
				if n++; n > 5 {
					return errBusy
				}
				return nil
			})
			cut := runWith(t, h.Fake, o, logs)
			cut.pass(10 * time.Millisecond)
			cut.stop()
			h.FailWith(nil)
			o, logs = options(h.Fake, h.rec)
			o.Config.Routing.Protocol = protocol
			again := runWith(t, h.Fake, o, logs)
			again.pass(time.Minute)
			again.stop()
			want := strings.ReplaceAll(settledText, "proto 77", fmt.Sprintf("proto %d", protocol))
			got := made(h.Snapshot())
			if d := cmp.Diff(lines(without(want, "limits")), got); d != "" {
				t.Errorf("protocol %d (-want +got):\n%s", protocol, d)
			}
		}
	})
}
