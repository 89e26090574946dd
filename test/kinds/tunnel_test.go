//go:build kinds

package kinds

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/subflowd/subflowd/test/lab"
)

// TestTunnels: a default route by a tunnel of the kernel's makes no path of it.
func TestTunnels(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.IPv6())
	d := n.Client.Daemon()
	wantPaths(n, n.A, n.B)
	const four, six = " local 10.1.1.2 remote 10.1.1.1", " local 2001:db8:1::2 remote 2001:db8:1::1"
	for kind, rest := range map[string]string{
		"ipip": four, "gre": four, "gretap": four, "sit": four, "vti": four + " key 5",
		"ip6tnl": six, "ip6gre": six, "ip6gretap": six, "vti6": six + " key 5",
		"xfrm": " dev eth0 if_id 7", "wireguard": "",
	} {
		n.Client.IP("link add t0 type "+kind+rest, "addr add 10.77.0.2/24 dev t0", "link set t0 up",
			"route add default via 10.77.0.1 dev t0 onlink metric 50000")
		if found := kindOf(t, n.Client, "t0"); found != kind {
			t.Errorf("a link of kind %s is of kind %s", kind, found)
		}
		isNoPath(n, d, "t0", "tunnel ("+kind+")")
		n.Client.IP("link del t0")
	}
	wantPaths(n, n.A, n.B)
}

// wireGuard joins client and router by WireGuard links of the kernel, as one would by hand: no table, no rules. What it
// carries goes by the client's first link.
func wireGuard(n *lab.Net) *lab.Path {
	n.T.Helper()
	lab.Need(n.T, "wg")
	dir := n.TempDir()
	type end struct {
		h                         *lab.Host
		addr, allowed, key, about string
	}
	ends := []*end{
		{n.Client, "10.88.0.2/24", "0.0.0.0/0", "", "persistent-keepalive 5 endpoint " + n.A.Gateway + ":51820"},
		{n.Router, "10.88.0.1/24", "10.88.0.2/32", "", ""},
	}
	for _, e := range ends {
		e.key = filepath.Join(dir, e.h.Name)
		if err := os.WriteFile(e.key, []byte(e.h.Run("wg", "genkey")), 0o600); err != nil {
			n.T.Fatal(err)
		}
		e.h.IP("link add wg0 type wireguard", "addr add "+e.addr+" dev wg0", "link set wg0 up")
		e.h.Run("wg", "set", "wg0", "private-key", e.key, "listen-port", "51820")
	}
	for i, e := range ends {
		peer := strings.TrimSpace(ends[1-i].h.Run("wg", "show", "wg0", "public-key"))
		e.h.Run("wg", append([]string{"set", "wg0", "peer", peer, "allowed-ips", e.allowed}, strings.Fields(e.about)...)...)
	}
	lab.Eventually(n.T, soon, "the tunnel", func() error { return n.Client.Ping("10.88.0.1", "") })
	return &lab.Path{
		Link: &lab.Link{A: n.Client, B: n.Router, DevA: "wg0", DevB: "wg0"}, Dev: "wg0", Metric: 300,
		Addr: "10.88.0.2",
	}
}

// TestWireGuard: the kernel's own WireGuard is no path, and beside a full tunnel of it nothing new leaves by the links; by
// configuration it is a path like another, with subflows through it.
func TestWireGuard(t *testing.T) {
	t.Parallel()
	t.Run("VPN", func(t *testing.T) {
		t.Parallel()
		n := lab.TwoSubnets(t)
		wireGuard(n)
		n.Client.IP("route add default dev wg0 metric 300")
		d := n.Client.Daemon()
		wantPaths(n, n.A, n.B)
		isNoPath(n, d, "wg0", "tunnel (wireguard)")
		n.Server.Listen(n.ServerAddr + ":5001")
		c := dial(n, n.A, n.B)

		n.Client.IP("route add 0.0.0.0/1 dev wg0", "route add 128.0.0.0/1 dev wg0")
		lab.Eventually(t, soon, "limits of nothing", func() error { return n.Client.CheckLimits("add_addr_accepted 0 subflows 0") })
		// The tunnel takes what is bound to the first link's address, as without us, and the peer drops it: its source is
		// not the tunnel's.
		lab.Eventually(t, soon, "no join beside the tunnel", func() error { return c.CheckSubflows(n.A.Addr) })
		through := n.Client.Dial(n.ServerAddr + ":5001")
		through.WantSubflows("10.88.0.2")

		n.Client.IP("route del 0.0.0.0/1 dev wg0", "route del 128.0.0.0/1 dev wg0")
		wantPaths(n, n.A, n.B)
		wantSubflows(n, c, n.A, n.B)
	})
	t.Run("uplink", func(t *testing.T) {
		t.Parallel()
		n := lab.TwoSubnets(t)
		wg := wireGuard(n)
		n.Client.IP("route add default dev wg0 metric 300")
		n.Client.DaemonConfig("[[link]]\nname = \"wg0\"\nuplink = true\n")
		wantPaths(n, n.A, n.B, wg)
		n.Server.Listen(n.ServerAddr + ":5001")
		c := dial(n, n.A, n.B, wg)
		leavesBy(n, wg, n.B) // A carries what the tunnel carries
		n.Client.IP("link del wg0")
		wantPaths(n, n.A, n.B)
		wantSubflows(n, c, n.A, n.B)
	})
}
