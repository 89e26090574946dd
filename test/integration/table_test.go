package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/subflowd/subflowd/test/lab"
)

// TestLargeTable changes the second link's address and default route beside 20,000 routes of a routing daemon and 3,000
// of an administrator, which the daemon does not walk for that: what it holds of main is patched by what events say.
func TestLargeTable(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	neighbour := n.Host("neighbour")
	lab.Veth(n.Client, "lan0", neighbour, "eth0") // no default route: no uplink
	n.Client.IP("addr add 10.200.0.1/24 dev lan0")
	d := n.Client.Daemon()
	reach(n, n.A, n.B)
	c := dial(n, "10.9.0.2:5001", n.A.Addr, n.B.Addr)
	right := func(what string) {
		t.Helper()
		lab.Eventually(t, soon, what, func() error { return check(n, n.A, n.B) })
		waitSubflows(n, c, n.A.Addr, n.B.Addr)
		if w := wayOut(n.Client, n.ServerAddr, "from "+n.B.Addr); !strings.Contains(w, n.B.Dev) {
			t.Errorf("%s: from %s by %q", what, n.B.Addr, w)
		}
	}

	change := func(verb string) {
		t.Helper()
		var b strings.Builder
		for i := range 15000 {
			fmt.Fprintf(&b, "route %s 100.%d.%d.0/24 via %s dev %s proto bgp\n", verb, i/250, i%250, n.A.Gateway, n.A.Dev)
		}
		for i := range 5000 { // these go with the link's last address, and nobody says so
			fmt.Fprintf(&b, "route %s 101.%d.%d.0/24 via %s dev %s proto bgp\n", verb, i/250, i%250, n.B.Gateway, n.B.Dev)
		}
		for i := range 3000 {
			fmt.Fprintf(&b, "route %s 102.%d.%d.0/24 via 10.200.0.2 dev lan0\n", verb, i/250, i%250)
		}
		ipBatch(n.Client, b.String())
	}
	change("replace")
	settled(d)
	right("the client beside a large table")
	if w := wayOut(n.Client, "101.3.7.9", "from "+n.A.Addr); !strings.Contains(w, n.B.Dev) {
		t.Errorf("main's specific routes come first; found %q", w)
	}

	def := fmt.Sprintf("default via %s dev %s metric %d", n.B.Gateway, n.B.Dev, n.B.Metric)
	for range 3 {
		n.Client.IP("route del " + def)
		reach(n, n.A)
		waitSubflows(n, c, n.A.Addr)
		n.Client.IP("route add " + def)
		right("the default route back")
	}
	for _, addr := range []string{"10.1.2.9", "10.1.2.2"} {
		n.Client.IP("addr del " + n.B.Addr + "/24 dev " + n.B.Dev)
		reach(n, n.A)
		waitSubflows(n, c, n.A.Addr)
		n.B.Addr = addr
		n.B.AddIPv4()
		n.B.AddDefault()
		right("another address")
	}

	// The routes that went with the address come back, and a daemon that starts beside them changes nothing.
	change("replace")
	settled(d)
	right("all routes back")
	before := n.Client.Settled()
	d.Kill()
	d = n.Client.Daemon()
	settled(d)
	if after := n.Client.Settled(); after != before {
		t.Errorf("a restart changed:\n%s", lab.Diff(before, after))
	}
	change("del")
	settled(d)
	right("the client without the large table")
}

// ipBatch runs commands of ip(8) at once; what is refused is passed over.
func ipBatch(h *lab.Host, commands string) {
	h.Lab.T.Helper()
	cmd := h.Command("ip", "-force", "-batch", "-")
	cmd.Stdin = strings.NewReader(commands)
	h.Do(func() { _ = cmd.Run() })
}
