//go:build kinds

package kinds

import (
	"errors"
	"strings"
	"testing"

	"github.com/subflowd/subflowd/test/lab"
)

// TestDummy has an address on a dummy link, as servers and routers keep the address of a service: nothing leads outside by
// it, so there is nothing for it, and what is bound to the address goes where it went.
func TestDummy(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.IPv6())
	n.Client.IP("link add dummy0 type dummy", "addr add 10.99.0.1/32 dev dummy0", "addr add 2001:db8:99::1/128 dev dummy0 nodad", "link set dummy0 up")
	n.Router.IP("route add 10.99.0.1/32 via "+n.A.Addr, "-6 route add 2001:db8:99::1/128 via "+n.A.Addr6)
	d := n.Client.Daemon()
	wantPaths(n, n.A, n.B)
	isNoPath(n, d, "dummy0", "no default route")
	for _, f := range []string{"-4", "-6"} {
		for _, rule := range n.Client.Rules(f) {
			if strings.Contains(rule, "10.99.0.1") || strings.Contains(rule, "2001:db8:99::1") {
				t.Errorf("a rule for an address that leads nowhere: %s", rule)
			}
		}
	}
	n.Client.WantRoute(n.ServerAddr, "from 10.99.0.1", "dev eth0 via "+n.A.Gateway)
	n.Client.WantRoute(n.ServerAddr6, "from 2001:db8:99::1", "dev eth0 via "+n.A.Gateway6)
	n.Server.Listen(n.ServerAddr + ":5001")
	c := n.Client.Dial(n.ServerAddr+":5001", lab.From("10.99.0.1"))
	c.WantEcho(soon)
	// It gets the paths besides, and stays.
	c.WantSubflows("10.99.0.1", n.A.Addr, n.B.Addr)
	n.Client.IP("link set dummy0 down", "link set dummy0 up", "link del dummy0")
	wantPaths(n, n.A, n.B)
}

// TestPPP has a third path by pppd over a pty, as a modem has: point-to-point, no gateway, no neighbour, and gone without a
// trace when the line drops.
func TestPPP(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	lab.Need(t, "pppd")
	const local, remote = "10.64.0.2", "10.64.0.1"
	common := "nodetach noauth local nobsdcomp nodeflate nocrtscts nodefaultroute lcp-echo-interval 0"
	path := &lab.Path{Link: &lab.Link{A: n.Client, B: n.Router, DevA: "ppp0", DevB: "ppp0"}, Dev: "ppp0", Addr: local, Metric: 300}
	callUp := func() *lab.Proc {
		t.Helper()
		args := append(strings.Fields(common), local+":"+remote,
			"pty", "ip netns exec "+n.Router.NS+" pppd "+common+" notty "+remote+":"+local)
		p := n.Client.Start("pppd", args...)
		lab.Eventually(t, soon, "the line", func() error {
			if !p.Running() {
				t.Fatalf("pppd ended:\n%s", p.Log())
			}
			if out, err := n.Client.TryIP("-4 -o addr show dev ppp0"); err != nil || !strings.Contains(out, local+" peer "+remote+"/32") {
				return errors.Join(err, errors.New("no address on ppp0: "+out+p.Log()))
			}
			// It has its address before it is up, and the router has the other end's by every link.
			return n.Client.Ping(remote, "ppp0")
		})
		n.Client.IP("route add default dev ppp0 metric 300")
		return p
	}
	line := callUp()
	n.Client.Daemon()
	wantPaths(n, n.A, n.B, path)
	leavesBy(n, path, n.A, n.B)
	n.Server.Listen(n.ServerAddr + ":5001")
	c := dial(n, n.A, n.B, path)

	index := n.Client.Ifindex("ppp0")
	line.Stop()
	wantPaths(n, n.A, n.B)
	wantSubflows(n, c, n.A, n.B)
	callUp()
	if n.Client.Ifindex("ppp0") == index {
		t.Errorf("ppp0 has index %d again: this shows nothing", index)
	}
	wantPaths(n, n.A, n.B, path)
	wantSubflows(n, c, n.A, n.B, path)
}
