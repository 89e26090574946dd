package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/subflowd/subflowd/test/lab"
)

// order says when somebody sets the host up: without subflowd at all, before it starts, or while it runs.
type order string

var orders = []order{"without", "before", "after"}

// arrangement is what an administrator sets up, and which ways out must follow from it in every order.
type arrangement struct {
	opts  []lab.Option
	setUp func(n *lab.Net)
	ways  []way
	check func(t *testing.T, n *lab.Net)
}

// inEveryOrder makes an arrangement without subflowd, before it and after it: what holds without it holds with it.
func inEveryOrder(t *testing.T, a arrangement) {
	t.Helper()
	for _, o := range orders {
		t.Run(string(o), func(t *testing.T) {
			t.Parallel()
			n := lab.TwoSubnets(t, a.opts...)
			start := func() *lab.Daemon {
				d := n.Client.Daemon()
				lab.Eventually(t, soon, "source rules", func() error { return n.CheckSourceRouting(n.B) })
				return d
			}
			switch o {
			case "without":
				a.setUp(n)
			case "before":
				a.setUp(n)
				d := n.Client.Daemon()
				settled(d)
			case "after":
				d := start()
				a.setUp(n)
				settled(d)
			}
			lab.Eventually(t, soon, "ways out", func() error { return checkWays(n.Client, a.ways) })
			if a.check != nil {
				a.check(t, n)
			}
			wantWays(n.Client, a.ways)
		})
	}
}

// TestUserRulesDecide: a static route, and rules of default and of our own priority, keep deciding for bound sockets.
func TestUserRulesDecide(t *testing.T) {
	t.Parallel()
	const from = "from 10.1.2.2"
	inEveryOrder(t, arrangement{
		setUp: func(n *lab.Net) {
			n.Router.IP("addr add 203.0.113.5/32 dev lo", "addr add 198.51.100.5/32 dev lo")
			n.Client.IP("route add 203.0.113.0/24 via 10.1.1.1 dev eth0",
				"route add default via 10.1.1.1 dev eth0 table 300",
				"rule add from 10.1.2.2 to 198.51.100.0/24 lookup 300",
				"rule add from 10.1.2.2 to 192.0.2.0/24 unreachable",
				"rule add fwmark 7 lookup 300",
				"rule add from 10.1.2.2 to 198.18.0.0/15 lookup 300 pref 32765",
				"rule add from 10.1.2.2 to 198.51.101.0/24 lookup 300 pref 32765")
		},
		ways: []way{
			{"203.0.113.5", from, "dev eth0 via 10.1.1.1"},
			{"198.51.100.5", from, "dev eth0 via 10.1.1.1"},
			{"192.0.2.5", from, "none"},
			{"198.18.0.5", from, "dev eth0 via 10.1.1.1"},
			{"198.51.101.5", from, "dev eth0 via 10.1.1.1"},
			{"10.9.0.2", from + " mark 7", "dev eth0 via 10.1.1.1"},
		},
		check: func(t *testing.T, n *lab.Net) {
			n.Client.NFT("add table inet watch", "add counter inet watch astray",
				"add chain inet watch out { type filter hook postrouting priority 300; }",
				`add rule inet watch out oifname "eth1" ip daddr { 203.0.113.0/24, 198.51.100.0/24 } counter name astray`)
			for _, dst := range []string{"203.0.113.5", "198.51.100.5"} {
				n.Router.Listen(dst+":80", lab.TCP())
				n.Client.Dial(dst+":80", lab.TCP(), lab.From("10.1.2.2")).WantEcho(soon)
			}
			if p := packets(n.Client, "astray"); p != 0 {
				t.Errorf("%d packets did not follow the administrator", p)
			}
			if err := n.Client.Ping("192.0.2.5", "10.1.2.2"); err == nil {
				t.Error("an answer from where the administrator forbids to go")
			}
		},
	})
}

// TestUserRulesDecideIPv6 is the same in short.
func TestUserRulesDecideIPv6(t *testing.T) {
	t.Parallel()
	const from = "from 2001:db8:2::2"
	inEveryOrder(t, arrangement{
		opts: []lab.Option{lab.IPv6Only()},
		setUp: func(n *lab.Net) {
			n.Client.IP("-6 route add 2001:db8:a::/64 via 2001:db8:1::1 dev eth0",
				"-6 route add default via 2001:db8:1::1 dev eth0 table 300",
				"-6 rule add from 2001:db8:2::2 to 2001:db8:b::/64 lookup 300",
				"-6 rule add from 2001:db8:2::2 to 2001:db8:c::/64 lookup 300 pref 32765")
		},
		ways: []way{
			{"2001:db8:a::5", from, "dev eth0 via 2001:db8:1::1"},
			{"2001:db8:b::5", from, "dev eth0 via 2001:db8:1::1"},
			{"2001:db8:c::5", from, "dev eth0 via 2001:db8:1::1"},
		},
	})
}

// TestWgQuickRules: the rules and the table that wg-quick makes for a full tunnel, which has a tun device here. What is
// bound to an address goes into the tunnel as without us, the networks on the links do not.
func TestWgQuickRules(t *testing.T) {
	t.Parallel()
	inEveryOrder(t, arrangement{
		opts: []lab.Option{lab.IPv6()},
		setUp: func(n *lab.Net) {
			lab.NewTunnel(n.Client, "wg0", n.Router, "wg0")
			n.Server.Listen("10.9.0.2:5002", lab.TCP())
			n.Client.IP("addr add 10.88.0.2/24 dev wg0",
				"addr add 2001:db8:88::2/64 dev wg0 nodad")
			for _, f := range []string{"-4", "-6"} {
				n.Client.IP(f+" route add default dev wg0 table 51820",
					f+" rule add not fwmark 51820 table 51820",
					f+" rule add table main suppress_prefixlength 0")
			}
		},
		ways: []way{
			{"10.9.0.2", "", "dev wg0"},
			{"10.9.0.2", "from 10.1.1.2", "dev wg0"},
			{"10.9.0.2", "from 10.1.2.2", "dev wg0"},
			{"10.1.1.77", "from 10.1.2.2", "dev eth0"},
			{"10.1.2.77", "from 10.1.2.2", "dev eth1"},
			{"10.9.0.2", "mark 51820", "dev eth0 via 10.1.1.1"},
			{"2001:db8:9::2", "", "dev wg0"},
			{"2001:db8:9::2", "from 2001:db8:2::2", "dev wg0"},
			{"2001:db8:1::77", "from 2001:db8:2::2", "dev eth0"},
			{"2001:db8:2::77", "from 2001:db8:2::2", "dev eth1"},
		},
		check: func(t *testing.T, n *lab.Net) {
			n.Client.NFT("add table inet watch", "add counter inet watch tunnel",
				"add chain inet watch out { type filter hook postrouting priority 300; }",
				`add rule inet watch out oifname "wg0" ip saddr 10.1.2.2 counter name tunnel`)
			n.Client.Dial("10.9.0.2:5002", lab.TCP(), lab.From("10.1.2.2")).WantEcho(soon)
			if p := packets(n.Client, "tunnel"); p == 0 {
				t.Error("no packet of the bound socket went into the tunnel")
			}
		},
	})
}

// TestErrorDefaultKeepsContainers: main's best default route is an error. Containers and the networks of main are still reached from
// bound sockets, and the status says what is going on.
func TestErrorDefaultKeepsContainers(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"unreachable", "blackhole", "prohibit"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			n := lab.TwoSubnets(t, lab.IPv6())
			web := containers(n, "br-web", "172.18.0.1/16", "2001:db8:77::1/64")
			n.Client.IP("route add 203.0.113.0/24 via 10.1.1.1 dev eth0")
			n.Client.IP("route add "+kind+" default metric 50", "-6 route add "+kind+" default metric 50")
			var ways []way
			for _, src := range []string{"", "from 10.1.1.2", "from 10.1.2.2"} {
				ways = append(ways, way{"172.18.0.2", src, "dev br-web"}, way{"10.1.1.77", src, "dev eth0"},
					way{"10.1.2.77", src, "dev eth1"}, way{"203.0.113.5", src, "dev eth0 via 10.1.1.1"})
			}
			for _, src := range []string{"", "from 2001:db8:1::2", "from 2001:db8:2::2"} {
				ways = append(ways, way{"2001:db8:77::2", src, "dev br-web"},
					way{"2001:db8:1::77", src, "dev eth0"}, way{"2001:db8:2::77", src, "dev eth1"})
			}
			ways = append(ways, way{n.ServerAddr, "", "none"}, way{n.ServerAddr6, "", "none"})
			wantWays(n.Client, ways) // the same without subflowd
			d := n.Client.Daemon()
			lab.Eventually(t, soon, "both uplinks", func() error {
				return checkWays(n.Client, []way{
					{n.ServerAddr, "from 10.1.1.2", "dev eth0 via 10.1.1.1"},
					{n.ServerAddr, "from 10.1.2.2", "dev eth1 via 10.1.2.1"},
					{n.ServerAddr6, "from 2001:db8:2::2", "dev eth1 via 2001:db8:2::1"},
				})
			})
			settled(d)
			wantWays(n.Client, ways)
			wantTalk(n, web, "172.18.0.2", "10.1.1.2", "10.1.2.2")
			wantTalk(n, web, "2001:db8:77::2", "2001:db8:1::2", "2001:db8:2::2")
			if err := checkCondition(n.Client, "error-default"); err != nil {
				t.Error(err)
			}
			n.Client.IP("route del "+kind+" default metric 50", "-6 route del "+kind+" default metric 50")
			lab.Eventually(t, soon, "the usual rules again", func() error { return checkPlain(n) })
			wantWays(n.Client, ways[:len(ways)-2])
		})
	}
}

// checkPlain tells whether both addresses of each family have the two rules of ordinary hosts.
func checkPlain(n *lab.Net) error {
	for _, p := range []*lab.Path{n.A, n.B} {
		for f, a := range map[string]string{"-4": p.Addr, "-6": p.Addr6} {
			if err := containsInOrder(n.Client.Rules(f), []string{
				"32765: from " + a + " lookup main suppress_prefixlength 0 proto 77",
				"32765: from " + a + " lookup " + tableOf(n.Client, p.Dev) + " proto 77",
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkCondition asks subflowctl for a condition of this code that says something.
func checkCondition(h *lab.Host, code string) error {
	var doc struct {
		Conditions []struct{ Code, Text string }
	}
	h.CtlJSON(&doc, "status")
	for _, c := range doc.Conditions {
		if c.Code == code && c.Text != "" {
			return nil
		}
	}
	return fmt.Errorf("no condition %q in the status: %+v", code, doc.Conditions)
}

// TestLocalMoved: the recipe for VRF moves the rule of local to our priority, in both families. The host's own
// addresses stay its own.
func TestLocalMoved(t *testing.T) {
	t.Parallel()
	own := []way{
		{"10.1.1.2", "from 10.1.2.2", "dev lo"},
		{"10.1.2.2", "from 10.1.2.2", "dev lo"},
		{"2001:db8:1::2", "from 2001:db8:2::2", "dev lo"},
		{"127.0.0.1", "", "dev lo"},
	}
	inEveryOrder(t, arrangement{
		opts: []lab.Option{lab.IPv6()},
		setUp: func(n *lab.Net) {
			n.Client.IP("-4 rule add from all lookup local pref 32765", "-6 rule add from all lookup local pref 32765",
				"-4 rule del pref 0", "-6 rule del pref 0")
		},
		ways: own,
		check: func(t *testing.T, n *lab.Net) {
			for _, a := range []struct{ src, dst, listen string }{
				{"10.1.2.2", "10.1.1.2", "10.1.1.2:80"}, {"2001:db8:2::2", "2001:db8:1::2", "[2001:db8:1::2]:80"},
			} {
				n.Client.Listen(a.listen, lab.TCP())
				n.Client.Dial(a.listen, lab.TCP(), lab.From(a.src)).WantEcho(soon)
			}
		},
	})
}

// TestRulesFlushed: `ip rule flush` takes everything but local, ours and main's. Ours come back at once, and behind what the
// administrator then adds; a connection in use survives. The same for our tables.
func TestRulesFlushed(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.IPv6())
	n.Client.Daemon()
	reach(n, n.A, n.B)
	n.Server.Listen("10.9.0.2:5001")
	c := n.Client.Dial("10.9.0.2:5001", lab.From(n.B.Addr))
	c.WantSubflows(n.A.Addr, n.B.Addr)
	stop := c.Talk(t, soon)
	damage := [][]string{
		{"-4 rule flush", "-6 rule flush"},
		{"-4 rule flush", "-6 rule flush", "-4 rule add lookup main pref 32766", "-6 rule add lookup main pref 32766", "-4 rule add lookup default pref 32767"},
		{"-4 route flush table " + tableOf(n.Client, "eth1"), "-6 route flush table " + tableOf(n.Client, "eth1")},
		{"-4 rule del from 10.1.2.2", "-6 rule del from 2001:db8:2::2"},
	}
	for _, commands := range damage {
		n.Client.IP(commands...)
		lab.Eventually(t, soon, "repaired after "+strings.Join(commands, ", "), func() error { return check(n, n.A, n.B) })
		if err := n.CheckUplinks("subflow", n.A, n.B); err != nil && !slices.Equal(commands, damage[0]) {
			t.Error(err)
		}
	}
	stop()
	c.WantSubflows(n.A.Addr, n.B.Addr)
}
