package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

// dial opens a connection that has the given subflows and stays in use: the changes happen under it. A subflow of a
// connection is tried once, so that one that comes proves that its endpoint did not come too early.
//
// It starts on the first of them. An endpoint that the connection started on stays while that subflow works: only the
// others are bound to their link, and stop with its routes.
func dial(n *lab.Net, server string, addrs ...string) *lab.Conn {
	n.T.Helper()
	n.Server.Listen(server)
	c := n.Client.Dial(server, lab.From(addrs[0]))
	c.WantSubflows(addrs...)
	c.Talk(n.T, soon)
	return c
}

func waitSubflows(n *lab.Net, c *lab.Conn, addrs ...string) {
	n.T.Helper()
	lab.Eventually(n.T, soon, "subflows", func() error { return c.CheckSubflows(addrs...) })
}

func TestAddressChanges(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.IPv6())
	n.Client.Daemon()
	reach(n, n.A, n.B)
	c := dial(n, "10.9.0.2:5001", n.A.Addr, n.B.Addr)
	c6 := dial(n, "[2001:db8:9::2]:5001", n.A.Addr6, n.B.Addr6)

	// The last IPv4 address of a link takes all its IPv4 routes with it, ours too, and the kernel tells nobody.
	n.Client.IP("addr del 10.1.2.2/24 dev eth1")
	lab.Eventually(t, soon, "eth1 without IPv4", func() error {
		return compare(slices.Concat(wanted(n, n.A), wanted6(n, n.B)), found(n.Client))
	})
	waitSubflows(n, c, n.A.Addr)
	n.B.Addr = "10.1.2.9"
	ordered := watchOrder(n.Client)
	n.B.AddIPv4()
	n.B.AddDefault()
	reach(n, n.A, n.B)
	ordered()
	waitSubflows(n, c, n.A.Addr, "10.1.2.9")
	leavesBy(n, n.B, "10.1.2.9", n.ServerAddr, n.B.Gateway)

	// With IPv6 the new address comes first, and the routes stay.
	n.B.Addr6 = "2001:db8:2::9"
	n.B.AddIPv6()
	n.Client.IP("-6 addr del 2001:db8:2::2/64 dev eth1")
	reach(n, n.A, n.B)
	waitSubflows(n, c6, n.A.Addr6, "2001:db8:2::9")
	leavesBy(n, n.B, "2001:db8:2::9", n.ServerAddr6)
}

func TestGatewayChanges(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.IPv6())
	n.Router.IP("addr add 10.1.2.254/24 dev r1", "addr add 2001:db8:2::fe/64 dev r1 nodad", "addr add 10.77.0.1/32 dev r1")
	n.Client.Daemon()
	reach(n, n.A, n.B)
	c := dial(n, "10.9.0.2:5001", n.A.Addr, n.B.Addr)
	before := c.Ends()

	n.Client.IP("route replace default via 10.1.2.254 dev eth1 metric 200",
		"-6 route replace default via 2001:db8:2::fe dev eth1 metric 200")
	n.B.Gateway, n.B.Gateway6 = "10.1.2.254", "2001:db8:2::fe"
	reach(n, n.A, n.B)
	leavesBy(n, n.B, n.B.Addr, n.ServerAddr)
	leavesBy(n, n.B, n.B.Addr6, n.ServerAddr6)

	// Another metric, the new route before the old one is gone.
	n.Client.IP("route add default via 10.1.2.254 dev eth1 metric 300")
	n.Client.IP("route del default via 10.1.2.254 dev eth1 metric 200")
	n.B.Metric = 300
	lab.Eventually(t, soon, "metric 300", func() error {
		return n.Client.CheckTable(tableOf(n.Client, "eth1"), "10.1.2.0/24 dev eth1 proto 77 scope link",
			"default via 10.1.2.254 dev eth1 proto 77 metric 300")
	})

	// A gateway outside of every prefix.
	n.Client.IP("route replace default via 10.77.0.1 dev eth1 onlink metric 300")
	lab.Eventually(t, soon, "gateway on the link", func() error {
		return n.Client.CheckTable(tableOf(n.Client, "eth1"), "10.1.2.0/24 dev eth1 proto 77 scope link",
			"default via 10.77.0.1 dev eth1 proto 77 metric 300 onlink")
	})
	leavesBy(n, n.B, n.B.Addr, n.ServerAddr)
	if after := c.Ends(); !slices.Equal(before, after) {
		t.Errorf("the subflows changed with the gateway:\n  before %q\n  after  %q", before, after)
	}
}

func TestRouteComesLate(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.IPv6(), lab.NoDefault("eth1"))
	n.Client.IP("addr del 10.1.2.2/24 dev eth1", "-6 addr del 2001:db8:2::2/64 dev eth1")
	n.Client.Daemon()
	reach(n, n.A)
	c := dial(n, "10.9.0.2:5001", n.A.Addr)
	c6 := dial(n, "[2001:db8:9::2]:5001", n.A.Addr6)

	n.B.AddIPv4()
	n.B.AddIPv6()
	lab.Never(t, 2*time.Second, "nothing for an address without a route", func() error { return check(n, n.A) })
	ordered := watchOrder(n.Client)
	n.B.AddDefault()
	n.B.AddDefault6()
	reach(n, n.A, n.B)
	ordered()
	waitSubflows(n, c, n.A.Addr, n.B.Addr)
	waitSubflows(n, c6, n.A.Addr6, n.B.Addr6)

	// And the route alone goes.
	n.Client.IP("route del default via 10.1.2.1 dev eth1 metric 200",
		"-6 route del default via 2001:db8:2::1 dev eth1 metric 200")
	reach(n, n.A)
	waitSubflows(n, c, n.A.Addr)
	waitSubflows(n, c6, n.A.Addr6)
}

func TestCable(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.IPv6())
	n.Client.Daemon()
	reach(n, n.A, n.B)
	c := dial(n, "10.9.0.2:5001", n.A.Addr, n.B.Addr)
	c6 := dial(n, "[2001:db8:9::2]:5001", n.A.Addr6, n.B.Addr6)
	bRules := func() (r []string) {
		for _, l := range found(n.Client) {
			if strings.Contains(l, " from "+n.B.Addr+" ") || strings.Contains(l, " from "+n.B.Addr6+" ") {
				r = append(r, l)
			}
		}
		return r
	}
	all := bRules()

	pulled := time.Now()
	n.B.Cut()
	lab.Eventually(t, soon, "endpoints of one link", func() error {
		return n.Client.CheckEndpoints(n.A.Addr+" subflow dev eth0", n.A.Addr6+" subflow dev eth0")
	})
	waitSubflows(n, c, n.A.Addr)
	waitSubflows(n, c6, n.A.Addr6)
	kept := bRules()
	switch in := time.Since(pulled); {
	case in >= 8*time.Second:
		t.Logf("the endpoints went and the rules were read after %v: too late to look at the grace", in)
	case !slices.Equal(kept, all):
		t.Errorf("%v after the carrier was lost: rules %q, wanted still %q", in, kept, all)
	}
	lab.Eventually(t, 30*time.Second, "no rules after the grace", func() error { return compare(nil, bRules()) })
	if in := time.Since(pulled); in < 9*time.Second {
		t.Errorf("the rules went %v after the carrier, wanted 10s", in)
	}
	// The address is reached, and answers, by the other link, as it would without us.
	n.Client.WantRoute(n.ServerAddr, "from "+n.B.Addr, "dev eth0 via 10.1.1.1")

	ordered := watchOrder(n.Client)
	n.B.Restore()
	reach(n, n.A, n.B)
	ordered()
	waitSubflows(n, c, n.A.Addr, n.B.Addr)
	waitSubflows(n, c6, n.A.Addr6, n.B.Addr6)
	leavesBy(n, n.B, n.B.Addr, n.ServerAddr)
}

// TestLinkDownAndUp takes a link down as an administrator does: the kernel flushes the IPv4 routes of every table
// without a word, and the IPv6 addresses; up brings back only the connected IPv4 route.
func TestLinkDownAndUp(t *testing.T) {
	t.Parallel()
	n := lab.OneSubnet(t, lab.IPv6(), lab.ArpIgnore())
	n.Client.Daemon()
	reach(n, n.A, n.B)
	c := dial(n, "10.9.0.2:5001", n.A.Addr, n.B.Addr)

	n.Client.IP("link set wlp3s0 down")
	lab.Eventually(t, soon, "one link", func() error { return checkAlone(n, n.A) })
	waitSubflows(n, c, n.A.Addr)
	n.Client.IP("link set wlp3s0 up")
	n.Client.WaitCarrier("wlp3s0", true)
	lab.Never(t, time.Second, "no path without a default route", func() error {
		return n.Client.CheckEndpoints(n.A.Addr+" subflow dev enp2s0", n.Client.Addrs6("enp2s0", true)[0]+" subflow dev enp2s0")
	})
	ordered := watchOrder(n.Client)
	n.B.AddDefault()
	n.B.AddIPv6()
	n.B.AddDefault6()
	reach(n, n.A, n.B)
	ordered()
	waitSubflows(n, c, n.A.Addr, n.B.Addr)
}

// checkAlone is check for one link of two in one subnet when the other is down: no prefix is shared.
func checkAlone(n *lab.Net, p *lab.Path) error {
	alone := wanted(n, p)
	alone = slices.DeleteFunc(alone, func(l string) bool { return strings.HasSuffix(l, " proto 78") })
	return compare(alone, found(n.Client))
}

func TestInterfaceReturns(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.IPv6())
	n.Client.Daemon()
	reach(n, n.A, n.B)
	c := dial(n, "10.9.0.2:5001", n.A.Addr, n.B.Addr)
	index := n.Client.Ifindex("eth1")

	n.Client.IP("link del eth1")
	reach(n, n.A)
	waitSubflows(n, c, n.A.Addr)

	ordered := watchOrder(n.Client)
	n.B.Link = lab.Veth(n.Client, "eth1", n.Router, "r1")
	n.Router.IP("addr add 10.1.2.1/24 dev r1", "addr add 2001:db8:2::1/64 dev r1 nodad")
	n.Client.WaitCarrier("eth1", true)
	if n.Client.Ifindex("eth1") == index {
		t.Fatalf("eth1 has index %d again: this shows nothing", index)
	}
	n.B.AddIPv4()
	n.B.AddIPv6()
	n.B.AddDefault()
	n.B.AddDefault6()
	reach(n, n.A, n.B)
	ordered()
	waitSubflows(n, c, n.A.Addr, n.B.Addr)
	leavesBy(n, n.B, n.B.Addr, n.ServerAddr)

	// Renamed, it is the same link: an endpoint is bound to the index.
	n.Client.IP("link set eth1 down", "link set eth1 name usb0", "link set usb0 up")
	n.Client.WaitCarrier("usb0", true)
	n.B.Dev, n.B.DevA = "usb0", "usb0"
	n.B.AddDefault()
	n.B.AddIPv6()
	n.B.AddDefault6()
	reach(n, n.A, n.B)
}

func TestTentativeAddress(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.IPv6Only(), lab.IPv6(), lab.DAD())
	n.Client.IP("-6 addr del 2001:db8:2::2/64 dev eth1")
	n.Client.Daemon()
	lab.Eventually(t, soon, "eth0 alone", func() error {
		if n.Client.Addrs6("eth0", false) == nil {
			return fmt.Errorf("no address")
		}
		return check(n, n.A)
	})
	c := dial(n, "[2001:db8:9::2]:5001", n.A.Addr6)

	// Three probes in place of one: tentative for three seconds. A slow machine has to be waited for twice: a look takes
	// many programs, and there are to be three while the address is tentative.
	n.Client.Sysctl("net.ipv6.conf.eth1.dad_transmits", fmt.Sprint(int(lab.Patient(lab.Patient(3*time.Second)).Seconds())))
	n.B.AddIPv6() // the default route was there all the time
	looks := 0
	lab.Eventually(t, soon, "the end of duplicate address detection", func() error {
		state := found(n.Client)
		if strings.Contains(n.Client.IP("-6 -o addr show dev eth1 tentative"), n.B.Addr6) {
			looks++
			if err := compare(wanted(n, n.A), state); err != nil {
				n.Dump()
				t.Fatalf("while %s is tentative: %v", n.B.Addr6, err)
			}
			return fmt.Errorf("still tentative")
		}
		return nil
	})
	if looks < 3 {
		t.Fatalf("the address was seen tentative %d times: this shows nothing", looks)
	}
	reach(n, n.A, n.B)
	waitSubflows(n, c, n.A.Addr6, n.B.Addr6)

	// An address that somebody else has stays tentative for ever.
	n.Router.IP("addr add 2001:db8:2::d/64 dev r1 nodad")
	n.Client.IP("-6 addr add 2001:db8:2::d/64 dev eth1")
	lab.Eventually(t, soon, "a duplicate address", func() error {
		if out := n.Client.IP("-6 -o addr show dev eth1 dadfailed"); !strings.Contains(out, "2001:db8:2::d/64") {
			return fmt.Errorf("dadfailed: %q", out)
		}
		return nil
	})
	lab.Never(t, 500*time.Millisecond, "nothing for a duplicate address", func() error { return check(n, n.A, n.B) })
}

// TestRouterExpires lets a router die: its default route expires, and the kernel keeps it for up to half a minute more
// and tells nobody. Another router's farewell takes the route away at once.
func TestRouterExpires(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.IPv6Only(), lab.SLAAC())
	for _, p := range []*lab.Path{n.A, n.B} {
		p.Gateway6 = routerOf(n, p)
	}
	n.Client.Daemon()
	reach(n, n.A, n.B)
	c := dial(n, "[2001:db8:9::2]:5001", n.Client.Addrs6("eth0", true)[0], n.Client.Addrs6("eth1", true)[0])

	short := n.B.RA()
	short.Lifetime = 6
	n.RA.Set(n.A.RA(), short)
	lab.Eventually(t, soon, "a short lifetime", func() error {
		out := n.Client.IP("-6 route show default dev eth1")
		for s := range 7 {
			if strings.Contains(out, fmt.Sprintf("expires %dsec", s)) {
				return nil
			}
		}
		return fmt.Errorf("%s", out)
	})
	if err := check(n, n.A, n.B); err != nil {
		t.Error(err)
	}
	n.RA.Kill() // with no farewell
	// 6 s, and what the machine needs; the kernel's own cleaning may take 30 s more.
	lab.Eventually(t, 20*time.Second, "no path behind a dead router", func() error { return check(n, n.A) })
	waitSubflows(n, c, n.Client.Addrs6("eth0", true)[0])

	n.RA = n.Router.Radvd(n.A.RA(), n.B.RA())
	reach(n, n.A, n.B)
	waitSubflows(n, c, n.Client.Addrs6("eth0", true)[0], n.Client.Addrs6("eth1", true)[0])

	gone := n.B.RA()
	gone.Lifetime = 0
	n.RA.Set(n.A.RA(), gone)
	reach(n, n.A)
}

// routerOf is the address that a path's router advertisements come from.
func routerOf(n *lab.Net, p *lab.Path) string {
	n.T.Helper()
	w := strings.Fields(n.Router.IP("-6 -o addr show dev " + p.DevB + " scope link"))
	if len(w) < 4 {
		n.T.Fatalf("%s of the router has no link-local address", p.DevB)
	}
	return strings.SplitN(w[3], "/", 2)[0]
}
