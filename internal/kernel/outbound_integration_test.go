package kernel

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/test/lab"
)

// tunnelled is a client with two uplinks, a default route by eth0 in each family, and the device of a tunnel.
func tunnelled(t *testing.T) *lab.Host {
	t.Helper()
	l := lab.New(t)
	h, r := l.Host("client"), l.Host("router")
	lab.Veth(h, "eth0", r, "c0")
	lab.Veth(h, "eth1", r, "c1")
	h.IP("addr add 10.1.1.2/24 dev eth0", "addr add 2001:db8:1::2/64 dev eth0 nodad",
		"route add default via 10.1.1.1 metric 100", "-6 route add default via 2001:db8:1::1 metric 100")
	lab.NewTunnel(h, "tun0", r, "tun0")
	h.IP("addr add 10.88.0.2/24 dev tun0", "addr add 2001:db8:88::2/64 dev tun0 nodad")
	return h
}

func TestOutboundByTunnel(t *testing.T) {
	t.Parallel()
	h := tunnelled(t)
	eth0, tun0 := h.Ifindex("eth0"), h.Ifindex("tun0")
	type leaves = map[netstate.Family][2]int
	plain := leaves{netstate.IPv4: {eth0, eth0}, netstate.IPv6: {eth0, eth0}}
	inside(t, h, func(k *Kernel) {
		for _, c := range []struct {
			name     string
			up, down []string
			want     leaves
		}{
			{"idle tunnel", nil, nil, plain},
			{
				"split tunnel",
				[]string{"route add 10.0.0.0/8 dev tun0", "route add 2.16.128.0/17 dev tun0", "-6 route add fd00::/8 dev tun0"},
				[]string{"route del 10.0.0.0/8", "route del 2.16.128.0/17", "-6 route del fd00::/8"},
				plain,
			},
			{
				"OpenVPN's two halves",
				[]string{"route add 0.0.0.0/1 via 10.88.0.1", "route add 128.0.0.0/1 via 10.88.0.1"},
				[]string{"route del 0.0.0.0/1", "route del 128.0.0.0/1"},
				leaves{netstate.IPv4: {tun0, tun0}, netstate.IPv6: {eth0, eth0}},
			},
			{
				"OpenVPN's halves of IPv6",
				[]string{"-6 route add ::/3 dev tun0", "-6 route add 2000::/4 dev tun0", "-6 route add 3000::/4 dev tun0", "-6 route add fc00::/7 dev tun0"},
				[]string{"-6 route del ::/3", "-6 route del 2000::/4", "-6 route del 3000::/4", "-6 route del fc00::/7"},
				leaves{netstate.IPv4: {eth0, eth0}, netstate.IPv6: {tun0, tun0}},
			},
			{
				"one half",
				[]string{"route add 128.0.0.0/1 via 10.88.0.1"},
				[]string{"route del 128.0.0.0/1"},
				leaves{netstate.IPv4: {eth0, tun0}, netstate.IPv6: {eth0, eth0}},
			},
			{
				"default with a better metric",
				[]string{"route add default dev tun0 metric 50"},
				[]string{"route del default dev tun0"},
				leaves{netstate.IPv4: {tun0, tun0}, netstate.IPv6: {eth0, eth0}},
			},
			{"default with a worse metric", []string{"route add default dev tun0 metric 200"}, []string{"route del default dev tun0"}, plain},
			{
				"wg-quick",
				[]string{
					"route add default dev tun0 table 51820", "rule add not fwmark 51820 table 51820", "rule add table main suppress_prefixlength 0",
					"-6 route add default dev tun0 table 51820", "-6 rule add not fwmark 51820 table 51820", "-6 rule add table main suppress_prefixlength 0",
				},
				[]string{"rule del table 51820", "rule del table main suppress_prefixlength 0", "-6 rule del table 51820", "-6 rule del table main suppress_prefixlength 0"},
				leaves{netstate.IPv4: {tun0, tun0}, netstate.IPv6: {tun0, tun0}},
			},
			{
				"wg-quick for marked traffic only",
				[]string{"rule add fwmark 51820 table 51820", "rule add iif eth1 table 51820"},
				[]string{"rule del fwmark 51820 table 51820", "rule del iif eth1 table 51820"},
				plain,
			},
			{
				"IPv6 only",
				[]string{"-6 route add default dev tun0 metric 50"},
				[]string{"-6 route del default dev tun0"},
				leaves{netstate.IPv4: {eth0, eth0}, netstate.IPv6: {tun0, tun0}},
			},
			{
				"kill switch",
				[]string{"route add blackhole 0.0.0.0/1", "-6 route add unreachable default metric 5"},
				[]string{"route del blackhole 0.0.0.0/1", "-6 route del unreachable default metric 5"},
				leaves{netstate.IPv4: {0, eth0}},
			},
		} {
			changed := netstate.Hints{Kinds: netstate.KindRoutes | netstate.KindRules}
			if len(c.up) > 0 {
				h.IP(c.up...)
			}
			if diff := cmp.Diff(c.want, refresh(t, k, changed).Outbound); diff != "" {
				t.Errorf("%s: (-want +found)\n%s", c.name, diff)
			}
			if len(c.down) > 0 {
				h.IP(c.down...)
			}
			if diff := cmp.Diff(plain, refresh(t, k, changed).Outbound); diff != "" {
				t.Errorf("%s, ended: (-want +found)\n%s", c.name, diff)
			}
		}
	})
}

// TestOutboundAsksOnlyBesideATunnel: every host pays for the question, few have a tunnel.
func TestOutboundAsksOnlyBesideATunnel(t *testing.T) {
	t.Parallel()
	h := tunnelled(t)
	inside(t, h, func(k *Kernel) {
		asked := func(hints netstate.Hints) uint32 {
			before := k.rt.seq
			if err := k.readOutbound(hints); err != nil {
				t.Fatal(err)
			}
			return k.rt.seq - before
		}
		refresh(t, k, full())
		if n := asked(full()); n != 4 {
			t.Errorf("beside a tunnel %d requests, want 4", n)
		}
		if n := asked(netstate.Hints{Kinds: netstate.KindEndpoints}); n != 0 {
			t.Errorf("%d requests though nothing changed", n)
		}
		h.IP("link del tun0")
		if s := refresh(t, k, netstate.Hints{Kinds: netstate.KindLinks}); s.Outbound != nil {
			t.Errorf("without a tunnel: %v", s.Outbound)
		}
		if n := asked(full()); n != 0 {
			t.Errorf("without a tunnel %d requests", n)
		}
	})
}

// A default route by a link without address makes the kernel say whose address unbound traffic has; without such a
// route nothing is asked.
func TestUnboundSource(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	h, r := l.Host("client"), l.Host("router")
	lab.Veth(h, "eth0", r, "c0")
	lab.Veth(h, "eth1", r, "c1")
	h.IP("addr add 10.1.1.2/24 dev eth0")
	inside(t, h, func(k *Kernel) {
		if s := refresh(t, k, full()); len(s.Unbound) != 0 {
			t.Errorf("asked without need: %v", s.Unbound)
		}
		h.IP("route add default dev eth1")
		s := refresh(t, k, full())
		if w := s.Unbound[netstate.IPv4]; w.Link != h.Ifindex("eth1") || w.Source.String() != "10.1.1.2" {
			t.Errorf("want 10.1.1.2 by eth1, found %v", w)
		}
		// The kernel passes over an address that is good on the link alone, unless the route is good there alone too.
		h.IP("addr add 10.1.2.2/24 dev eth1 scope link", "route replace default via 10.1.2.1 dev eth1")
		s = refresh(t, k, full())
		if w := s.Unbound[netstate.IPv4]; w.Link != h.Ifindex("eth1") || w.Source.String() != "10.1.1.2" {
			t.Errorf("beside an address of scope link: want 10.1.1.2 by eth1, found %v", w)
		}
		h.IP("route del default dev eth1")
		if s := refresh(t, k, full()); len(s.Unbound) != 0 {
			t.Errorf("kept: %v", s.Unbound)
		}
	})
}
