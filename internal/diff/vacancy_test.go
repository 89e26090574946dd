package diff

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/subflowd/subflowd/internal/netstate"
)

var (
	onEth0 = netip.MustParseAddrPort("10.1.1.2:40000")
	onEth1 = netip.MustParseAddrPort("10.1.2.2:40001")
	server = netip.MustParseAddrPort("192.0.2.1:443")
	live   = map[netip.Addr]bool{onEth1.Addr(): true}
)

// healthy is a subflow that heard from the peer 5 ms ago.
func healthy(local netip.AddrPort) netstate.Subflow {
	return netstate.Subflow{
		State: netstate.Established, Local: local, Remote: server, FullyEstablished: true,
		LastRecv: 5 * time.Millisecond, LastAck: time.Minute,
	}
}

func conn(subs ...netstate.Subflow) netstate.Connection {
	return netstate.Connection{State: netstate.Established, Local: onEth0, Remote: server, Subflows: subs}
}

func with(s netstate.Subflow, f func(*netstate.Subflow)) netstate.Subflow {
	f(&s)
	return s
}

func TestVacancy(t *testing.T) {
	dead, other := healthy(onEth0), healthy(onEth1)
	for _, c := range []struct {
		name     string
		conns    []netstate.Connection
		blocking int
		why      string
	}{
		{"nobody", nil, 0, "no connection uses it"},
		{"somebody else", []netstate.Connection{conn(other)}, 0, "no connection uses it"},
		{"another subflow works", []netstate.Connection{conn(dead, other)}, 0, "1 connection has another subflow that works"},
		{"the only subflow", []netstate.Connection{conn(dead)}, 1, "the connection to 192.0.2.1:443 has no other subflow"},
		{"two from one address", []netstate.Connection{conn(dead, dead)}, 1, "the connection to 192.0.2.1:443 has no other subflow"},
		{
			"connecting",
			[]netstate.Connection{conn(dead, with(other, func(s *netstate.Subflow) { s.State = netstate.SynSent }))},
			1,
			"the connection to 192.0.2.1:443 has no other subflow that is fully established",
		},
		{
			"not fully established",
			[]netstate.Connection{conn(dead, with(other, func(s *netstate.Subflow) { s.FullyEstablished = false }))},
			1,
			"the connection to 192.0.2.1:443 has no other subflow that is fully established",
		},
		{
			"on a dark path",
			[]netstate.Connection{conn(dead, healthy(netip.MustParseAddrPort("10.1.3.2:1")))},
			1,
			"the connection to 192.0.2.1:443 has no other subflow on a live path",
		},
		{
			"in backoff",
			[]netstate.Connection{conn(dead, with(other, func(s *netstate.Subflow) { s.Backoff = 1 }))},
			1,
			"the connection to 192.0.2.1:443 has only subflows left that lose packets",
		},
		{
			"in loss",
			[]netstate.Connection{conn(dead, with(other, func(s *netstate.Subflow) { s.CAState = 4 }))},
			1,
			"the connection to 192.0.2.1:443 has only subflows left that lose packets",
		},
		{
			"in recovery",
			[]netstate.Connection{conn(dead, with(other, func(s *netstate.Subflow) { s.CAState = 3 }))},
			0,
			"1 connection has another subflow that works",
		},
		{
			"idle since the event",
			[]netstate.Connection{conn(dead, with(other, func(s *netstate.Subflow) { s.LastRecv = time.Hour }))},
			1,
			"the connection to 192.0.2.1:443 has no other subflow that has heard from the peer since",
		},
		{
			"heard in the very millisecond of the event",
			[]netstate.Connection{conn(dead, with(other, func(s *netstate.Subflow) { s.LastRecv = time.Second - 2*time.Millisecond }))},
			1,
			"the connection to 192.0.2.1:443 has no other subflow that has heard from the peer since",
		},
		{
			"an acknowledgement is enough",
			[]netstate.Connection{conn(dead, with(other, func(s *netstate.Subflow) { s.LastRecv, s.LastAck = time.Hour, 997*time.Millisecond }))},
			0,
			"1 connection has another subflow that works",
		},
		{
			"half closed",
			[]netstate.Connection{func() netstate.Connection { c := conn(dead); c.State = netstate.FinWait2; return c }()},
			1,
			"the connection to 192.0.2.1:443 has no other subflow",
		},
		{"fallen back", []netstate.Connection{func() netstate.Connection { c := conn(dead); c.Fallback = true; return c }()}, 0, "no connection uses it"},
		{"listening", []netstate.Connection{func() netstate.Connection { c := conn(dead); c.State = netstate.Listen; return c }()}, 0, "no connection uses it"},
		{
			"closing",
			[]netstate.Connection{conn(with(dead, func(s *netstate.Subflow) { s.State = netstate.FinWait1 }))},
			1,
			"the connection to 192.0.2.1:443 has no other subflow",
		},
		{"gone already", []netstate.Connection{conn(with(dead, func(s *netstate.Subflow) { s.State = netstate.TimeWait }))}, 0, "no connection uses it"},
		{
			"several",
			[]netstate.Connection{conn(dead), conn(dead, other), conn(dead)},
			2,
			"2 connections would be cut; the connection to 192.0.2.1:443 has no other subflow",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			ep := netstate.Endpoint{Addr: onEth0.Addr(), Link: 2, ID: 1}
			want := Verdict{Vacant: c.blocking == 0, Blocking: c.blocking, Why: c.why}
			if got := Vacancy(ep, c.conns, live, time.Second); got != want {
				t.Errorf("wanted %+v\nfound  %+v", want, got)
			}
			if got := IndexConnections(c.conns).Vacancy(ep, live, time.Second); got != want {
				t.Errorf("indexed: wanted %+v\nfound  %+v", want, got)
			}
		})
	}
}

func BenchmarkVacancy(b *testing.B) {
	conns := make([]netstate.Connection, 5000)
	eps := make([]netstate.Endpoint, 8)
	for i := range conns {
		conns[i] = conn(healthy(netip.MustParseAddrPort(fmt.Sprintf("10.1.1.%d:4", i%8))), healthy(onEth1))
	}
	for i := range eps {
		eps[i].Addr = netip.MustParseAddr(fmt.Sprintf("10.1.1.%d", i))
	}
	b.ReportAllocs()
	for b.Loop() {
		ix := IndexConnections(conns)
		for _, e := range eps {
			if !ix.Vacancy(e, live, time.Second).Vacant {
				b.Fatal("not vacant")
			}
		}
	}
}
