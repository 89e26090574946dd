package lab

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTwoSubnets(t *testing.T) {
	t.Parallel()
	n := TwoSubnets(t, IPv6())
	before := n.Client.Settled()
	n.Client.WantRoute("10.9.0.2", "", "dev eth0 via 10.1.1.1")
	n.Client.WantRoute("10.1.2.7", "from 10.1.2.2", "dev eth1")
	n.Client.WantRoute("2001:db8:9::2", "", "dev eth0 via 2001:db8:1::1")
	n.Client.WantRules()
	n.Client.WantTable("main", "default via 10.1.1.1 dev eth0 metric 100", "default via 10.1.2.1 dev eth1 metric 200",
		"10.1.1.0/24 dev eth0 proto kernel scope link src 10.1.1.2",
		"10.1.2.0/24 dev eth1 proto kernel scope link src 10.1.2.2")
	n.Client.WantTable("100003")
	n.Client.WantEndpoints()
	n.Client.WantLimits("add_addr_accepted 0 subflows 2")
	for _, dst := range []string{n.ServerAddr, n.ServerAddr6} {
		if err := n.Client.Ping(dst, ""); err != nil {
			t.Error(err)
		}
	}
	n.A.Cut()
	if err := n.Client.Ping(n.ServerAddr, ""); err == nil {
		t.Error("the server answers over a cut link")
	}
	n.Client.WantSnapshot(before)
	n.A.Restore()
	Eventually(t, 10*time.Second, "path back", func() error { return n.Client.Ping(n.ServerAddr, "") })
	Eventually(t, 10*time.Second, "path back", func() error { return n.Client.Ping(n.ServerAddr6, "") })
	n.Client.WantSnapshot(before)
}

func TestOneSubnet(t *testing.T) {
	t.Parallel()
	n := OneSubnet(t, IPv6(), ArpIgnore())
	n.Client.WantRoute("10.9.0.2", "", "dev enp2s0 via 192.168.0.1")
	n.Client.WantRoute("2001:db8:9::2", "", "dev enp2s0 via fe80::1")
	for _, p := range []*Path{n.A, n.B} {
		for _, dst := range []string{n.ServerAddr, n.Router.Name} {
			if dst == n.ServerAddr {
				if err := n.Client.Ping(dst, p.Dev); err != nil {
					t.Error(err)
				}
			}
		}
		if err := n.Client.Ping(n.ServerAddr6, p.Dev); err != nil {
			t.Error(err)
		}
		if a := n.Client.Addrs6(p.Dev, true); len(a) != 1 {
			t.Errorf("temporary addresses of %s: %v, wanted one", p.Dev, a)
		}
		if a := n.Client.Addrs6(p.Dev, false); len(a) != 1 || a[0] != p.Addr6 {
			t.Errorf("stable addresses of %s: %v, wanted %s", p.Dev, a, p.Addr6)
		}
	}
}
