package diff

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/netstate/iptext"
)

// initial is a subflow that this host opened first; joined one that its path
// manager added.
func initial(local netip.AddrPort) netstate.Subflow {
	return with(healthy(local), func(s *netstate.Subflow) { s.Opened = true })
}

// begun is a connection that began on an address.
func begun(local netip.AddrPort) netstate.Connection {
	c := conn(initial(local))
	c.Local = local
	return c
}

func joined(local netip.AddrPort) netstate.Subflow {
	return with(initial(local), func(s *netstate.Subflow) { s.JoinLocal = true })
}

func TestMissing(t *testing.T) {
	both := []netstate.Endpoint{
		{ID: 1, Addr: onEth0.Addr(), Link: 2, Flags: netstate.SubflowFlag},
		{ID: 2, Addr: onEth1.Addr(), Link: 3, Flags: netstate.SubflowFlag},
	}
	six := netstate.Endpoint{ID: 3, Addr: netip.MustParseAddr("2001:db8::2"), Link: 3, Flags: netstate.SubflowFlag}
	half := func(f func(*netstate.Connection)) []netstate.Connection {
		c := conn(initial(onEth0))
		f(&c)
		return []netstate.Connection{c}
	}
	for _, c := range []struct {
		name      string
		conns     []netstate.Connection
		endpoints []netstate.Endpoint
		limit     uint32
		want      string
	}{
		{"nobody", nil, both, 2, ""},
		{"all are there", []netstate.Connection{conn(initial(onEth0), joined(onEth1))}, both, 2, ""},
		{"one lacks", half(func(*netstate.Connection) {}), both, 2, "10.1.2.2 1"},
		{"and another has it", []netstate.Connection{conn(initial(onEth0)), begun(onEth1)}, both, 2, "10.1.1.2 1 used, 10.1.2.2 1 used"},
		{"most wanted first", []netstate.Connection{conn(initial(onEth0)), conn(initial(onEth0)), begun(onEth1)}, both, 2, "10.1.2.2 2 used, 10.1.1.2 1 used"},
		{"an attempt is under way", []netstate.Connection{conn(initial(onEth0), with(joined(onEth1), func(s *netstate.Subflow) {
			s.State, s.FullyEstablished = netstate.SynSent, false
		}))}, both, 2, ""},
		{"used by a connection that ends", append(half(func(*netstate.Connection) {}), func() netstate.Connection {
			c := conn(with(initial(onEth1), func(s *netstate.Subflow) { s.State = netstate.FinWait2 }))
			c.State = netstate.FinWait2
			return c
		}()), both, 2, "10.1.2.2 1 used"},
		{"a closed subflow has still to send", []netstate.Connection{conn(initial(onEth0), with(joined(onEth1), func(s *netstate.Subflow) { s.State = netstate.FinWait1 }))}, both, 2, "10.1.2.2 1"},
		{"a closed subflow takes no room", []netstate.Connection{conn(initial(onEth0), with(joined(onEth1), func(s *netstate.Subflow) { s.State = netstate.Closing }))}, both, 1, "10.1.2.2 1"},
		{"not used by one that fell back", append(half(func(*netstate.Connection) {}), func() netstate.Connection {
			c := conn(initial(onEth1))
			c.Fallback = true
			return c
		}()), both, 2, "10.1.2.2 1"},
		{"the initial subflow is gone", []netstate.Connection{conn(joined(onEth1))}, both, 2, "10.1.1.2 1 initial"},
		{"limits zero", half(func(*netstate.Connection) {}), both, 0, ""},
		{"no room", []netstate.Connection{conn(initial(onEth0), joined(netip.MustParseAddrPort("10.1.3.2:5")))}, both, 1, ""},
		{"fell back", half(func(c *netstate.Connection) { c.Fallback = true }), both, 2, ""},
		{"closing", half(func(c *netstate.Connection) { c.State = netstate.FinWait2 }), both, 2, ""},
		{"the peer opened it", half(func(c *netstate.Connection) { c.Subflows[0].Opened = false }), both, 2, ""},
		{"nothing was sent yet", half(func(c *netstate.Connection) { c.Subflows[0].FullyEstablished = false }), both, 2, ""},
		{"on this host", half(func(c *netstate.Connection) { c.Remote = netip.AddrPortFrom(c.Local.Addr(), 80) }), both, 2, ""},
		{"by the loopback", half(func(c *netstate.Connection) { c.Remote = netip.MustParseAddrPort("127.0.0.1:80") }), both, 2, ""},
		{"another family", half(func(*netstate.Connection) {}), []netstate.Endpoint{six}, 2, ""},
		{"its family", half(func(c *netstate.Connection) { c.Remote = netip.MustParseAddrPort("[2001:db8:9::2]:80") }), []netstate.Endpoint{six}, 2, "2001:db8::2 1"},
		{"signalled only", half(func(*netstate.Connection) {}), []netstate.Endpoint{{ID: 2, Addr: onEth1.Addr(), Flags: netstate.SignalFlag}}, 2, ""},
		{"with a port", half(func(*netstate.Connection) {}), []netstate.Endpoint{{ID: 2, Addr: onEth1.Addr(), Port: 9, Flags: netstate.SubflowFlag}}, 2, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, m := range Missing(c.conns, c.endpoints, netstate.Limits{Subflows: c.limit}) {
				s := fmt.Sprint(m.Endpoint.Addr, " ", m.Connections)
				if m.Used {
					s += " used"
				}
				if m.Initial {
					s += " initial"
				}
				got = append(got, s)
			}
			if g := strings.Join(got, ", "); g != c.want {
				t.Errorf("got %q, want %q", g, c.want)
			}
		})
	}
}

func TestUnconfirmed(t *testing.T) {
	quiet := conn(with(initial(onEth0), func(s *netstate.Subflow) { s.FullyEstablished = false }))
	quiet.Token = 7
	theirs := quiet
	theirs.Subflows = []netstate.Subflow{with(quiet.Subflows[0], func(s *netstate.Subflow) { s.Opened = false })}
	if got := Unconfirmed([]netstate.Connection{conn(initial(onEth0)), quiet, theirs}); !slices.Equal(got, []uint32{7}) {
		t.Errorf("got %v", got)
	}
}

func TestKick(t *testing.T) {
	s := iptext.MustSnapshot("link 1 lo loopback\nlink 2 eth0\naddr 192.0.2.1/24 dev eth0\nendpoint 192.0.2.2 id 9 signal")
	s.MPTCP = netstate.MPTCP{Present: true, MaxEndpoints: 2}
	e, ok := Kick(s)
	if !ok || e != (netstate.Endpoint{Addr: netip.MustParseAddr("192.0.2.3")}) {
		t.Errorf("got %v, %v", e, ok)
	}
	s.MPTCP.MaxEndpoints = 1
	if e, ok := Kick(s); ok {
		t.Errorf("no slot is free, got %v", e)
	}
	s.MPTCP = netstate.MPTCP{}
	if e, ok := Kick(s); ok {
		t.Errorf("no Multipath TCP, got %v", e)
	}
}
