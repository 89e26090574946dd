package kernel

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
)

// path4 and path6 are routes of path tables as plan makes them.
func path4(table uint32, link int, gw string) []netstate.Route {
	r := netstate.Route{Family: netstate.IPv4, Table: table, Type: netstate.Unicast, Protocol: 77, Link: link}
	onLink, def, throw := r, r, r
	gateway := netip.MustParseAddr(gw)
	prefix, _ := gateway.Prefix(24)
	onLink.Dst = prefix
	def.Dst, def.Gateway, def.Metric = netstate.IPv4.Default(), gateway, 100
	throw.Dst, throw.Type, throw.Link = netip.PrefixFrom(prefix.Addr(), 28), netstate.Throw, 0
	return []netstate.Route{onLink, def, throw}
}

func path6(table uint32, link int, gw string) []netstate.Route {
	r := netstate.Route{Family: netstate.IPv6, Table: table, Type: netstate.Unicast, Protocol: 77, Link: link, Metric: 1024}
	onLink, def, throw := r, r, r
	gateway := netip.MustParseAddr(gw)
	prefix, _ := gateway.Prefix(64)
	onLink.Dst = prefix
	def.Dst, def.Gateway, def.Metric, def.Pref = netstate.IPv6.Default(), gateway, 2000, netstate.PrefHigh
	throw.Dst, throw.Type, throw.Link = netip.PrefixFrom(prefix.Addr(), 80), netstate.Throw, 0
	return []netstate.Route{onLink, def, throw}
}

func routeChanges(op netstate.Op, routes ...netstate.Route) []netstate.Change {
	out := make([]netstate.Change, len(routes))
	for i, r := range routes {
		out[i] = netstate.Change{Op: op, Route: r}
	}
	return out
}

func inTable(s *netstate.Snapshot, table uint32) []netstate.Route {
	var out []netstate.Route
	for _, r := range s.Routes {
		if r.Table == table {
			out = append(out, r)
		}
	}
	return out
}

func TestRoutesAsIPShowsThem(t *testing.T) {
	t.Parallel()
	h := twoUplinks(t)
	inside(t, h, func(k *Kernel) {
		eth0 := linkNamed(t, refresh(t, k, full()), "eth0").Index
		table := testOptions.TableBase + uint32(eth0)
		v4, v6 := path4(table, eth0, "10.1.1.1"), path6(table, eth0, "2001:db8:1::1")
		v4[1].MTU, v4[1].MTULock, v4[1].AdvMSS, v4[1].InitCwnd = 1400, true, 1300, 20
		v6[1].Metrics = "hoplimit lock 33 features ecn rto_min 50ms initrwnd 30 quickack 1 congctl reno"
		via6 := v4[1]
		via6.Gateway, via6.Metric = netip.MustParseAddr("fe80::1"), 200
		far := v4[1]
		far.Gateway, far.Metric, far.OnLink = netip.MustParseAddr("192.0.2.1"), 300, true
		all := slices.Concat(v4, []netstate.Route{via6, far}, v6)
		apply(t, k, routeChanges(netstate.RouteAdd, all...)...)
		apply(t, k, routeChanges(netstate.RouteAdd, all...)...) // the same again is success
		wantLines(t, "ip -4 route", h.IP("-4 route show table 100002"),
			"default via 10.1.1.1 dev eth0 proto 77 metric 100 mtu lock 1400 advmss 1300 initcwnd 20",
			"default via inet6 fe80::1 dev eth0 proto 77 metric 200 mtu lock 1400 advmss 1300 initcwnd 20",
			"default via 192.0.2.1 dev eth0 proto 77 metric 300 onlink mtu lock 1400 advmss 1300 initcwnd 20",
			"throw 10.1.1.0/28 proto 77",
			"10.1.1.0/24 dev eth0 proto 77 scope link")
		wantLines(t, "ip -6 route", h.IP("-6 route show table 100002"),
			"throw 2001:db8:1::/80 dev lo proto 77 metric 1024 pref medium",
			"2001:db8:1::/64 dev eth0 proto 77 metric 1024 pref medium",
			"default via 2001:db8:1::1 dev eth0 proto 77 metric 2000 hoplimit lock 33 features ecn rto_min lock 50ms initrwnd 30 quickack 1 congctl reno pref high")

		found := inTable(refresh(t, k, netstate.Hints{Kinds: netstate.KindRoutes}), table)
		if len(found) != len(all) {
			t.Errorf("read %d routes, want %d: %v", len(found), len(all), found)
		}
		for _, want := range all {
			if !slices.ContainsFunc(found, want.Same) {
				t.Errorf("not read back: %s", want)
			}
		}

		changed := v4[1]
		changed.MTU, changed.MTULock, changed.AdvMSS, changed.InitCwnd = 0, false, 0, 0
		apply(t, k, routeChanges(netstate.RouteReplace, changed)...)
		apply(t, k, routeChanges(netstate.RouteDelete, via6, far, v4[0], v4[2])...)
		apply(t, k, routeChanges(netstate.RouteDelete, via6, far, v4[0], v4[2])...) // gone is deleted
		wantLines(t, "ip -4 route", h.IP("-4 route show table 100002"), "default via 10.1.1.1 dev eth0 proto 77 metric 100")
		apply(t, k, routeChanges(netstate.RouteDelete, v6...)...)
		wantLines(t, "ip -6 route", h.IP("-6 route show table 100002"))
	})
}

func TestForeignRouteStays(t *testing.T) {
	t.Parallel()
	h := twoUplinks(t)
	h.IP("route add default via 10.1.1.9 dev eth0 table 100002 metric 100 proto static",
		"-6 route add default via 2001:db8:1::9 dev eth0 table 100002 metric 2000 proto static")
	inside(t, h, func(k *Kernel) {
		eth0 := linkNamed(t, refresh(t, k, full()), "eth0").Index
		ours := []netstate.Route{path4(100002, eth0, "10.1.1.1")[1], path6(100002, eth0, "2001:db8:1::1")[1]}
		for i, err := range k.Apply(routeChanges(netstate.RouteAdd, ours...)) {
			if !errors.Is(err, ErrForeign) || !errors.Is(err, unix.EEXIST) || MeaningOf(err) != InTheWay {
				t.Errorf("add beside a foreign route: %v", err)
			}
			t.Log(err)
			foreign := ours[i]
			foreign.Protocol = netstate.ProtoStatic
			if !slices.ContainsFunc(inTable(refresh(t, k, full()), 100002), func(r netstate.Route) bool { return r.Protocol == foreign.Protocol }) {
				t.Error("the foreign route is not in the snapshot")
			}
		}
		apply(t, k, routeChanges(netstate.RouteDelete, ours...)...)
	})
	wantLines(t, "ip -4 route", h.IP("-4 route show table 100002"), "default via 10.1.1.9 dev eth0 proto static metric 100")
	wantLines(t, "ip -6 route", h.IP("-6 route show table 100002"), "default via 2001:db8:1::9 dev eth0 proto static metric 2000 pref medium")
}

func TestRefusalsNameTheObject(t *testing.T) {
	t.Parallel()
	h := twoUplinks(t)
	inside(t, h, func(k *Kernel) {
		eth0 := linkNamed(t, refresh(t, k, full()), "eth0").Index
		bad := path4(100002, eth0, "192.0.2.1")[1]
		good := path4(100002, eth0, "10.1.1.1")[1]
		errs := k.Apply(append(routeChanges(netstate.RouteAdd, bad, good), appendRules(ruleSet(netip.MustParseAddr("10.1.1.2"), 100002))...))
		want := "add route default via 192.0.2.1 dev eth0 table 100002 proto 77 metric 100: network is unreachable (ENETUNREACH): Nexthop has invalid gateway"
		if errs[0] == nil || errs[0].Error() != want {
			t.Errorf("want:  %s\nfound: %v", want, errs[0])
		}
		if !errors.Is(errs[0], unix.ENETUNREACH) {
			t.Error("the error number is lost")
		}
		for _, err := range errs[1:] {
			if err != nil {
				t.Error(err)
			}
		}
	})
	wantLines(t, "ip route", h.IP("-4 route show table 100002"), "default via 10.1.1.1 dev eth0 proto 77 metric 100")
}
