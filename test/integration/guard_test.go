package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

// vpn is a way to lead all traffic of a family into a tunnel.
type vpn struct {
	name     string
	six      bool
	up, down []string // commands of ip(8); a leading -4 or -6 counts
}

var vpns = []vpn{
	{
		"two halves", false,
		[]string{"route add 0.0.0.0/1 dev tun0", "route add 128.0.0.0/1 dev tun0"},
		[]string{"route del 128.0.0.0/1 dev tun0", "route del 0.0.0.0/1 dev tun0"},
	},
	{
		"rules with a mark", false, // in the order of wg-quick(8)
		[]string{"-4 rule add not fwmark 51820 table 51820", "-4 rule add table main suppress_prefixlength 0", "-4 route add 0.0.0.0/0 dev tun0 table 51820"},
		[]string{"-4 rule del table 51820", "-4 rule del table main suppress_prefixlength 0", "-4 route del 0.0.0.0/0 dev tun0 table 51820"},
	},
	{
		"a better metric", false,
		[]string{"route add default dev tun0 metric 50"},
		[]string{"route del default dev tun0 metric 50"},
	},
	{
		"IPv6 alone", true,
		[]string{"-6 route add ::/1 dev tun0", "-6 route add 8000::/1 dev tun0"},
		[]string{"-6 route del 8000::/1 dev tun0", "-6 route del ::/1 dev tun0"},
	},
}

func (v vpn) start(n *lab.Net) { n.Client.IP(v.up...) }
func (v vpn) stop(n *lab.Net)  { n.Client.IP(v.down...) }

func (v vpn) server() string {
	if v.six {
		return "[2001:db8:9::2]:5001"
	}
	return "10.9.0.2:5001"
}

// addr is a path's address in the family of the tunnel.
func (v vpn) addr(p *lab.Path) string {
	if v.six {
		return p.Addr6
	}
	return p.Addr
}

func (v vpn) tunnelAddr() string {
	if v.six {
		return "2001:db8:88::2"
	}
	return "10.88.0.2"
}

// lab makes a client with a tunnel through which nothing is led yet. Its other end takes nothing but packets from the
// tunnel's own addresses, as VPNs do, and what comes by the physical links is counted.
func (v vpn) lab(t *testing.T) *lab.Net {
	opts := []lab.Option{}
	if v.six {
		opts = append(opts, lab.IPv6())
	}
	n := lab.TwoSubnets(t, opts...)
	n.Server.Listen(v.server())
	n.VPN()
	n.Router.NFT("add table inet watch", "add counter inet watch beside",
		"add chain inet watch in { type filter hook prerouting priority -400; }",
		"add rule inet watch in iifname { r0, r1 } tcp dport 5001 counter name beside",
		"add rule inet watch in iifname tun0 ip saddr != 10.88.0.0/24 drop",
		"add rule inet watch in iifname tun0 ip6 saddr != 2001:db8:88::/64 drop")
	return n
}

// ways asks where the traffic of every address goes.
func (v vpn) ways(n *lab.Net) []way {
	dst, near := n.ServerAddr, "10.1.2.99"
	if v.six {
		dst, near = n.ServerAddr6, "2001:db8:2::99"
	}
	var r []way
	for _, s := range []string{
		"", "mark 51820", "oif eth0", "oif eth1", "from " + v.addr(n.A), "from " + v.addr(n.B),
		"from " + v.addr(n.A) + " oif eth1", "from " + v.addr(n.B) + " oif eth1", "from " + v.tunnelAddr(),
	} {
		for _, d := range []string{dst, near} {
			r = append(r, way{d, s, wayOut(n.Client, d, s)})
		}
	}
	return r
}

// wantNoneBeside checks that a connection through the tunnel stays in it: it is used for some time, and the physical
// links are watched.
func (v vpn) wantNoneBeside(n *lab.Net) {
	n.T.Helper()
	before := packets(n.Router, "beside")
	c := n.Client.Dial(v.server())
	defer c.Close()
	lab.Never(n.T, 1500*time.Millisecond, "the connection stays in the tunnel", func() error {
		if err := c.Echo(lab.Patient(soon)); err != nil {
			return err
		}
		if now := packets(n.Router, "beside"); now != before {
			return fmt.Errorf("%d packets by the physical links", now-before)
		}
		return c.CheckSubflows(v.tunnelAddr())
	})
}

// guarded tells whether the client has stepped aside.
func (v vpn) guarded(n *lab.Net, ways []way) error {
	for _, f := range []string{"-4", "-6"} {
		for _, l := range n.Client.Rules(f) {
			if ours(l) {
				return fmt.Errorf("rule %s", l)
			}
		}
	}
	if err := n.Client.CheckLimits("add_addr_accepted 0 subflows 0"); err != nil {
		return err
	}
	return checkWays(n.Client, ways)
}

// TestFullTunnel comes up while a connection uses both paths, and goes again.
func TestFullTunnel(t *testing.T) {
	t.Parallel()
	for _, v := range vpns {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			n := v.lab(t)
			v.start(n)
			ways := v.ways(n) // without subflowd
			v.stop(n)
			n.Client.Daemon()
			reach(n, n.A, n.B)

			live := n.Client.Dial(v.server())
			live.WantSubflows(v.addr(n.A), v.addr(n.B))
			initial := slices.DeleteFunc(live.Ends(), func(s string) bool { return !strings.Contains(s, v.addr(n.A)) })
			own := n.Client.Dial(v.server(), lab.From(v.addr(n.B)), lab.Dev("eth1")) // an application's own choice
			own.WantSubflows(v.addr(n.A), v.addr(n.B))

			v.start(n)
			begun := time.Now()
			lab.Eventually(t, soon, "nothing can join", func() error { return n.Client.CheckLimits("add_addr_accepted 0 subflows 0") })
			t.Logf("nothing can join after %v", time.Since(begun).Round(time.Millisecond))
			lab.Eventually(t, soon, "the client steps aside", func() error { return v.guarded(n, ways) })
			lab.Eventually(t, soon, "the second subflow is closed", func() error { return live.CheckSubflows(v.addr(n.A)) })
			if err := untouched(live, initial); err != nil {
				t.Error(err)
			}
			lab.Eventually(t, soon, "the application's own subflow stays alone", func() error { return own.CheckSubflows(v.addr(n.B)) })
			own.Close()
			answered := waiting(t, 4*time.Second, live)
			v.wantNoneBeside(n)
			if v.six { // nothing joins in the other family either
				n.Server.Listen("10.9.0.2:5001")
				n.Client.Dial("10.9.0.2:5001").WantSubflows(n.A.Addr)
			}
			if err := v.guarded(n, ways); err != nil {
				t.Error(err)
			}
			if all := conditionsOf(n.Client); !slices.Contains(all, "vpn-guard") {
				t.Errorf("conditions %v", all)
			}

			v.stop(n)
			answered()
			reach(n, n.A, n.B)
			lab.Eventually(t, soon, "the limits are back", func() error { return n.Client.CheckLimits(v.limits()) })
			lab.Eventually(t, soon, "the live connection uses both paths again", func() error {
				return live.CheckSubflows(v.addr(n.A), v.addr(n.B))
			})
			if err := untouched(live, initial); err != nil {
				t.Error(err)
			}
			n.Client.Dial(v.server()).WantSubflows(v.addr(n.A), v.addr(n.B))
		})
	}
}

func (v vpn) limits() string {
	if v.six {
		return "add_addr_accepted 4 subflows 4"
	}
	return "add_addr_accepted 4 subflows 2"
}

// TestTunnelBeforeDaemon is up when the daemon starts, is restarted, and stops.
func TestTunnelBeforeDaemon(t *testing.T) {
	t.Parallel()
	for _, v := range vpns {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			n := v.lab(t)
			v.start(n)
			ways := v.ways(n)
			d := n.Client.Daemon()
			lab.Eventually(t, soon, "the client steps aside", func() error { return v.guarded(n, ways) })
			v.wantNoneBeside(n)
			settled(d)
			n.Client.WantEndpoints()

			d.Stop()
			m := n.Client.Monitor()
			d = d.Restart()
			settled(d)
			m.WantNone()
			v.stop(n)
			reach(n, n.A, n.B)
			n.Client.Dial(v.server()).WantSubflows(v.addr(n.A), v.addr(n.B))

			v.start(n)
			lab.Eventually(t, soon, "the client steps aside", func() error { return v.guarded(n, ways) })
			d.Stop()
			if err := v.guarded(n, ways); err != nil {
				t.Errorf("after the stop: %v", err)
			}
			v.wantNoneBeside(n)
			if r := n.Client.Subflowd("--cleanup"); r.Code != 0 {
				t.Errorf("--cleanup: %+v", r)
			}
			n.Client.WantLimits("add_addr_accepted 0 subflows 2")
			n.Client.WantEndpoints()
		})
	}
}

// TestNoGuard: what the same connection does where nothing steps aside.
func TestNoGuard(t *testing.T) {
	t.Parallel()
	v := vpns[0]
	beside := func(t *testing.T, n *lab.Net) *lab.Conn {
		t.Helper()
		c := n.Client.Dial(v.server())
		c.WantSubflows(v.tunnelAddr(), n.A.Addr, n.B.Addr)
		if packets(n.Router, "beside") == 0 {
			t.Error("no packet by the physical links")
		}
		return c
	}
	t.Run("without subflowd", func(t *testing.T) {
		t.Parallel()
		n := v.lab(t)
		byHand(n)
		n.Client.IP("mptcp limits set subflows 3")
		v.start(n)
		beside(t, n)
	})
	t.Run("ignore", func(t *testing.T) {
		t.Parallel()
		n := v.lab(t)
		d := n.Client.DaemonConfig("vpn = \"ignore\"\nlimits = { subflows = 3, add_addr_accepted = 4 }\n")
		reach(n, n.A, n.B)
		v.start(n)
		settled(d)
		reach(n, n.A, n.B)
		c := beside(t, n)
		d.Configure("") // the default is to withdraw
		lab.Eventually(t, soon, "the client steps aside", func() error { return n.Client.CheckLimits("add_addr_accepted 0 subflows 0") })
		lab.Eventually(t, soon, "what was beside is closed", func() error { return c.CheckSubflows(v.tunnelAddr()) })
		v.wantNoneBeside(n)
	})
	t.Run("backup", func(t *testing.T) {
		t.Parallel()
		n := v.lab(t)
		n.Client.DaemonConfig("vpn = \"backup\"\nlimits = { subflows = 3, add_addr_accepted = 4 }\n")
		reach(n, n.A, n.B)
		v.start(n)
		lab.Eventually(t, soon, "all paths are backup", func() error {
			return n.Client.CheckEndpoints("10.1.1.2 backup subflow dev eth0", "10.1.2.2 backup subflow dev eth1")
		})
		beside(t, n)
		v.stop(n)
		reach(n, n.A, n.B)
	})
	t.Run("split tunnel", func(t *testing.T) {
		t.Parallel()
		n := v.lab(t)
		n.Client.Daemon()
		reach(n, n.A, n.B)
		live := n.Client.Dial(v.server())
		live.WantSubflows(n.A.Addr, n.B.Addr)
		before := live.Ends()
		n.Client.IP("route add 192.168.0.0/16 dev tun0", "route add 0.0.0.0/1 dev tun0", "route del 0.0.0.0/1 dev tun0",
			"route add 172.16.0.0/12 dev tun0")
		lab.Never(t, time.Second, "nothing steps aside", func() error {
			if err := untouched(live, before); err != nil {
				return err
			}
			return check(n, n.A, n.B)
		})
		n.Client.WantRoute("192.168.7.7", "from "+n.A.Addr, "dev tun0")
		n.Client.WantLimits("add_addr_accepted 4 subflows 2")
	})
}
