package diff

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/health"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
)

// earlyHost is a host to whose last link something comes.
type earlyHost struct {
	*rapid.T
	in   plan.Input
	snap netstate.Snapshot
}

// rarely is true now and then: what stands in the way of an early path is to be
// met alone, not always.
func rarely(t *rapid.T, what string) bool { return rapid.IntRange(0, 11).Draw(t, what) == 11 }

const lastLink = 4

func drawLinks(t *rapid.T) []netstate.Link {
	links := []netstate.Link{{Index: 1, Name: "lo", Flags: netstate.FlagUp | netstate.FlagLoopback | netstate.FlagLowerUp}}
	for i := 2; i <= lastLink; i++ {
		l := netstate.Link{Index: i, Name: fmt.Sprintf("eth%d", i), Flags: netstate.FlagUp | netstate.FlagLowerUp}
		if rarely(t, "odd link") {
			switch rapid.IntRange(0, 5).Draw(t, "how") {
			case 0:
				l.Flags &^= netstate.FlagLowerUp
			case 1:
				l.Flags &^= netstate.FlagUp
			case 2:
				l.Master = 9
			case 3:
				l.Kind = "wireguard"
			case 4:
				l.DevType = "wwan"
			case 5:
				l.Flags |= netstate.FlagP2P
			}
		}
		links = append(links, l)
	}
	return links
}

func drawSettings(t *rapid.T) config.Config {
	c := config.Default()
	flag := func(name string) *bool {
		if !rarely(t, name) {
			return nil
		}
		v := rapid.Bool().Draw(t, name)
		return &v
	}
	c.Routing.Strict = rapid.Bool().Draw(t, "strict")
	c.Routing.MainFirst = !rarely(t, "not main first")
	if rarely(t, "role") {
		c.Role = oneOf(t, config.RoleServer, config.RoleBoth)
	}
	if rarely(t, "limits") {
		c.Limits.Mode = oneOf(t, config.LimitsKeep, config.LimitsFixed)
		c.Limits.Values = netstate.Limits{Subflows: 3, AddAddrAccepted: 1}
	}
	for _, name := range []string{"eth2", "eth4", "eth*"} {
		e := config.LinkEntry{Name: name, Uplink: flag("uplink"), Backup: flag("backup"), Fullmesh: flag("fullmesh"), Endpoints: flag("endpoints")}
		if rarely(t, "all addresses") {
			all := config.AddressesAll
			e.Addresses = &all
		}
		if rarely(t, "gateway") {
			e.Gateway4 = netip.MustParseAddr("10.4.0.9")
		}
		c.Links = append(c.Links, e)
	}
	return c
}

// address4 is mostly one of the link's own subnet, seldom another's.
func address4(t *rapid.T, link int) netip.Prefix {
	if rarely(t, "elsewhere") {
		link = rapid.IntRange(2, lastLink).Draw(t, "subnet")
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(link), 0, byte(2 + rapid.IntRange(0, 1).Draw(t, "host"))}), 24)
}

func connectedTo(p netip.Prefix, link int) netstate.Route {
	return netstate.Route{
		Family: netstate.IPv4, Table: netstate.TableMain, Dst: p.Masked(), Type: netstate.Unicast, Protocol: netstate.ProtoKernel,
		Scope: netstate.ScopeLink, Link: link, PrefSrc: p.Addr(),
	}
}

func drawWay(t *rapid.T, link int) netstate.Route {
	r := netstate.Route{
		Family: netstate.IPv4, Table: netstate.TableMain, Dst: netstate.IPv4.Default(), Type: netstate.Unicast, Protocol: netstate.ProtoDHCP,
		Link: link, Gateway: netip.AddrFrom4([4]byte{10, byte(link), 0, 1}), Metric: uint32(rapid.IntRange(1, 5).Draw(t, "metric")),
	}
	if rarely(t, "odd way") {
		switch rapid.IntRange(0, 9).Draw(t, "how") {
		case 0:
			r.PrefSrc = address4(t, oneOf(t, link, lastLink)).Addr()
		case 1:
			r.Multipath = true
		case 2:
			r.SrcPrefix = netip.MustParsePrefix("10.4.0.0/16")
		case 3:
			r.Type, r.Link, r.Gateway = netstate.Unreachable, 0, netip.Addr{}
		case 4:
			r.Gateway = netip.MustParseAddr("172.16.0.1")
		case 5:
			r.Gateway = netip.Addr{}
		case 6:
			r.MTU = 1400
		case 7:
			r.ExpiresIn = -1
		case 8:
			r.Table = 300
		case 9:
			r.OnLink = true
		}
	}
	return r
}

// others puts what others have beside it into the snapshot.
func (h *earlyHost) others() {
	for range rapid.IntRange(0, 3).Draw(h.T, "others") {
		link := rapid.IntRange(2, lastLink).Draw(h.T, "link")
		p := address4(h.T, link)
		switch rapid.IntRange(0, 9).Draw(h.T, "other") {
		case 0:
			h.snap.Rules = append(h.snap.Rules, netstate.Rule{
				Family: netstate.IPv4, Priority: oneOf[uint32](h.T, 100, 32765, 32800), From: netip.PrefixFrom(p.Addr(), 32), Action: netstate.ActLookup,
				Table: oneOf[uint32](h.T, 300, netstate.TableMain), Suppress: netstate.NoSuppress, Protocol: oneOf[uint8](h.T, 0, 77, 78),
			})
		case 1:
			h.snap.Rules = append(h.snap.Rules, netstate.Rule{
				Family: netstate.IPv4, Priority: oneOf[uint32](h.T, 100, 32765, 32800), Action: netstate.ActLookup, Table: 300, Suppress: netstate.NoSuppress,
			})
		case 2:
			r := drawWay(h.T, link)
			r.Table = 100000 + uint32(link)
			h.snap.Routes = append(h.snap.Routes, r)
		case 3:
			r := connectedTo(p, link)
			r.Protocol, r.PrefSrc = netstate.ProtoStatic, netip.Addr{}
			h.snap.Routes = append(h.snap.Routes, r)
		case 4:
			h.snap.Routes = append(h.snap.Routes, netstate.Route{
				Family: netstate.IPv4, Table: netstate.TableMain, Dst: netip.MustParsePrefix("10.99.0.0/16"), Type: netstate.Unicast,
				Protocol: netstate.ProtoStatic, Link: link, Gateway: netip.AddrFrom4([4]byte{10, byte(link), 0, 1}),
			})
		case 5:
			h.snap.Endpoints = append(h.snap.Endpoints, netstate.Endpoint{ID: uint8(50 + len(h.snap.Endpoints)), Addr: p.Addr(), Link: link, Flags: oneOf(h.T, netstate.SubflowFlag, netstate.SignalFlag)})
		case 6:
			h.snap.Unbound = map[netstate.Family]netstate.Way{netstate.IPv4: {Link: link, Source: p.Addr()}}
		case 7:
			h.snap.Addrs = append(h.snap.Addrs, netstate.Addr{Link: link, Local: p})
		case 8:
			h.snap.LeaseGateways = map[netstate.LinkFamily]netip.Addr{{Link: link, Family: netstate.IPv4}: netip.AddrFrom4([4]byte{10, byte(link), 0, 1})}
		case 9:
			h.snap.Routes = append(h.snap.Routes, drawWay(h.T, link))
		}
	}
}

// drawHost has paths on the links before the last one, and settles.
func drawHost(t *rapid.T) *earlyHost {
	h := &earlyHost{T: t}
	h.snap = netstate.Snapshot{Links: drawLinks(t), MPTCP: netstate.MPTCP{Present: !rarely(t, "no mptcp"), Enabled: true, MaxEndpoints: 8, MaxLimit: 8}}
	if rarely(t, "few slots") {
		h.snap.MPTCP.MaxEndpoints = rapid.IntRange(1, 3).Draw(t, "slots")
	}
	h.snap.Limits = netstate.Limits{Subflows: uint32(rapid.IntRange(0, 5).Draw(t, "subflows")), AddAddrAccepted: uint32(rapid.IntRange(0, 5).Draw(t, "accepted"))}
	local := netstate.Rule{Family: netstate.IPv4, Action: netstate.ActLookup, Table: netstate.TableLocal, Suppress: netstate.NoSuppress}
	if rarely(t, "local behind") {
		local.Priority = 32800
	}
	last := local
	last.Table, last.Priority = netstate.TableMain, 32766
	h.snap.Rules = []netstate.Rule{local, last}
	for link := 2; link < lastLink; link++ {
		if p := address4(t, link); rapid.Bool().Draw(t, "has address") {
			h.snap.Addrs = append(h.snap.Addrs, netstate.Addr{Link: link, Local: p})
			h.snap.Routes = append(h.snap.Routes, connectedTo(p, link))
			if !rarely(t, "no way") {
				h.snap.Routes = append(h.snap.Routes, drawWay(t, link))
			}
		}
	}
	h.others()
	h.in = plan.Input{Config: drawSettings(t), Owned: netstate.Ownership{Known: !rarely(t, "no record")}}
	if rarely(t, "probe") {
		h.in.Reach = map[netstate.LinkFamily]health.State{}
		for link := 2; link <= lastLink; link++ {
			if rapid.Bool().Draw(t, "probed") {
				h.in.Reach[netstate.LinkFamily{Link: link, Family: netstate.IPv4}] = oneOf(t, health.Silent, health.Answers, health.Down)
			}
		}
	}
	if rarely(t, "hold") {
		h.in.Hold = map[int]string{rapid.IntRange(2, lastLink).Draw(t, "flapping"): "flapping"}
	}
	if rarely(t, "tunnel") {
		h.snap.Links[2].Kind = "wireguard"
		h.snap.Outbound = map[netstate.Family][2]int{netstate.IPv4: {3, 3}}
		h.in.Config.VPN = oneOf(t, config.VPNWithdraw, config.VPNBackup, config.VPNIgnore)
	}
	return h
}

// decide sorts the rules, as the kernel has them, and decides.
func (h *earlyHost) decide() (*plan.Plan, Changes) {
	slices.SortStableFunc(h.snap.Rules, func(a, b netstate.Rule) int { return int(a.Priority) - int(b.Priority) })
	s := h.snap
	h.in.Snapshot = &s
	p := plan.Desired(h.in)
	return p, Diff(Input{Snapshot: &s, Plan: p, Owned: h.in.Owned, Routing: h.in.Config.Routing, Foreign: h.in.Config.ForeignEndpoints})
}

// settle carries the changes out until there are none.
func (h *earlyHost) settle() (*plan.Plan, bool) {
	if h.in.Owned.Known {
		h.in.Owned.Endpoints = map[netip.Addr]netstate.Endpoint{}
	}
	for range 4 {
		p, c := h.decide()
		if c.Empty() {
			return p, true
		}
		h.carryOut(append(slices.Clone(c.Up), c.Down...))
	}
	return nil, false
}

func (h *earlyHost) carryOut(list []netstate.Change) {
	for _, c := range list {
		switch c.Op {
		case netstate.RouteAdd, netstate.RouteReplace:
			h.snap.Routes = append(slices.Clone(h.snap.Routes), c.Route)
		case netstate.RouteDelete:
			h.snap.Routes = slices.DeleteFunc(slices.Clone(h.snap.Routes), func(r netstate.Route) bool { return r == c.Route })
		case netstate.RuleAppend:
			h.snap.Rules = append(slices.Clone(h.snap.Rules), c.Rule)
		case netstate.RuleDelete:
			i := slices.Index(h.snap.Rules, c.Rule)
			h.snap.Rules = slices.Delete(slices.Clone(h.snap.Rules), i, i+1)
		case netstate.LimitsSet:
			found := h.snap.Limits
			h.snap.Limits = c.Limits
			h.in.Owned.LimitsFound, h.in.Owned.LimitsSet = &found, &c.Limits
		case netstate.EndpointAdd:
			c.Endpoint.ID = uint8(1 + len(h.snap.Endpoints))
			h.snap.Endpoints = append(slices.Clone(h.snap.Endpoints), c.Endpoint)
			if h.in.Owned.Endpoints == nil {
				h.in.Owned.Endpoints = map[netip.Addr]netstate.Endpoint{}
			}
			h.in.Owned.Endpoints[c.Endpoint.Addr] = c.Endpoint
		}
	}
}

// come draws the news, and puts part of them into the snapshot before, as if
// they had come before.
func (h *earlyHost) come() (news []netstate.News) {
	p := address4(h.T, lastLink)
	a := netstate.Addr{Link: lastLink, Local: p}
	if rarely(h.T, "odd address") {
		switch rapid.IntRange(0, 3).Draw(h.T, "how") {
		case 0:
			a.Flags = netstate.AddrDADFailed
		case 1:
			a.Scope = netstate.ScopeHost
		case 2:
			a.Peer = netip.MustParseAddr("10.4.0.9")
		case 3:
			a.Flags = netstate.AddrDeprecated
		}
	}
	routes := []netstate.Route{connectedTo(a.Local, lastLink), drawWay(h.T, lastLink)}
	if rarely(h.T, "one more") {
		routes = append(routes, drawWay(h.T, lastLink))
	}
	if rapid.IntRange(0, 3).Draw(h.T, "address before") == 0 {
		h.snap.Addrs = append(h.snap.Addrs, a)
		h.snap.Routes = append(h.snap.Routes, routes[0])
	} else {
		news = append(news, netstate.News{Addr: &a})
	}
	for i := range routes {
		if r := &routes[i]; r.Table == netstate.TableMain && r.Link == lastLink {
			news = append(news, netstate.News{Route: r})
		}
	}
	return news
}

func (h *earlyHost) hear(news []netstate.News) {
	for _, n := range news {
		if n.Addr != nil {
			h.snap.Addrs = append(slices.Clone(h.snap.Addrs), *n.Addr)
		} else if !slices.Contains(h.snap.Routes, *n.Route) {
			h.snap.Routes = append(slices.Clone(h.snap.Routes), *n.Route)
		}
	}
}

// TestEarlyIsThePlan: what is made of news before anything is read is what the
// plan wants with them, change for change and reason for reason.
func TestEarlyIsThePlan(t *testing.T) {
	early, tried := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		h := drawHost(t)
		news := h.come()
		now, ok := h.settle()
		if !ok || len(news) == 0 {
			return
		}
		tried++
		p := plan.Early(h.in, now, news)
		h.hear(news)
		_, c := h.decide()
		if p == nil {
			return
		}
		early++
		made := Early(p)
		mine := map[string]bool{}
		for _, m := range made {
			mine[m.Text(nil)] = true
		}
		var wanted []netstate.Change
		for _, u := range c.Up {
			if mine[u.Text(nil)] {
				wanted = append(wanted, u)
			}
		}
		if !slices.Equal(wanted, made) {
			t.Fatalf("made early:\n%+v\nplanned:\n%+v", made, c.Up)
		}
		// Nothing else of the plan concerns what was made.
		h.carryOut(made)
		_, c = h.decide()
		for _, x := range append(slices.Clone(c.Up), c.Down...) {
			if x.Link() == lastLink || x.Rule.From.IsValid() && x.Rule.From.Addr() == p.Endpoint.Addr || x.Op == netstate.LimitsSet {
				t.Fatalf("after what was made early there is left: %s (%s)", x.Text(nil), x.Reason)
			}
		}
	})
	if early*10 < tried {
		t.Errorf("only %d of %d were early: the test tries too little", early, tried)
	}
	t.Logf("%d of %d early", early, tried)
}
