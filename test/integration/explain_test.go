package integration

import (
	"slices"
	"strings"
	"testing"

	"github.com/subflowd/subflowd/test/lab"
)

// TestExplainDestination compares what explain says of destinations with ip route get: behind the gateway, on the link,
// in a container, and where main knows a way of its own.
func TestExplainDestination(t *testing.T) {
	t.Parallel()
	for _, h := range []struct {
		name string
		make func(testing.TB, ...lab.Option) *lab.Net
		near string
	}{{"two subnets", lab.TwoSubnets, "10.1.1.99"}, {"one subnet", lab.OneSubnet, "192.168.0.99"}} {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			n := h.make(t, lab.IPv6())
			n.Client.Container("container")
			n.Client.IP("route add 198.51.100.0/24 via "+n.A.Gateway, "route add unreachable 203.0.113.0/24")
			d := n.Client.Daemon()
			lab.Eventually(t, soon, "the paths", func() error { return n.CheckUplinks("subflow", n.A, n.B) })
			settled(d)
			for _, dst := range []string{n.ServerAddr, n.ServerAddr6, h.near, "172.17.0.2", "198.51.100.7"} {
				var e struct {
					Kind        string
					Destination []struct {
						From, Link, Wanted, Found string
						Right                     bool
					}
				}
				n.Client.CtlJSON(&e, "explain", dst)
				var from []string
				for _, l := range e.Destination {
					if selector := "from " + l.From; l.From == "" {
						if err := n.Client.CheckRoute(dst, "", l.Found); err != nil || !l.Right {
							t.Errorf("%s unbound: %+v: %v", dst, l, err)
						}
					} else if err := n.Client.CheckRoute(dst, selector, l.Found); err != nil || !l.Right {
						t.Errorf("%s: %+v: %v", dst, l, err)
					}
					from = append(from, l.From)
				}
				own := []string{n.A.Addr, n.B.Addr}
				if strings.Contains(dst, ":") {
					own = []string{n.A.Addr6, n.B.Addr6}
				}
				if e.Kind != "destination" || !slices.Contains(from, own[0]) || !slices.Contains(from, own[1]) {
					t.Errorf("%s: kind %q from %q", dst, e.Kind, from)
				}
			}
			r := n.Client.Ctl("explain", "203.0.113.1")
			if r.Code != 0 || strings.Count(r.Stdout, "no way: no route to host") != 3 {
				t.Errorf("exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
			}
			if r := n.Client.Ctl("explain", "eth7"); r.Code != 1 {
				t.Errorf("explain eth7: exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
			}
			d.Stop()
		})
	}
}
