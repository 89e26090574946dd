package lab

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMonitor(t *testing.T) {
	t.Parallel()
	n := TwoSubnets(t)
	Eventually(t, 20*time.Second, "the link-local addresses, which the kernel makes by itself", func() error {
		for _, p := range []*Path{n.A, n.B} {
			out := n.Client.IP("-6 route show table local dev " + p.Dev)
			if !strings.Contains(out, "local fe80:") || !strings.Contains(out, "multicast") {
				return fmt.Errorf("%s: %s", p.Dev, out)
			}
		}
		return nil
	})
	m := n.Client.Monitor()
	if err := m.Check(); err != nil {
		t.Error(err)
	}
	n.Client.IP("mptcp endpoint add 10.1.1.2 dev eth0 subflow", "rule add from 10.1.1.2 lookup 101")
	n.Client.IP("rule del from 10.1.1.2 lookup 101")
	lines := m.Stop()
	for _, want := range []string{
		"32765: from 10.1.1.2 lookup 101", "Deleted 32765: from 10.1.1.2 lookup 101",
		"+ mptcp 10.1.1.2 id 1 subflow dev eth0",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("monitor saw %q, wanted %q", lines, want)
		}
	}
}

func TestSLAAC(t *testing.T) {
	t.Parallel()
	for _, lab := range []func(testing.TB, ...Option) *Net{TwoSubnets, OneSubnet} {
		n := lab(t, SLAAC(), DAD(), IPv6Only())
		if l := n.Client.Table("-6", "main"); !hasDefault(l, n.A.Dev) {
			t.Errorf("no default route on %s: %v", n.A.Dev, l)
		}
		n.RA.Set(RA{Dev: n.A.RA().Dev, Lifetime: 0})
		Eventually(t, 20*time.Second, "default route withdrawn", func() error {
			if l := n.Client.Table("-6", "main"); hasDefault(l, n.A.Dev) {
				return fmt.Errorf("routes:\n%s", strings.Join(l, "\n"))
			}
			return nil
		})
	}
}

func hasDefault(lines []string, dev string) bool {
	return slices.ContainsFunc(lines, func(l string) bool {
		return strings.HasPrefix(l, "default ") && strings.Contains(l+" ", " dev "+dev+" ")
	})
}

func TestDHCP(t *testing.T) {
	t.Parallel()
	n := TwoSubnets(t, Bare())
	d := n.Router.DHCP("r0", "10.1.1.50", "10.1.1.1")
	n.Router.DHCP("r1", "10.1.2.50", "10.1.2.1")
	n.Client.Dhclient("eth0", 100)
	u := n.Client.Udhcpc("eth1", 200)
	n.Client.WaitAddr("eth0", "10.1.1.50")
	n.Client.WaitAddr("eth1", "10.1.2.50")
	Eventually(t, 20*time.Second, "default routes", func() error {
		for _, dev := range []string{"eth0", "eth1"} {
			if l := n.Client.Table("-4", "main"); !hasDefault(l, dev) {
				return fmt.Errorf("none on %s: %v", dev, l)
			}
		}
		return nil
	})
	d.Serve("10.1.1.77")
	n.Client.WaitAddr("eth0", "10.1.1.77")
	if code := u.Stop(); code > 0 {
		t.Errorf("udhcpc: exit status %d", code)
	}
}
