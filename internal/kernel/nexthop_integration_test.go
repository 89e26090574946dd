package kernel

import (
	"strings"
	"testing"

	"github.com/subflowd/subflowd/internal/netstate"
)

func TestNexthopObjects(t *testing.T) {
	t.Parallel()
	h := twoUplinks(t)
	h.Sysctl("net.ipv4.nexthop_compat_mode", "0")
	w := watch(t, h, 1000, nil)
	h.IP("nexthop add id 1 via 10.1.1.1 dev eth0", "nexthop add id 2 via 10.1.2.1 dev eth1", "nexthop add id 3 group 1/2",
		"nexthop add id 4 blackhole", "nexthop add id 6 via 2001:db8:1::1 dev eth0",
		"route add default nhid 1 metric 100", "route add 10.70.0.0/16 nhid 3", "route add 10.71.0.0/16 nhid 4", "-6 route add default nhid 6")
	inside(t, h, func(k *Kernel) {
		show := func() string {
			var b strings.Builder
			s := refresh(t, k, full())
			for _, r := range s.Routes {
				if r.NexthopID != 0 {
					b.WriteString(r.Text(s.Names()) + "\n")
				}
			}
			return b.String()
		}
		wantLines(t, "routes", show(),
			"default via 10.1.1.1 dev eth0 proto boot metric 100",
			"10.70.0.0/16 via 10.1.1.1 dev eth0 proto boot", "10.70.0.0/16 via 10.1.2.1 dev eth1 proto boot",
			"blackhole 10.71.0.0/16 proto boot",
			"default via 2001:db8:1::1 dev eth0 proto boot metric 1024")
		h.IP("nexthop del id 1")
		hint, _ := w.until(t, "nexthop removed")
		if hint.Kinds != netstate.KindRoutes || hint.Links != nil {
			t.Errorf("hint %+v", hint)
		}
		if strings.Contains(show(), "default via 10.1.1.1") {
			t.Error("a route is left without its nexthop")
		}
	})
}
