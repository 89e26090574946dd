package kernel

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/subflowd/subflowd/internal/netstate"
)

// TestNoRules has the kernel refuse a dump of rules as one without policy
// routing does, by a family that has none (AF_AX25): lookup_rules_ops finds
// nothing in both cases.
func TestNoRules(t *testing.T) {
	t.Parallel()
	h := twoUplinks(t)
	inside(t, h, func(k *Kernel) {
		k.families = []netstate.Family{3}
		if err := k.readRules(0); !errors.Is(err, ErrNoRules) {
			t.Errorf("want %v, found %v", ErrNoRules, err)
		}
		if _, err := k.Occupied(); !errors.Is(err, ErrNoRules) {
			t.Errorf("want %v, found %v", ErrNoRules, err)
		}
	})
}

// TestLookups compares bound and unbound lookups, and what strict filtering
// drops, where main leads everything by eth0.
func TestLookups(t *testing.T) {
	t.Parallel()
	h := twoUplinks(t)
	h.IP("route add default via 10.1.1.1 metric 100", "route add default via 10.1.2.1 metric 200")
	own, out := netip.MustParseAddr("10.1.2.2"), Probe(netstate.IPv4)
	eth0, eth1 := h.Ifindex("eth0"), h.Ifindex("eth1")
	h.Do(func() {
		if r, err := Lookup(out, own); err != nil || r.Link != eth0 {
			t.Errorf("unbound: %v %v", r, err)
		}
		if r, err := LookupBound(out, own, eth1); err != nil || r.Link != eth1 || r.Gateway.String() != "10.1.2.1" {
			t.Errorf("bound: %v %v", r, err)
		}
	})
	dropped := func() (err error) {
		h.Do(func() { err = Dropped(own, out, "eth1") })
		return err
	}
	for _, c := range []struct {
		what    string
		change  func()
		dropped bool
	}{
		{"no filter", func() {}, false},
		{"a loose filter", func() { h.Sysctl("net.ipv4.conf.eth1.rp_filter", "2") }, false},
		{"a strict filter", func() { h.Sysctl("net.ipv4.conf.eth1.rp_filter", "1") }, true},
		{"a source rule", func() { h.IP("rule add from 10.1.2.2 lookup 100", "route add default via 10.1.2.1 dev eth1 table 100") }, false},
		{"no such link", func() { h.IP("link del eth1") }, false},
	} {
		c.change()
		if err := dropped(); (err != nil) != c.dropped {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}
