package managers

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/subflowd/subflowd/test/lab"
)

// address is one of a link, as ip(8) shows it.
type address struct {
	ip                    string
	temporary, deprecated bool
}

// addresses lists the usable global IPv6 addresses of a link, the newest first.
func (h *host) addresses(dev string) []address {
	h.T.Helper()
	var r []address
	for _, l := range strings.Split(h.Client.IP("-6 -o addr show dev "+dev+" scope global"), "\n") {
		w := strings.Fields(l)
		if len(w) < 4 || strings.Contains(l, " tentative") {
			continue
		}
		ip, _, _ := strings.Cut(w[3], "/")
		r = append(r, address{ip, strings.Contains(l, " temporary"), strings.Contains(l, " deprecated")})
	}
	return r
}

// slaac is the path of a link by router advertisements as the link is now, with these routes: each address has its rules; the endpoint is on
// a temporary address, not on a deprecated one, and stays where it is for as long as it may.
func (h *host) slaac(dev string, routes []string, defaults ...string) path {
	h.T.Helper()
	p := path{dev: dev, routes: routes}
	for _, d := range defaults {
		p.defaults = append(p.defaults, "via "+d)
	}
	endpoints := h.Client.Endpoints()
	rank := func(a address) int {
		switch {
		case a.deprecated:
			return 3
		case !a.temporary:
			return 2
		case !slices.Contains(endpoints, a.ip+" subflow dev "+dev):
			return 1
		}
		return 0
	}
	all := h.addresses(dev)
	slices.SortStableFunc(all, func(a, b address) int { return rank(a) - rank(b) })
	for _, a := range all {
		p.addrs = append(p.addrs, a.ip)
	}
	if len(p.addrs) == 0 {
		p.addrs = []string{"no address"}
	}
	return p
}

// onlink are the routes that the kernel makes of prefixes that are advertised.
func onlink(prefixes ...string) []string {
	r := []string{"fe80::/64 metric 256"}
	for _, p := range prefixes {
		r = append(r, p+" metric 256")
	}
	return r
}

// whole has a path want a stable and a temporary address of a prefix such as "2001:db8:2:", one of which has the endpoint.
// They are ready in an order that is left to chance.
func whole(prefix string, p path) path {
	n := 0
	for _, a := range p.addrs {
		if strings.HasPrefix(a, prefix) {
			n++
		}
	}
	if n != 2 || !strings.HasPrefix(p.addrs[0], prefix) {
		p.addrs = append([]string{"two of " + prefix}, p.addrs...)
	}
	return p
}

// v6 waits until the client is as the paths want it that f finds now, and returns the addresses of their endpoints.
func (h *host) v6(what string, f func() []path) []string {
	h.T.Helper()
	var addrs []string
	lab.Eventually(h.T, soon, what, func() error {
		paths := f()
		addrs = nil
		for _, p := range paths {
			addrs = append(addrs, p.addrs[0])
		}
		return h.check(paths...)
	})
	return addrs
}

// linkLocal is the address that router advertisements on a link of the router come from.
func (h *host) linkLocal(dev string) string {
	h.T.Helper()
	var r string
	lab.Eventually(h.T, soon, "a link-local address on "+dev, func() error {
		w := strings.Fields(h.Router.IP("-6 -o addr show dev " + dev + " scope link -tentative"))
		if len(w) < 4 {
			return fmt.Errorf("none")
		}
		r, _, _ = strings.Cut(w[3], "/")
		return nil
	})
	return r
}

// TestRouterAdvertisements renumbers a link and takes its router away.
func TestRouterAdvertisements(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.IPv6Only(), lab.DAD())
	h.Client.Daemon()
	r0, r1 := h.linkLocal("r0"), h.linkLocal("r1")
	ra := h.Router.Radvd(h.A.RA(), h.B.RA())
	one := onlink(h.B.Prefix6)
	eth0 := func() path { return h.slaac("eth0", onlink(h.A.Prefix6), r0) }
	addrs := h.v6("addresses by advertisement", func() []path {
		return []path{whole("2001:db8:1:", eth0()), whole("2001:db8:2:", h.slaac("eth1", one, r1))}
	})
	h.watch.log("advertisements, first", "eth0", addrs[0])
	h.watch.log("advertisements, first", "eth1", addrs[1])
	unbound, bound := h.Client.Dial("[2001:db8:9::2]:5001"), h.Client.Dial("[2001:db8:9::2]:5001", lab.From(addrs[1]))
	for _, c := range []*lab.Conn{unbound, bound} {
		c.WantSubflows(addrs...)
		c.Talk(t, soon)
	}
	alive := func(addrs []string) {
		t.Helper()
		h.subflows(unbound, addrs...)
		h.subflows(bound, addrs...)
	}

	h.Router.IP("addr add 2001:db8:22::1/64 dev r1 nodad")
	renumbered := h.B.RA()
	renumbered.Prefixes[0].Preferred = 0
	renumbered.Prefixes = append(renumbered.Prefixes, lab.RAPrefix{Prefix: "2001:db8:22::/64", Valid: 3600, Preferred: 1800})
	ra.Set(h.A.RA(), renumbered)
	two := onlink(h.B.Prefix6, "2001:db8:22::/64")
	addrs = h.v6("another prefix", func() []path {
		return []path{eth0(), whole("2001:db8:22:", h.slaac("eth1", two, r1))}
	})
	h.watch.log("advertisements, another prefix", "eth1", addrs[1])
	alive(addrs)

	away := renumbered
	away.Lifetime = 0
	ra.Set(h.A.RA(), away)
	addrs = h.v6("no router", func() []path { return []path{eth0()} })
	alive(addrs)

	ra.Set(h.A.RA(), renumbered)
	addrs = h.v6("the router again", func() []path { return []path{eth0(), h.slaac("eth1", two, r1)} })
	alive(addrs)
}

// TestTwoRouters has two routers on one link. One dies without a word, and comes back.
func TestTwoRouters(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.IPv6Only())
	h.Client.Daemon()
	h.Router.IP("link add r1b link r1 type macvlan mode bridge", "link set r1b up")
	r0, good, spare := h.linkLocal("r0"), h.linkLocal("r1"), h.linkLocal("r1b")
	h.Router.Radvd(h.A.RA(), lab.RA{Dev: "r1b", Lifetime: 1800, Preference: "low"})
	preferred := h.B.RA()
	preferred.Lifetime = 6
	preferred.Preference = "high"
	mortal := h.Router.Radvd(preferred)
	both := func() []path {
		return []path{
			h.slaac("eth0", onlink(h.A.Prefix6), r0),
			h.slaac("eth1", onlink(h.B.Prefix6), good+" pref high", spare+" metric 1025 pref low"),
		}
	}
	addrs := h.v6("two routers", both)
	c := h.Client.Dial("[2001:db8:9::2]:5001")
	c.WantSubflows(addrs...)
	c.Talk(t, soon)
	before := c.Subflows()

	mortal.Kill()
	h.v6("the other router", func() []path {
		return []path{h.slaac("eth0", onlink(h.A.Prefix6), r0), h.slaac("eth1", onlink(h.B.Prefix6), spare+" pref low")}
	})
	h.subflows(c, addrs...)
	if after := c.Subflows(); after[1].Local != before[1].Local {
		t.Errorf("the subflows changed with the router: before %v, after %v", before, after)
	}
	h.Router.Radvd(preferred)
	h.v6("two routers again", both)
	h.subflows(c, addrs...)
}

// TestTemporaryAddresses has the kernel make a new temporary address every few seconds, as it does every day.
func TestTemporaryAddresses(t *testing.T) {
	t.Parallel()
	h := newHost(t, lab.IPv6Only())
	for _, dev := range []string{"eth0", "eth1"} {
		conf := "net.ipv6.conf." + dev + "."
		h.Client.Sysctl(conf+"max_desync_factor", "0", conf+"temp_valid_lft", "16")
		h.Client.Sysctl(conf+"temp_prefered_lft", "7") //nolint:misspell // the kernel's
	}
	h.Client.Daemon()
	r0, r1 := h.linkLocal("r0"), h.linkLocal("r1")
	h.Router.Radvd(h.A.RA(), h.B.RA())
	now := func() []path {
		return []path{h.slaac("eth0", onlink(h.A.Prefix6), r0), h.slaac("eth1", onlink(h.B.Prefix6), r1)}
	}
	addrs := h.v6("temporary addresses", now)
	unbound, bound := h.Client.Dial("[2001:db8:9::2]:5001"), h.Client.Dial("[2001:db8:9::2]:5001", lab.From(addrs[1]))
	for _, c := range []*lab.Conn{unbound, bound} {
		c.WantEcho(soon)
		c.Talk(t, soon)
	}
	first := addrs
	for range 2 {
		old := addrs
		addrs = h.v6("new temporary addresses", func() []path {
			p := now()
			for i := range p {
				if p[i].addrs[0] == old[i] {
					p[i].addrs[0] = "another than " + old[i]
				}
			}
			return p
		})
	}
	lab.Eventually(t, soon, "the first addresses gone", func() error {
		for _, dev := range []string{"eth0", "eth1"} {
			for _, a := range h.addresses(dev) {
				if slices.Contains(first, a.ip) {
					return fmt.Errorf("%v", a)
				}
			}
		}
		return nil
	})
	h.v6("later", now)
	for _, c := range []*lab.Conn{unbound, bound} {
		lab.Eventually(t, soon, "subflows on both links", func() error {
			if n := len(c.SubflowAddrs()); n != 2 {
				return fmt.Errorf("%d: %v", n, c.Subflows())
			}
			return nil
		})
	}
}
