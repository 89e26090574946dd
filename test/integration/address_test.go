package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/subflowd/subflowd/test/lab"
)

// addressCase is one way in which a link can have addresses.
type addressCase struct {
	name string
	opts []lab.Option
	// have prepares the client before the daemon starts.
	have func(n *lab.Net)
	toml string
	// endpoints are all that there must be; "ADDRESS DEV", flags apart.
	endpoints []string
	// from are addresses with the way out that the rules must give them: "10.1.1.3 dev eth0 via 10.1.1.1".
	from []string
	// none have no rules.
	none []string
	// says is what subflowctl explain says of a link or an address, blanks apart.
	says map[string]string
	// joins are the addresses of which a connection must have a subflow each.
	joins []string
}

// TestAddressChoice judges by ip rule, ip route get, ip mptcp endpoint and real connections which addresses get what.
func TestAddressChoice(t *testing.T) {
	t.Parallel()
	const gw6 = "2001:db8:1::1"
	for _, c := range []addressCase{
		{
			name: "temporary, preferred", opts: []lab.Option{lab.IPv6Only(), lab.ClientSysctl("net.ipv6.conf.default.use_tempaddr", "2")},
			have:      func(n *lab.Net) { temporary(n) },
			endpoints: []string{"temporary eth0", "2001:db8:2::2 eth1"},
			from:      []string{"2001:db8:1::2 dev eth0 via " + gw6, "temporary dev eth0 via " + gw6},
			says:      map[string]string{"2001:db8:1::2": "endpoint none: temporary has the endpoint of eth0", "temporary": "on eth0, temporary"},
			joins:     []string{"temporary", "2001:db8:2::2"},
		},
		{
			name: "temporary, not preferred", opts: []lab.Option{lab.IPv6Only(), lab.ClientSysctl("net.ipv6.conf.default.use_tempaddr", "1")},
			have:      func(n *lab.Net) { temporary(n) },
			endpoints: []string{"2001:db8:1::2 eth0", "2001:db8:2::2 eth1"},
			from:      []string{"temporary dev eth0 via " + gw6},
			says:      map[string]string{"temporary": "endpoint none: 2001:db8:1::2 has the endpoint of eth0"},
			joins:     []string{"2001:db8:1::2", "2001:db8:2::2"},
		},
		{
			name: "deprecated beside another", opts: []lab.Option{lab.IPv6Only()},
			have: func(n *lab.Net) {
				n.Client.IP("addr change 2001:db8:1::2/64 dev eth0 preferred_lft 0 valid_lft forever", "addr add 2001:db8:1::7/64 dev eth0 nodad")
			},
			endpoints: []string{"2001:db8:1::7 eth0", "2001:db8:2::2 eth1"},
			from:      []string{"2001:db8:1::2 dev eth0 via " + gw6, "2001:db8:1::7 dev eth0 via " + gw6},
			says:      map[string]string{"2001:db8:1::2": "endpoint none: deprecated"},
			joins:     []string{"2001:db8:1::7", "2001:db8:2::2"},
		},
		{
			name: "deprecated, the only one", opts: []lab.Option{lab.IPv6Only()},
			have: func(n *lab.Net) {
				n.Client.IP("addr change 2001:db8:1::2/64 dev eth0 preferred_lft 0 valid_lft forever")
			},
			endpoints: []string{"2001:db8:1::2 eth0", "2001:db8:2::2 eth1"},
			from:      []string{"2001:db8:1::2 dev eth0 via " + gw6},
			joins:     []string{"2001:db8:1::2", "2001:db8:2::2"},
		},
		{
			name: "tentative", opts: []lab.Option{lab.IPv6()},
			have: func(n *lab.Net) {
				n.Client.Sysctl("net.ipv6.conf.eth0.accept_dad", "1", "net.ipv6.conf.eth0.dad_transmits", "120")
				n.Client.IP("addr del 2001:db8:1::2/64 dev eth0", "addr add 2001:db8:1::8/64 dev eth0")
			},
			endpoints: []string{"10.1.1.2 eth0", "10.1.2.2 eth1", "2001:db8:2::2 eth1"},
			none:      []string{"2001:db8:1::8"},
			says:      map[string]string{"2001:db8:1::8": "it is tentative", "eth0": "IPv6 no path: no usable address yet: 2001:db8:1::8 is tentative"},
		},
		{
			name: "dadfailed", opts: []lab.Option{lab.IPv6()},
			have: func(n *lab.Net) {
				n.Router.IP("addr add 2001:db8:1::8/64 dev r0 nodad")
				n.Client.Sysctl("net.ipv6.conf.eth0.accept_dad", "1", "net.ipv6.conf.eth0.dad_transmits", "1")
				n.Client.IP("addr add 2001:db8:1::8/64 dev eth0")
				lab.Eventually(n.T, soon, "dadfailed", func() error {
					if s := n.Client.IP("-6 addr show dev eth0"); !strings.Contains(s, "dadfailed") {
						return fmt.Errorf("%s", s)
					}
					return nil
				})
			},
			toml:      "[[link]]\nname = \"eth0\"\naddresses = \"all\"\n",
			endpoints: []string{"10.1.1.2 eth0", "10.1.2.2 eth1", "2001:db8:1::2 eth0", "2001:db8:2::2 eth1"},
			none:      []string{"2001:db8:1::8"},
			says:      map[string]string{"2001:db8:1::8": "another host on the link has it already"},
		},
		{
			name: "unique-local beside a global one", opts: []lab.Option{lab.IPv6Only()},
			have:      func(n *lab.Net) { uniqueLocal(n) },
			endpoints: []string{"2001:db8:1::2 eth0", "2001:db8:2::2 eth1"},
			from:      []string{"fd00:1::2 dev eth0 via " + gw6},
			joins:     []string{"2001:db8:1::2", "2001:db8:2::2"},
		},
		{
			name: "unique-local alone", opts: []lab.Option{lab.IPv6Only()},
			have: func(n *lab.Net) {
				uniqueLocal(n)
				n.Client.IP("addr del 2001:db8:1::2/64 dev eth0", "-6 route replace default via fd00:1::1 dev eth0 metric 100")
			},
			endpoints: []string{"2001:db8:2::2 eth1", "fd00:1::2 eth0"},
			from:      []string{"fd00:1::2 dev eth0 via fd00:1::1"},
			joins:     []string{"2001:db8:2::2", "fd00:1::2"},
		},
		{
			name: "unique-local, announced", opts: []lab.Option{lab.IPv6Only()},
			have:      func(n *lab.Net) { uniqueLocal(n) },
			toml:      "role = \"server\"\n[[link]]\nname = \"*\"\naddresses = \"all\"\n",
			endpoints: []string{"2001:db8:1::2 eth0", "2001:db8:2::2 eth1"},
			says:      map[string]string{"fd00:1::2": "endpoint none: private address: not signalled beside a public one"},
		},
		{
			name: "IPv4 link-local beside and alone",
			have: func(n *lab.Net) {
				n.Client.IP("addr add 169.254.7.7/16 dev eth0", "addr flush dev eth1", "addr add 169.254.8.8/16 dev eth1 scope global",
					"route add default via 169.254.8.1 dev eth1 metric 200")
			},
			toml:      "[[link]]\nname = \"*\"\naddresses = \"all\"\n",
			endpoints: []string{"10.1.1.2 eth0"},
			from:      []string{"10.1.1.2 dev eth0 via 10.1.1.1"},
			none:      []string{"169.254.7.7", "169.254.8.8"},
			says:      map[string]string{"169.254.7.7": "it is link-local", "eth1": "IPv4 no path: only a link-local address"},
		},
		{
			name: "secondary", have: func(n *lab.Net) { n.Client.IP("addr add 10.1.1.3/24 dev eth0") },
			endpoints: []string{"10.1.1.2 eth0", "10.1.2.2 eth1"},
			from:      []string{"10.1.1.2 dev eth0 via 10.1.1.1", "10.1.1.3 dev eth0 via 10.1.1.1"},
			says:      map[string]string{"10.1.1.3": "on eth0, secondary"},
			joins:     []string{"10.1.1.2", "10.1.2.2"},
		},
		{
			name: "secondary, preferred by the route",
			have: func(n *lab.Net) {
				n.Client.IP("addr add 10.1.1.3/24 dev eth0", "route replace default via 10.1.1.1 dev eth0 metric 100 src 10.1.1.3")
			},
			endpoints: []string{"10.1.1.3 eth0", "10.1.2.2 eth1"},
			from:      []string{"10.1.1.2 dev eth0 via 10.1.1.1", "10.1.1.3 dev eth0 via 10.1.1.1"},
			joins:     []string{"10.1.1.3", "10.1.2.2"},
		},
		{
			name: "virtual /32 before the link's own", have: func(n *lab.Net) {
				n.Client.IP("route del default dev eth0", "addr flush dev eth0", "addr add 10.1.1.100/32 dev eth0", "addr add 10.1.1.2/24 dev eth0")
				n.A.AddDefault()
			},
			endpoints: []string{"10.1.1.2 eth0", "10.1.2.2 eth1"},
			from:      []string{"10.1.1.100 dev eth0 via 10.1.1.1", "10.1.1.2 dev eth0 via 10.1.1.1"},
			joins:     []string{"10.1.1.2", "10.1.2.2"},
		},
		{
			name: "virtual /32, all addresses", have: func(n *lab.Net) { n.Client.IP("addr add 10.1.1.100/32 dev eth0") },
			toml:      "[[link]]\nname = \"eth0\"\naddresses = \"all\"\n",
			endpoints: []string{"10.1.1.100 eth0", "10.1.1.2 eth0", "10.1.2.2 eth1"},
			from:      []string{"10.1.1.100 dev eth0 via 10.1.1.1"},
			joins:     []string{"10.1.1.100", "10.1.1.2", "10.1.2.2"},
		},
		{
			name: "DHCPv6 /128 without an on-link prefix", opts: []lab.Option{lab.IPv6Only()},
			have: func(n *lab.Net) {
				n.Router.IP("addr add fe80::1/64 dev r0 nodad", "-6 route add 2001:db8:77::128 dev r0")
				n.Client.IP("-6 route flush dev eth0 proto boot", "addr del 2001:db8:1::2/64 dev eth0", "addr add 2001:db8:77::128/128 dev eth0 nodad",
					"-6 route add default via fe80::1 dev eth0 metric 100 proto ra")
			},
			endpoints: []string{"2001:db8:2::2 eth1", "2001:db8:77::128 eth0"},
			from:      []string{"2001:db8:77::128 dev eth0 via fe80::1"},
			joins:     []string{"2001:db8:2::2", "2001:db8:77::128"},
		},
		{
			name: "point-to-point, a tunnel by configuration", have: func(n *lab.Net) { peered(n) },
			toml:      "[[link]]\nname = \"tun*\"\nuplink = true\n",
			endpoints: []string{"10.1.1.2 eth0", "10.1.2.2 eth1", "10.88.0.2 tun0"},
			from:      []string{"10.88.0.2 dev tun0"},
			none:      []string{"10.88.0.1"},
			says:      map[string]string{"tun0": "uplink true [[link]] in subflowd.toml:1", "10.88.0.2": "peer 10.88.0.1"},
			joins:     []string{"10.1.1.2", "10.1.2.2", "10.88.0.2"},
		},
		{
			name: "point-to-point, a tunnel without configuration", have: func(n *lab.Net) { peered(n) },
			endpoints: []string{"10.1.1.2 eth0", "10.1.2.2 eth1"},
			none:      []string{"10.88.0.2"},
			says:      map[string]string{"tun0": "IPv4 no path: tunnel (tun): a path only with uplink = true"},
		},
		{
			name: "the same address on two links", have: func(n *lab.Net) {
				n.Client.IP("addr add 10.1.1.2/24 dev eth1", "route del 10.1.1.0/24 dev eth1")
			},
			endpoints: []string{"10.1.1.2 eth0", "10.1.2.2 eth1"},
			from:      []string{"10.1.1.2 dev eth0 via 10.1.1.1", "10.1.2.2 dev eth1 via 10.1.2.1"},
			says: map[string]string{
				"10.1.1.2": "is on eth0 and on eth1; only eth0 uses it", "eth1": "eth0 has the same address and the better path",
			},
			joins: []string{"10.1.1.2", "10.1.2.2"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t)
		})
	}
}

func (c addressCase) run(t *testing.T) {
	n := lab.TwoSubnets(t, c.opts...)
	c.have(n)
	own := ""
	if a := n.Client.Addrs6("eth0", true); len(a) > 0 {
		own = a[0]
	}
	// Of a temporary address only the kernel knows the number.
	name := func(s string) string {
		if own == "" || strings.HasPrefix(s, "on ") {
			return s
		}
		return strings.ReplaceAll(s, "temporary", own)
	}
	d := n.Client.DaemonConfig(c.toml)
	var want []string
	for _, e := range c.endpoints {
		want = append(want, name(e))
	}
	slices.Sort(want)
	lab.Eventually(t, soon, "endpoints", func() error {
		var got []string
		for _, e := range n.Client.Endpoints() {
			w := strings.Fields(e)
			got = append(got, w[0]+" "+w[len(w)-1])
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			return fmt.Errorf("%q, wanted %q", got, want)
		}
		return nil
	})
	settled(d)
	for _, f := range c.from {
		addr, way, _ := strings.Cut(name(f), " ")
		dst := n.ServerAddr
		if strings.Contains(addr, ":") {
			dst = n.ServerAddr6
		}
		n.Client.WantRoute(dst, "from "+addr, way)
	}
	rules := strings.Join(append(n.Client.Rules("-4"), n.Client.Rules("-6")...), "\n")
	for _, a := range c.none {
		if strings.Contains(rules, "from "+a+" ") {
			t.Errorf("%s has rules:\n%s", a, rules)
		}
	}
	for what, says := range c.says {
		r := n.Client.Ctl("explain", name(what))
		if !strings.Contains(strings.Join(strings.Fields(r.Stdout), " "), name(says)) {
			t.Errorf("explain %s: exit status %d, does not say %q\n%s%s", what, r.Code, says, r.Stdout, r.Stderr)
		}
	}
	if len(c.joins) > 0 {
		var from []string
		for _, a := range c.joins {
			from = append(from, name(a))
		}
		server := "10.9.0.2:5001"
		if strings.Contains(from[0], ":") {
			server = "[2001:db8:9::2]:5001"
		}
		n.Server.Listen(server)
		conn := n.Client.Dial(server, lab.From(from[0]))
		conn.WantEcho(soon)
		conn.WantSubflows(from...)
		conn.WantEcho(soon)
	}
	d.Stop()
}

// temporary gives eth0 a temporary address beside its own.
func temporary(n *lab.Net) {
	n.Client.IP("addr del 2001:db8:1::2/64 dev eth0", "addr add 2001:db8:1::2/64 dev eth0 mngtmpaddr")
	lab.Eventually(n.T, soon, "a temporary address", func() error {
		if a := n.Client.Addrs6("eth0", true); len(a) == 0 {
			return fmt.Errorf("%s", n.Client.IP("-6 addr show dev eth0"))
		}
		return nil
	})
}

// uniqueLocal gives eth0 a unique-local address beside its own, and the router one to reach it.
func uniqueLocal(n *lab.Net) {
	n.Router.IP("addr add fd00:1::1/64 dev r0 nodad")
	n.Client.IP("addr add fd00:1::2/64 dev eth0 nodad")
}

// TestUniqueLocalFirst has the order of every second boot: of two addresses from one advertisement the unique-local one
// is ready first. The global one gets the endpoint all the same, and a connection its second path.
func TestUniqueLocalFirst(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.IPv6Only())
	n.Router.IP("addr add fd00:2::1/64 dev r1 nodad")
	n.Client.IP("addr add fd00:2::2/64 dev eth1 nodad", "addr del 2001:db8:2::2/64 dev eth1")
	d := n.Client.Daemon()
	d.WaitSocket()
	wants := func(addr string) {
		t.Helper()
		lab.Eventually(t, soon, "endpoints", func() error {
			return n.Client.CheckEndpoints("2001:db8:1::2 subflow dev eth0", addr+" subflow dev eth1")
		})
	}
	wants("fd00:2::2")
	n.Client.IP("addr add 2001:db8:2::2/64 dev eth1 nodad")
	wants("2001:db8:2::2")
	n.Server.Listen("[2001:db8:9::2]:5001")
	n.Client.Dial("[2001:db8:9::2]:5001").WantSubflows("2001:db8:1::2", "2001:db8:2::2")
}

// peered joins client and router by a tunnel with an address at each end.
func peered(n *lab.Net) {
	lab.NewTunnel(n.Client, "tun0", n.Router, "tun0")
	n.Client.IP("addr add 10.88.0.2 peer 10.88.0.1 dev tun0")
	n.Router.IP("addr add 10.88.0.1 peer 10.88.0.2 dev tun0")
}

// TestAddressMovesToTheOtherLink takes an address that two links have away from the one that uses it: its rules follow at
// once, the endpoint when no connection needs it.
func TestAddressMovesToTheOtherLink(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	n.Client.IP("addr add 10.1.1.2/24 dev eth1", "route del 10.1.1.0/24 dev eth1")
	d := n.Client.Daemon()
	lab.Eventually(t, soon, "endpoints", func() error {
		return n.Client.CheckEndpoints("10.1.1.2 subflow dev eth0", "10.1.2.2 subflow dev eth1")
	})
	n.Client.WantRoute(n.ServerAddr, "from 10.1.1.2", "dev eth0 via 10.1.1.1")
	n.Client.IP("addr del 10.1.1.2/24 dev eth0")
	lab.Eventually(t, soon, "the way by eth1", func() error {
		return n.Client.CheckRoute(n.ServerAddr, "from 10.1.1.2", "dev eth1 via 10.1.2.1")
	})
	lab.Eventually(t, soon, "the endpoints of eth1 alone", func() error {
		return n.Client.CheckEndpoints("10.1.2.2 subflow dev eth1")
	})
	settled(d)
	if r := n.Client.Ctl("explain", "10.1.1.2"); !strings.Contains(r.Stdout, "10.1.2.2 has the endpoint of eth1") {
		t.Errorf("explain 10.1.1.2:\n%s", r.Stdout)
	}
	d.Stop()
}
