package lab

import (
	"fmt"
	"strings"
	"testing"
)

// Net is a client with two links, a router, and a server behind the router.
//
//	client eth0 ---- r0 router rs ---- eth0 server 10.9.0.2, 2001:db8:9::2
//	       eth1 ---- r1
type Net struct {
	*Lab
	Client, Router, Server *Host
	A, B                   *Path // the client's first and second link
	ServerAddr             string
	ServerAddr6            string
	RA                     *Radvd // only with SLAAC()
	V4, V6                 bool   // which families the client has
}

// Path is one link of the client with what belongs to it.
type Path struct {
	*Link
	Dev       string // on the client
	Addr      string // without prefix length; "10.1.1.2"
	Gateway   string
	Metric    int
	Addr6     string // set only where the address is fixed: IPv6()
	Gateway6  string
	Prefix6   string // "2001:db8:1::/64"
	routerDev string // holds the gateway's addresses: r0, or br0
}

type options struct {
	v6, slaac, bare, refuse, dad bool
	v4                           bool
	rate                         string
	noDefault                    map[string]bool
	sysctl                       []string
}

// Option changes a standard topology.
type Option func(*options)

// IPv6 adds fixed IPv6 addresses and gateways. In one subnet each link gets a temporary address besides, made by the
// kernel; Host.Addrs6 finds it.
func IPv6() Option { return func(o *options) { o.v6 = true } }

// SLAAC adds IPv6 by router advertisements (radvd) in place of fixed addresses, with temporary addresses.
func SLAAC() Option { return func(o *options) { o.v6, o.slaac = true, true } }

// IPv6Only leaves IPv4 out.
func IPv6Only() Option { return func(o *options) { o.v6, o.v4 = true, false } }

// Rate limits both paths in both directions, such as Rate("20mbit").
func Rate(rate string) Option { return func(o *options) { o.rate = rate } }

// NoDefault leaves out the default routes of a link of the client.
func NoDefault(dev string) Option { return func(o *options) { o.noDefault[dev] = true } }

// Bare gives the client links without addresses and routes, for DHCP and the like.
func Bare() Option { return func(o *options) { o.bare = true } }

// RefuseJoins makes the server refuse additional subflows, as load balancers do: its limits are zero.
func RefuseJoins() Option { return func(o *options) { o.refuse = true } }

// DAD has the client's IPv6 addresses tentative for about a second, as on a real link. Without it they are usable at once.
func DAD() Option { return func(o *options) { o.dad = true } }

// ClientSysctl sets pairs of name and value on the client before it has links.
func ClientSysctl(pairs ...string) Option {
	return func(o *options) { o.sysctl = append(o.sysctl, pairs...) }
}

// RPFilter sets the client's reverse path filter; without the option it is 0.
func RPFilter(v string) Option {
	return ClientSysctl("net.ipv4.conf.all.rp_filter", v, "net.ipv4.conf.default.rp_filter", v)
}

// ArpIgnore has each of the client's links answer ARP only for its own addresses. In one subnet, without it, both links
// answer for both addresses.
func ArpIgnore() Option { return ClientSysctl("net.ipv4.conf.all.arp_ignore", "1") }

// ArpFilter has a link answer ARP only for addresses whose route to the asker leaves by it: with source rules this
// cures two links in one subnet.
func ArpFilter() Option { return ClientSysctl("net.ipv4.conf.all.arp_filter", "1") }

// TwoSubnets makes the client of two subnets: eth0 10.1.1.2/24 gateway 10.1.1.1 metric 100, eth1 10.1.2.2/24 gateway
// 10.1.2.1 metric 200; with IPv6() 2001:db8:1::2/64 and 2001:db8:2::2/64 with gateways ::1.
func TwoSubnets(t testing.TB, opts ...Option) *Net {
	t.Helper()
	n, o := newNet(t, opts)
	n.A = &Path{
		Dev: "eth0", Addr: "10.1.1.2", Gateway: "10.1.1.1", Metric: 100,
		Addr6: "2001:db8:1::2", Gateway6: "2001:db8:1::1", Prefix6: "2001:db8:1::/64", routerDev: "r0",
	}
	n.B = &Path{
		Dev: "eth1", Addr: "10.1.2.2", Gateway: "10.1.2.1", Metric: 200,
		Addr6: "2001:db8:2::2", Gateway6: "2001:db8:2::1", Prefix6: "2001:db8:2::/64", routerDev: "r1",
	}
	n.wire(o, "r0", "r1")
	for _, p := range []*Path{n.A, n.B} {
		n.Router.IP("addr add " + p.Gateway + "/24 dev " + p.routerDev)
		n.Router.IP("addr add " + p.Gateway6 + "/64 dev " + p.routerDev + " nodad")
	}
	n.configure(o)
	return n
}

// OneSubnet makes the client with both links in one subnet: enp2s0 192.168.0.37/24 metric 100 and wlp3s0 192.168.0.43/24
// metric 600, gateway 192.168.0.1 for both, which is a bridge on the router; with IPv6() 2001:db8:1::37/64 and ::43/64,
// a temporary address on each, and the gateway fe80::1 for both.
func OneSubnet(t testing.TB, opts ...Option) *Net {
	t.Helper()
	n, o := newNet(t, opts)
	n.A = &Path{
		Dev: "enp2s0", Addr: "192.168.0.37", Gateway: "192.168.0.1", Metric: 100,
		Addr6: "2001:db8:1::37", Gateway6: "fe80::1", Prefix6: "2001:db8:1::/64", routerDev: "br0",
	}
	n.B = &Path{
		Dev: "wlp3s0", Addr: "192.168.0.43", Gateway: "192.168.0.1", Metric: 600,
		Addr6: "2001:db8:1::43", Gateway6: "fe80::1", Prefix6: "2001:db8:1::/64", routerDev: "br0",
	}
	n.wire(o, "r0", "r1")
	n.Router.IP("link add br0 type bridge", "link set br0 addrgenmode none", "link set br0 up",
		"link set r0 master br0", "link set r1 master br0",
		"addr add 192.168.0.1/24 dev br0", "addr add fe80::1/64 dev br0 nodad", "addr add 2001:db8:1::1/64 dev br0 nodad")
	n.Router.Sysctl("net.ipv4.conf.br0.rp_filter", "0")
	n.configure(o)
	return n
}

func newNet(t testing.TB, opts []Option) (*Net, *options) {
	t.Helper()
	o := &options{v4: true, noDefault: map[string]bool{}}
	for _, f := range opts {
		f(o)
	}
	l := New(t)
	n := &Net{
		Lab: l, Client: l.Host("client"), Router: l.Host("router"), Server: l.Host("server"),
		ServerAddr: "10.9.0.2", ServerAddr6: "2001:db8:9::2", V4: o.v4, V6: o.v6,
	}
	for _, h := range []*Host{n.Client, n.Router, n.Server} {
		if h != n.Client || !o.dad {
			h.Sysctl("net.ipv6.conf.default.accept_dad", "0", "net.ipv6.conf.default.dad_transmits", "0")
		}
		h.Sysctl("net.ipv4.conf.all.rp_filter", "0", "net.ipv4.conf.default.rp_filter", "0")
	}
	n.Router.Sysctl("net.ipv4.ip_forward", "1", "net.ipv6.conf.all.forwarding", "1",
		"net.ipv6.conf.all.keep_addr_on_down", "1", "net.ipv6.conf.default.keep_addr_on_down", "1",
		"net.ipv4.conf.all.send_redirects", "0", "net.ipv4.conf.default.send_redirects", "0")
	if o.v6 {
		n.Client.Sysctl("net.ipv6.conf.default.use_tempaddr", "2")
	}
	if len(o.sysctl) > 0 {
		n.Client.Sysctl(o.sysctl...)
	}
	return n, o
}

// wire joins the hosts and sets the server up.
func (n *Net) wire(o *options, ra, rb string) {
	n.T.Helper()
	n.A.Link = Veth(n.Client, n.A.Dev, n.Router, ra)
	n.B.Link = Veth(n.Client, n.B.Dev, n.Router, rb)
	Veth(n.Server, "eth0", n.Router, "rs")
	n.Router.IP("addr add 10.9.0.1/24 dev rs", "addr add 2001:db8:9::1/64 dev rs nodad")
	n.Server.IP("addr add 10.9.0.2/24 dev eth0", "addr add 2001:db8:9::2/64 dev eth0 nodad",
		"route add default via 10.9.0.1", "-6 route add default via 2001:db8:9::1")
	if o.refuse {
		n.Server.IP("mptcp limits set subflows 0 add_addr_accepted 0")
	} else {
		n.Server.IP("mptcp limits set subflows 8 add_addr_accepted 8")
	}
	if o.rate != "" {
		n.A.Rate(o.rate)
		n.B.Rate(o.rate)
	}
}

// configure gives the client its addresses and routes.
func (n *Net) configure(o *options) {
	n.T.Helper()
	n.Client.WaitCarrier(n.A.Dev, true)
	n.Client.WaitCarrier(n.B.Dev, true)
	if o.bare {
		return
	}
	for _, p := range []*Path{n.A, n.B} {
		def := !o.noDefault[p.Dev]
		if o.v4 {
			p.AddIPv4()
			if def {
				p.AddDefault()
			}
		}
		if o.v6 && !o.slaac {
			p.AddIPv6()
			if def {
				p.AddDefault6()
			}
			if !o.dad {
				// The kernel's worker may take a second to see that there is nothing to detect; a connect before that
				// goes out with the link-local address.
				n.Client.WaitAddr(p.Dev, p.Addr6)
			}
		}
	}
	if o.slaac {
		n.startRA()
	}
}

// AddIPv4 gives the client's link its address.
func (p *Path) AddIPv4() {
	p.A.Lab.T.Helper()
	p.A.IP(fmt.Sprintf("addr add %s/24 brd + dev %s", p.Addr, p.Dev))
}

// AddDefault adds the IPv4 default route, as after the link was down.
func (p *Path) AddDefault() {
	p.A.Lab.T.Helper()
	p.A.IP(fmt.Sprintf("route add default via %s dev %s metric %d", p.Gateway, p.Dev, p.Metric))
}

// AddIPv6 gives the client's link its fixed address, and in one subnet a temporary one besides.
func (p *Path) AddIPv6() {
	p.A.Lab.T.Helper()
	if p.routerDev == "br0" {
		p.A.IP(fmt.Sprintf("addr add %s/64 dev %s mngtmpaddr", p.Addr6, p.Dev))
		return
	}
	p.A.IP(fmt.Sprintf("addr add %s/64 dev %s", p.Addr6, p.Dev))
}

// AddDefault6 adds the IPv6 default route.
func (p *Path) AddDefault6() {
	p.A.Lab.T.Helper()
	p.A.IP(fmt.Sprintf("-6 route add default via %s dev %s metric %d", p.Gateway6, p.Dev, p.Metric))
}

// Blackhole has the router drop what comes by this path or goes to its address, without a word and with the carrier
// up; the gateway itself still answers. The path's fixed IPv4 and IPv6 addresses are meant.
func (p *Path) Blackhole() { p.blackhole("add") }

// Unblackhole ends Blackhole.
func (p *Path) Unblackhole() { p.blackhole("del") }

func (p *Path) blackhole(verb string) {
	p.A.Lab.T.Helper()
	for _, a := range []string{p.Addr, p.Addr6} {
		p.B.IP(family(a)+" rule "+verb+" from "+a+" blackhole pref 10", family(a)+" rule "+verb+" to "+a+" blackhole pref 10")
	}
}

// Addrs6 returns the usable global IPv6 addresses of a link, without prefix length: the temporary ones, or the others.
func (h *Host) Addrs6(dev string, temporary bool) []string {
	h.Lab.T.Helper()
	var r []string
	for _, l := range strings.Split(h.IP("-6 -o addr show dev "+dev+" scope global"), "\n") {
		w := strings.Fields(l)
		if len(w) < 4 || strings.Contains(l, " tentative") || strings.Contains(l, " deprecated") ||
			strings.Contains(l, " temporary") != temporary {
			continue
		}
		r = append(r, strings.SplitN(w[3], "/", 2)[0])
	}
	return r
}
