package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

// TestDeprecatedReplaced: an address is deprecated and another takes its place, while the server accepts no joins. The
// connection stays where it is. Its endpoint lingers, is named, and goes when the connection ends.
func TestDeprecatedReplaced(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, with bool) {
		n := lab.TwoSubnets(t, lab.IPv6Only(), lab.RefuseJoins())
		strictServer(n)
		if with {
			n.Client.Daemon()
			reach(n, n.A, n.B)
		}
		c := n.Client.Dial("[2001:db8:9::2]:5001")
		c.WantSubflows(n.A.Addr6)
		before := ends(c)
		n.Client.IP("addr add 2001:db8:1::3/64 dev eth0", "addr change 2001:db8:1::2/64 dev eth0 preferred_lft 0")
		if with {
			lab.Eventually(t, soon, "the new address has its endpoint", func() error {
				return n.Client.CheckEndpoints("2001:db8:1::2 subflow dev eth0", "2001:db8:1::3 subflow dev eth0",
					"2001:db8:2::2 subflow dev eth1")
			})
			// The rules of the deprecated address stay: it is usable.
			n.Client.WantRoute(n.ServerAddr6, "from 2001:db8:1::2", "dev eth0 via 2001:db8:1::1")
			n.Client.WantRoute(n.ServerAddr6, "from 2001:db8:1::3", "dev eth0 via 2001:db8:1::1")
		}
		lab.Never(t, 4*time.Second, "the connection goes on", func() error { return c.Echo(soon) })
		if after := ends(c); !slices.Equal(before, after) {
			t.Errorf("subflows before %v, after %v", before, after)
		}
		if with {
			wantLingering(n.Client, n.A.Addr6)
			c.Close()
			lab.Eventually(t, soon, "the old endpoint goes with the connection", func() error {
				return n.Client.CheckEndpoints("2001:db8:1::3 subflow dev eth0", "2001:db8:2::2 subflow dev eth1")
			})
			lab.Eventually(t, soon, "nothing lingers", func() error { return checkLingering(n.Client) })
		}
	})
}

// TestAddressMovesToAnotherLink: as when a host goes from cable to radio and is leased the same address. The server
// accepts no joins. Packets take the new link at once; the endpoint follows when nobody needs it as it is.
func TestAddressMovesToAnotherLink(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, with bool) {
		n := lab.OneSubnet(t, lab.RefuseJoins())
		n.Client.IP("addr del 192.168.0.43/24 dev wlp3s0")
		strictServer(n)
		if with {
			n.Client.Daemon()
			reach(n, n.A)
		}
		c := n.Client.Dial("10.9.0.2:5001")
		c.WantSubflows(n.A.Addr)
		before := ends(c)
		n.Client.IP("addr del 192.168.0.37/24 dev enp2s0", "addr add 192.168.0.37/24 dev wlp3s0",
			"route add default via 192.168.0.1 dev wlp3s0 metric 600")
		n.A.Cut()
		n.Router.IP("neigh flush dev br0") // what the gratuitous ARP of a DHCP client does
		n.Router.Run("bridge", "fdb", "flush", "dev", "br0")
		c.WantEcho(recovers)
		n.Client.WantRoute(n.ServerAddr, "from "+n.A.Addr, "dev wlp3s0 via 192.168.0.1")
		lab.Never(t, 4*time.Second, "the connection goes on", func() error { return c.Echo(soon) })
		if after := ends(c); !slices.Equal(before, after) {
			t.Errorf("subflows before %v, after %v", before, after)
		}
		if with {
			n.Client.WantEndpoints("192.168.0.37 subflow dev enp2s0")
			wantLingering(n.Client, n.A.Addr)
			c.Close()
			moved := *n.B
			moved.Addr = n.A.Addr
			lab.Eventually(t, soon, "the endpoint follows the address", func() error {
				return n.Client.CheckEndpoints("192.168.0.37 subflow dev wlp3s0")
			})
		}
	})
}

// TestMovesToNextPath: the only path of a connection goes, for longer than the server keeps a connection without
// subflows. It waits, moves to the next path that comes, and only then the old endpoint goes. Without subflowd it
// waits too, and has to wait for its address.
func TestMovesToNextPath(t *testing.T) {
	t.Parallel()
	const defA, defB = "route add default via 10.1.1.1 dev eth0 metric 100", "route add default via 10.1.2.1 dev eth1 metric 200"
	for _, c := range []struct {
		name             string
		lose, next, back func(*lab.Net)
		old, new, addr   string
	}{
		{
			"another link",
			func(n *lab.Net) { n.A.Cut() },
			func(n *lab.Net) { n.Client.IP(defB) },
			func(n *lab.Net) { n.A.Restore() },
			"10.1.1.2 subflow dev eth0", "10.1.2.2 subflow dev eth1", "10.1.2.2",
		},
		{
			"another address",
			func(n *lab.Net) { n.Client.IP("addr del 10.1.1.2/24 dev eth0") },
			func(n *lab.Net) { n.Client.IP("addr add 10.1.1.3/24 dev eth0", defA) },
			func(n *lab.Net) {
				n.Client.IP("addr del 10.1.1.3/24 dev eth0", "addr add 10.1.1.2/24 dev eth0", defA)
			},
			"10.1.1.2 subflow dev eth0", "10.1.1.3 subflow dev eth0", "10.1.1.3",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			both(t, func(t *testing.T, with bool) {
				n := lab.TwoSubnets(t, lab.NoDefault("eth1"))
				strictServer(n)
				if with {
					n.Client.Daemon()
					reach(n, n.A)
				}
				conn := n.Client.Dial("10.9.0.2:5001")
				conn.WantSubflows(n.A.Addr)
				c.lose(n)
				answers := waiting(t, 4*time.Second, conn)
				if !with {
					c.next(n)
					c.back(n)
					answers()
					return
				}
				if e := n.Client.Endpoints(); !slices.Equal(e, []string{c.old}) {
					t.Errorf("endpoints %v while the connection has no other path, wanted %s", e, c.old)
				}
				c.next(n)
				answers()
				lab.Eventually(t, soon, "the old endpoint goes", func() error { return n.Client.CheckEndpoints(c.new) })
				lab.Eventually(t, soon, "the connection on the new path alone", func() error { return conn.CheckSubflows(c.addr) })
				lab.Never(t, 3*time.Second, "the connection goes on", func() error { return conn.Echo(soon) })
			})
		})
	}
}

// TestLingersUntilMoved: with a server that accepts joins, an endpoint on a dead path lingers for as long as the
// connection has not been heard of on another path, and not longer, though the connection lives on.
func TestLingersUntilMoved(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	strictServer(n)
	n.Client.Daemon()
	reach(n, n.A, n.B)
	c := n.Client.Dial("10.9.0.2:5001")
	c.WantSubflows(n.A.Addr, n.B.Addr)
	n.A.Cut()
	c.WantEcho(recovers)
	lab.Eventually(t, soon, "the endpoint without carrier goes", func() error {
		return n.Client.CheckEndpoints("10.1.2.2 subflow dev eth1")
	})
	c.WantEcho(soon)
	n.A.Restore()
	lab.Eventually(t, 2*soon, "the subflow is back", func() error { return c.CheckSubflows(n.A.Addr, n.B.Addr) })
	reach(n, n.A, n.B)
}

// checkLingering compares the addresses of lingering endpoints with what subflowctl status says of them, as text and
// as JSON.
func checkLingering(h *lab.Host, addrs ...string) error {
	var doc struct {
		Endpoints []struct {
			Address, State, Reason string
			Connections            int
			WaitsFor               string `json:"waits_for"`
		}
	}
	h.CtlJSON(&doc, "status")
	var found []string
	for _, e := range doc.Endpoints {
		if e.State != "lingering" {
			continue
		}
		found = append(found, e.Address)
		if e.Connections != 1 || e.WaitsFor == "" || e.Reason == "" {
			return fmt.Errorf("status says of the lingering %s: %+v", e.Address, e)
		}
	}
	if !slices.Equal(found, addrs) {
		return fmt.Errorf("lingering endpoints %q, wanted %q", found, addrs)
	}
	text := h.Ctl("status").Stdout
	for _, a := range addrs {
		if !slices.ContainsFunc(strings.Split(text, "\n"), func(l string) bool {
			return strings.Contains(l, a) && strings.Contains(l, "linger")
		}) {
			return fmt.Errorf("the status does not say that the endpoint of %s lingers:\n%s", a, text)
		}
	}
	return nil
}

func wantLingering(h *lab.Host, addrs ...string) {
	h.Lab.T.Helper()
	lab.Eventually(h.Lab.T, soon, "the lingering endpoint is named", func() error { return checkLingering(h, addrs...) })
}
