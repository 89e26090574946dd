package integration

import (
	"slices"
	"strings"
	"testing"

	"github.com/subflowd/subflowd/test/lab"
)

// TestLeasesThatAreOver gives a link an address and a router at once, as a DHCP client does, and takes them away before
// anybody can have looked, in several ways. A path that was made from the events is taken back, the connection by the
// other link stays, and nobody is taken for an enemy. A lease that lasts gives a path that a running connection uses.
func TestLeasesThatAreOver(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.NoDefault("eth1"))
	n.Client.IP("addr del 10.1.2.2/24 dev eth1")
	d := n.Client.Daemon()
	reach(n, n.A)
	c := dial(n, "10.9.0.2:5001", n.A.Addr)
	first := c.Ends()[0]
	const lease, way = "addr add 10.1.2.2/24 dev eth1", "route add default via 10.1.2.1 dev eth1 metric 200"
	for range 8 {
		for _, over := range [][]string{
			{"addr del 10.1.2.2/24 dev eth1"},
			{"route del default via 10.1.2.1 dev eth1", "addr del 10.1.2.2/24 dev eth1"},
			{"addr del 10.1.2.2/24 dev eth1", lease, way, "addr del 10.1.2.2/24 dev eth1"},
			{"addr add 10.1.2.3/24 dev eth1", "addr del 10.1.2.2/24 dev eth1", "addr flush dev eth1 scope global"},
			{"link set eth1 down", "addr del 10.1.2.2/24 dev eth1", "link set eth1 up"},
		} {
			n.Client.IP(append([]string{lease, way}, over...)...)
		}
		reach(n, n.A)
	}
	n.Client.WaitCarrier("eth1", true)
	ordered := watchOrder(n.Client)
	n.Client.IP(lease, way)
	reach(n, n.A, n.B)
	ordered()
	waitSubflows(n, c, n.A.Addr, n.B.Addr)
	if !slices.Contains(c.Ends(), first) {
		t.Errorf("the first subflow %s is gone: %q", first, c.Ends())
	}
	if log := d.Log(); strings.Contains(log, "contention") || strings.Contains(log, "does not show it") {
		t.Errorf("log:\n%s", log)
	}
}
