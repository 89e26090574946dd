//go:build kinds

package kinds

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

// TestVLAN has two paths on one cable, as on a router with one port: two VLANs, or a VLAN beside what is untagged.
func TestVLAN(t *testing.T) {
	t.Parallel()
	for _, untagged := range []bool{false, true} {
		t.Run(fmt.Sprintf("untagged too %v", untagged), func(t *testing.T) {
			t.Parallel()
			n := lab.TwoSubnets(t, lab.Bare(), lab.IPv6())
			tag := func(h *lab.Host, trunk string, id int) string {
				dev := fmt.Sprintf("%s.%d", trunk, id)
				h.IP(fmt.Sprintf("link add link %s name %s type vlan id %d", trunk, dev, id), "link set "+dev+" up")
				return dev
			}
			a := newPath(n, 1, tag(n.Client, "eth0", 10), tag(n.Router, "r0", 10))
			var b *lab.Path
			if untagged {
				b = newPath(n, 2, "eth0", "r0")
			} else {
				b = newPath(n, 2, tag(n.Client, "eth0", 20), tag(n.Router, "r0", 20))
			}
			n.Client.Daemon()
			addUp(a)
			addUp(b)
			wantPaths(n, a, b)
			leavesBy(n, a, only(!untagged, b)...) // what a VLAN sends, its cable sends too
			leavesBy(n, b, a)
			n.Server.Listen(n.ServerAddr + ":5001")
			c := dial(n, a, b)

			n.Client.IP("link del " + a.Dev)
			wantPaths(n, b)
			wantSubflows(n, c, b)
			tag(n.Client, "eth0", 10)
			addUp(a)
			wantPaths(n, a, b)
			wantSubflows(n, c, a, b)

			// The cable is both: the connection has nowhere to go, and goes on when it is back.
			n.A.Cut()
			n.Client.WaitCarrier(a.Dev, false)
			lab.Never(t, time.Second, "the only paths keep their endpoints", func() error { return keeps(n, a, b) })
			n.Router.IP("link set r0 up")
			n.Client.WaitCarrier(a.Dev, true)
			for _, p := range []*lab.Path{a, b} {
				_, _ = n.Router.TryIP("addr add " + p.Gateway6 + "/64 dev " + p.DevB + " nodad")
			}
			wantPaths(n, a, b)
			wantSubflows(n, c, a, b)
		})
	}
}

// only gives a list or nothing.
func only(condition bool, p ...*lab.Path) []*lab.Path {
	if condition {
		return p
	}
	return nil
}

// keeps checks that the paths have their IPv4 endpoints.
func keeps(n *lab.Net, paths ...*lab.Path) error {
	have := n.Client.Endpoints()
	for _, p := range paths {
		if want := p.Addr + " subflow dev " + p.Dev; !slices.Contains(have, want) {
			return fmt.Errorf("wanted %q among the endpoints %q", want, have)
		}
	}
	return nil
}

// TestStacked has a path by a link that is made of another one, which itself is none.
func TestStacked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ kind, make, below, why string }{
		{"macvlan", "link add link eth1 name up1 type macvlan mode bridge", "", "no address"},
		{"ipvlan", "link add link eth1 name up1 type ipvlan mode l2", "", "no address"},
		{"bridge", "link add up1 type bridge forward_delay 0", "link set eth1 master up1", "port of bridge up1"},
		{"bond", "link add up1 type bond mode active-backup miimon 50", "link set eth1 master up1", "port of bond up1"},
	} {
		t.Run(c.kind, func(t *testing.T) {
			t.Parallel()
			n := lab.TwoSubnets(t, lab.Bare(), lab.IPv6())
			a, b := newPath(n, 1, "eth0", "r0"), newPath(n, 2, "up1", "r1")
			d := n.Client.Daemon()
			n.Client.IP(c.make)
			if c.below != "" {
				n.Client.IP("link set eth1 down") // a bond takes nothing else
				n.Client.IP(c.below)
			}
			n.Client.IP("link set eth1 up", "link set up1 up")
			addUp(a)
			addUp(b)
			wantPaths(n, a, b)
			isNoPath(n, d, "eth1", c.why)
			leavesBy(n, a, b)
			leavesBy(n, b, a)
			n.Server.Listen(n.ServerAddr + ":5001")
			conn := dial(n, a, b)
			n.Client.IP("link del up1")
			wantPaths(n, a)
			wantSubflows(n, conn, a)
		})
	}
}

// TestBond has a bond of two cables beside another path. What the bond does by itself is nobody's business: the change of
// its active port touches neither our state nor a subflow.
func TestBond(t *testing.T) {
	t.Parallel()
	n := lab.OneSubnet(t, lab.Bare(), lab.IPv6())
	third := lab.Veth(n.Client, "eth2", n.Router, "r2")
	n.Client.IP("link add bond0 type bond mode active-backup miimon 50")
	for _, port := range []string{"enp2s0", "wlp3s0"} {
		n.Client.IP("link set "+port+" down", "link set "+port+" master bond0", "link set "+port+" up")
	}
	n.Client.IP("link set bond0 type bond active_slave enp2s0", "link set bond0 up")
	a, b := newPath(n, 1, "bond0", "br0"), newPath(n, 2, "eth2", third.DevB)
	d := n.Client.Daemon()
	addUp(a)
	addUp(b)
	wantPaths(n, a, b)
	isNoPath(n, d, "enp2s0", "port of bond bond0")
	n.Server.Listen(n.ServerAddr + ":5001")
	c := dial(n, a, b)

	ids, subflows := n.Client.IP("mptcp endpoint show"), c.Ends()
	n.A.Cut() // the active port
	lab.Eventually(t, soon, "another active port", func() error { return activePort(n.Client, "wlp3s0") })
	settled(d)
	if now := n.Client.IP("mptcp endpoint show"); now != ids {
		t.Errorf("endpoints were\n%sand are after the bond changed its port\n%s", ids, now)
	}
	if now := c.Ends(); !slices.Equal(now, subflows) {
		t.Errorf("subflows were %q and are %q", subflows, now)
	}
	wantPaths(n, a, b)
	leavesBy(n, a, b)

	n.B.Cut() // the other one: the bond has lost its carrier
	n.Client.WaitCarrier("bond0", false)
	lab.Eventually(t, soon, "no endpoint on the bond", func() error {
		return n.Client.CheckEndpoints(b.Addr+" subflow dev eth2", b.Addr6+" subflow dev eth2")
	})
	wantSubflows(n, c, b)
	n.A.Restore()
	n.Client.WaitCarrier("bond0", true)
	wantPaths(n, a, b)
	wantSubflows(n, c, a, b)

	// A path that becomes a port is none; its addresses stay on it, as the kernel leaves them.
	n.Client.IP("link set eth2 down", "link set eth2 master bond0", "link set eth2 up")
	wantPaths(n, a)
	isNoPath(n, d, "eth2", "port of bond bond0")
	wantSubflows(n, c, a)
}

// activePort compares the bond's active port.
func activePort(h *lab.Host, want string) error {
	var v []struct {
		Linkinfo struct {
			Data struct {
				Active string `json:"active_slave"`
			} `json:"info_data"`
		}
	}
	h.JSON(&v, "-d link show dev bond0")
	if found := v[0].Linkinfo.Data.Active; found != want {
		return fmt.Errorf("the active port is %s, wanted %s", found, want)
	}
	return nil
}
