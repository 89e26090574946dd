package managers

import (
	"fmt"
	"strings"
	"testing"

	"github.com/subflowd/subflowd/test/lab"
)

// TestBothFamilies has managers that take router advertisements themselves, beside DHCP, renumber a link in IPv6 and lose
// its router, while IPv4 goes on.
func TestBothFamilies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		start   func(h *host)
		metrics [2]int // of eth0 and eth1
		local   string // the route of link-local addresses
		host    bool   // a route to the router besides
	}{
		{
			"NetworkManager", func(h *host) {
				h.Client.NetworkManager(map[string]string{"90-subflowd.conf": snippet(h.T, "networkmanager.conf")})
				for _, dev := range []string{"eth0", "eth1"} {
					h.nmcli("connection", "add", "type", "ethernet", "ifname", dev, "con-name", dev, "ipv6.ip6-privacy", "2")
					h.Client.WaitAddr(dev, map[string]string{"eth0": h.A.Addr, "eth1": h.B.Addr}[dev])
				}
			}, [2]int{100, 101}, "fe80::/64", false,
		},
		{
			"systemd-networkd", func(h *host) {
				files := map[string]string{"90-subflowd.conf": snippet(h.T, "networkd.conf")}
				for dev, metric := range map[string]int{"eth0": 100, "eth1": 600} {
					files["10-"+dev+".network"] = fmt.Sprintf("[Match]\nName=%s\n[Network]\nDHCP=ipv4\nIPv6AcceptRA=yes\nIPv6PrivacyExtensions=yes\n"+
						"[DHCPv4]\nRouteMetric=%[2]d\n[IPv6AcceptRA]\nRouteMetric=%[2]d\n", dev, metric)
				}
				h.Client.Networkd(files)
			}, [2]int{100, 600}, "fe80::/64 metric 256", true,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			// What the kernel took from an advertisement before the manager came would stay.
			h := newHost(t, lab.IPv6(), lab.DAD(), lab.ClientSysctl("net.ipv6.conf.default.accept_ra", "0"))
			h.Client.Daemon()
			h.Router.DHCP("r0", "10.1.1.2", "10.1.1.1")
			h.Router.DHCP("r1", "10.1.2.2", "10.1.2.1")
			r0, r1 := h.linkLocal("r0"), h.linkLocal("r1")
			c.start(h)
			ra := h.Router.Radvd(h.A.RA(), h.B.RA())

			var four []path
			for i, p := range []*lab.Path{h.A, h.B} {
				metric := fmt.Sprint(" scope link metric ", c.metrics[i])
				routes := []string{p.Addr[:strings.LastIndexByte(p.Addr, '.')] + ".0/24" + metric}
				if c.host {
					routes = append(routes, p.Gateway+metric)
				}
				four = append(four, v4(p.Dev, p.Addr, p.Gateway, c.metrics[i], routes...))
			}
			six := func(i int, dev, router string, prefixes ...string) path {
				metric := fmt.Sprint(" metric ", c.metrics[i])
				routes := []string{c.local}
				for _, p := range prefixes {
					routes = append(routes, p+metric)
				}
				newest := strings.TrimSuffix(prefixes[len(prefixes)-1], ":/64")
				return whole(newest, h.slaac(dev, routes, router+metric))
			}
			eth0 := func() path { return six(0, "eth0", r0, h.A.Prefix6) }
			addrs := h.v6("both families", func() []path {
				return append([]path{eth0(), six(1, "eth1", r1, h.B.Prefix6)}, four...)
			})
			h.watch.log(c.name+", advertisements", "eth0", addrs[0])
			h.watch.log(c.name+", advertisements", "eth1", addrs[1])
			by4, by6 := h.Client.Dial("10.9.0.2:5001"), h.Client.Dial("[2001:db8:9::2]:5001", lab.From(addrs[1]))
			by4.WantSubflows("10.1.1.2", "10.1.2.2")
			by6.WantSubflows(addrs[:2]...)
			by4.Talk(t, soon)
			by6.Talk(t, soon)

			h.Router.IP("addr add 2001:db8:22::1/64 dev r1 nodad")
			renumbered := h.B.RA()
			renumbered.Prefixes[0].Preferred = 0
			renumbered.Prefixes = append(renumbered.Prefixes, lab.RAPrefix{Prefix: "2001:db8:22::/64", Valid: 3600, Preferred: 1800})
			ra.Set(h.A.RA(), renumbered)
			addrs = h.v6("another prefix", func() []path {
				return append([]path{eth0(), six(1, "eth1", r1, h.B.Prefix6, "2001:db8:22::/64")}, four...)
			})
			h.watch.log(c.name+", another prefix", "eth1", addrs[1])
			h.subflows(by6, addrs[:2]...)

			renumbered.Lifetime = 0
			ra.Set(h.A.RA(), renumbered)
			addrs = h.v6("no router", func() []path { return append([]path{eth0()}, four...) })
			h.subflows(by6, addrs[0])
			h.subflows(by4, "10.1.1.2", "10.1.2.2")
		})
	}
}
