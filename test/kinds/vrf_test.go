//go:build kinds

package kinds

import (
	"testing"

	"github.com/subflowd/subflowd/test/lab"
)

// TestVRF has a third link in a VRF, with a default route in the VRF's table, set up as the kernel's documentation says
// (Documentation/networking/vrf.rst): the rule for local tables behind the VRF's. The VRF is none of ours, and the other
// two links are paths all the time; one that is moved into the VRF is a path until then.
func TestVRF(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.Bare(), lab.IPv6())
	third := lab.Veth(n.Client, "eth2", n.Router, "r2")
	a, b := newPath(n, 1, "eth0", "r0"), newPath(n, 2, "eth1", "r1")
	inside := newPath(n, 3, "eth2", third.DevB)
	addUp(a)
	addUp(b)
	d := n.Client.Daemon()
	wantPaths(n, a, b)

	n.Client.IP("link add vrf0 type vrf table 10", "link set vrf0 up", "link set eth2 master vrf0")
	for _, f := range []string{"-4", "-6"} {
		n.Client.IP(f+" rule add pref 32765 table local", f+" rule del pref 0")
	}
	n.Client.WaitCarrier("eth2", true)
	inside.AddIPv4()
	inside.AddIPv6()
	n.Client.IP("route add default via "+inside.Gateway+" dev eth2 table 10", "-6 route add default via "+inside.Gateway6+" dev eth2 table 10")
	n.Client.WaitAddr("eth2", inside.Addr6)
	for _, dev := range []string{"eth2", "vrf0"} {
		isNoPath(n, d, dev, map[string]string{"eth2": "port of vrf vrf0", "vrf0": "no address"}[dev])
	}
	wantPaths(n, a, b)
	n.Client.WantRoute(n.ServerAddr, "", "dev eth0 via "+a.Gateway)
	n.Client.WantRoute(n.ServerAddr, "oif vrf0", "dev eth2 via "+inside.Gateway)
	n.Client.WantRoute(n.ServerAddr6, "oif vrf0", "dev eth2 via "+inside.Gateway6)
	if err := n.Client.Ping(n.ServerAddr, "vrf0"); err != nil {
		t.Errorf("by the VRF: %v", err)
	}
	leavesBy(n, a, b, inside)
	leavesBy(n, b, a, inside)

	n.Server.Listen(n.ServerAddr + ":5001")
	c := dial(n, a, b)
	n.Client.IP("link set eth1 master vrf0")
	wantPaths(n, a)
	isNoPath(n, d, "eth1", "port of vrf vrf0")
	wantSubflows(n, c, a)
	// The kernel takes a link down and up when it changes its master: routes and IPv6 addresses are gone.
	n.Client.IP("link set eth1 nomaster")
	b.AddDefault()
	_, _ = n.Client.TryIP("addr add " + b.Addr6 + "/64 dev eth1")
	_, _ = n.Client.TryIP("-6 route add default via " + b.Gateway6 + " dev eth1 metric 200")
	wantPaths(n, a, b)
	wantSubflows(n, c, a, b)
}
