package reconcile

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/subflowd/subflowd/internal/kernel/kerneltest"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/netstate/iptext"
)

// opened is a connection that this host opened, healthy on each address.
func opened(token uint32, from ...netip.Addr) netstate.Connection {
	c := conn(0, from...)
	c.Token = token
	c.Local = c.Subflows[0].Local
	for i := range c.Subflows {
		c.Subflows[i].Opened = true
	}
	return c
}

func unconfirmed(c netstate.Connection) netstate.Connection {
	c.Subflows = slices.Clone(c.Subflows)
	c.Subflows[0].FullyEstablished = false
	return c
}

// endpointChanges lists what was done with endpoints since the last call.
func (h *host) endpointChanges() []string {
	var out []string
	for _, s := range h.AppliedText() {
		if s, ok := strings.CutPrefix(s, "ip mptcp endpoint "); ok {
			out = append(out, s)
		}
	}
	return out
}

func (h *host) wantChanges(want ...string) {
	h.t.Helper()
	if got := h.endpointChanges(); !slices.Equal(got, want) {
		h.t.Errorf("endpoints: got %q, want %q", got, want)
	}
}

// answers lets every connection have a subflow from the endpoint as soon as a
// change is made for which may returns true.
func (h *host) answers(may func(c netstate.Change) bool, conns ...netstate.Connection) {
	h.After(func(c netstate.Change) {
		if may(c) {
			h.SetConnections(conns...)
		}
	})
}

// cable takes the carrier of eth1 for a while that no endpoint outlives.
func (h *host) cable() {
	h.Carrier(3, false)
	h.pass(15 * time.Second)
	h.want(without(settledText, "10.1.2.2"))
	h.endpointChanges()
	h.Carrier(3, true)
}

func TestKickServesWhatWasNeverOffered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := kerneltest.New(iptext.MustSnapshot(twoSubnets))
		f.SetConnections(opened(1, ip1))
		h := run(t, f, &memory{})
		h.answers(func(c netstate.Change) bool { return c.Op == netstate.EndpointAdd && c.Endpoint.Flags == 0 }, opened(1, ip1, ip2))
		h.pass(10 * time.Millisecond)
		h.wantChanges("add 10.1.1.2 dev eth0 subflow", "add 10.1.2.2 dev eth1 subflow")
		h.pass(time.Minute)
		h.wantChanges("add 192.0.2.1", "delete id 3")
		if n := h.loop.View().Counters.Kicks; n != 1 {
			t.Errorf("%d kicks", n)
		}
		if len(h.rec.own.Endpoints) != 2 {
			t.Errorf("record: %v", h.rec.own.Endpoints)
		}
		h.want(settledText)
		h.converged()
	})
}

func TestFailedAttemptIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets)
		h.pass(time.Minute)
		h.SetConnections(opened(1, ip1))
		h.cable()
		h.answers(func(c netstate.Change) bool {
			return c.Op == netstate.EndpointAdd && c.Endpoint.Addr == ip2
		}, opened(1, ip1))
		h.pass(300 * time.Millisecond)
		h.wantChanges("add 10.1.2.2 dev eth1 subflow")
		h.answers(func(c netstate.Change) bool {
			return c.Op == netstate.EndpointAdd && c.Endpoint.Addr == ip2
		}, opened(1, ip1, ip2))
		h.pass(time.Second)
		h.wantChanges("add 192.0.2.1", "delete id 4", "delete id 3", "add 10.1.2.2 dev eth1 subflow")
		h.pass(10 * time.Minute)
		h.wantChanges()
		if e := h.rec.own.Endpoints[ip2]; e.ID != 5 {
			t.Errorf("record: %+v", e)
		}
		h.want(settledText)
	})
}

func TestRefusedJoinsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets)
		h.pass(time.Minute)
		h.SetConnections(opened(1, ip1))
		h.cable()
		logs := h.logs.Len()
		h.pass(6*time.Second + 2*farewellPause)
		if n := strings.Count(strings.Join(h.endpointChanges(), "\n"), "add 10.1.2.2"); n != 3 {
			t.Errorf("added %d times in 8 s", n)
		}
		h.pass(time.Hour)
		h.wantChanges("delete id 6", "add 10.1.2.2 dev eth1 subflow")
		if n := h.logs.Len() - logs; n > 12 {
			t.Errorf("%d lines", n)
		}
		h.want(settledText)
		h.converged()
		if cut := h.Cut(); len(cut) != 0 {
			t.Errorf("connections were cut: %v", cut)
		}
		rounds := h.rounds()
		h.pass(10 * time.Minute)
		if n := h.rounds() - rounds; n > 23 {
			t.Errorf("%d rounds in ten minutes", n)
		}
	})
}

func TestEndpointInUseIsNeverDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets)
		h.pass(time.Minute)
		h.SetConnections(opened(1, ip1), opened(2, ip1))
		h.cable()
		h.pass(10 * time.Millisecond)
		h.wantChanges("add 10.1.2.2 dev eth1 subflow")
		h.SetConnections(opened(1, ip1), opened(2, ip1, ip2))
		h.pass(time.Minute)
		h.wantChanges("add 192.0.2.1", "delete id 4")
	})
}

// TestSilentConnection: one that was opened before there was any endpoint, and
// over which nothing is sent before all looks are over.
func TestSilentConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := kerneltest.New(iptext.MustSnapshot(twoSubnets))
		silent := opened(1, ip1)
		f.SetConnections(unconfirmed(silent))
		h := run(t, f, &memory{})
		h.pass(10 * time.Minute)
		h.endpointChanges()
		h.SetConnections(unconfirmed(silent), opened(2, ip1, ip2))
		h.pass(2 * time.Second)
		h.wantChanges()
		h.answers(func(c netstate.Change) bool { return c.Op == netstate.EndpointAdd }, opened(1, ip1, ip2))
		h.SetConnections(silent)
		h.pass(maxSleeperPause)
		h.wantChanges("add 192.0.2.1", "delete id 3")
		rounds := h.rounds()
		for range 1000 {
			h.SetConnections(opened(1, ip1, ip2))
			h.pass(100 * time.Millisecond)
		}
		if n := h.rounds() - rounds; n > 8 {
			t.Errorf("%d rounds for events that nobody waits for", n)
		}
	})
}

func TestSleeperCostsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := kerneltest.New(iptext.MustSnapshot(twoSubnets))
		silent := unconfirmed(opened(1, ip1))
		f.SetConnections(silent)
		h := run(t, f, &memory{})
		h.pass(time.Minute)
		rounds := h.rounds()
		for range 1000 {
			h.SetConnections(silent)
			h.pass(10 * time.Millisecond)
		}
		if n := h.rounds() - rounds; n > 25 {
			t.Errorf("%d rounds in ten seconds", n)
		}
		h.pass(time.Hour)
		rounds = h.rounds()
		for range 600 {
			h.SetConnections(silent)
			h.pass(time.Second)
		}
		if n := h.rounds() - rounds; n > 100 {
			t.Errorf("%d rounds in ten minutes", n)
		}
	})
}

func TestNoSlotForAKick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets)
		h.pass(time.Minute)
		h.Update(func(s *netstate.Snapshot) { s.MPTCP.MaxEndpoints = 2 })
		h.SetConnections(opened(1, ip1))
		h.cable()
		h.pass(time.Second + farewellPause)
		h.wantChanges("add 10.1.2.2 dev eth1 subflow", "delete id 3", "add 10.1.2.2 dev eth1 subflow")
	})
}

// TestKilledBetween: whatever a kill leaves of a kick or of a delete and add is
// known as ours by the next daemon.
func TestKilledBetween(t *testing.T) {
	for n := 1; n <= 4; n++ {
		synctest.Test(t, func(t *testing.T) {
			h := newHost(t, twoSubnets)
			h.pass(time.Minute)
			h.SetConnections(opened(1, ip1))
			h.cable()
			h.pass(10 * time.Millisecond)
			var left *netstate.Snapshot
			var own netstate.Ownership
			done := 0
			h.After(func(netstate.Change) {
				if done++; done == n {
					left, own = h.Snapshot(), h.rec.own
				}
			})
			h.pass(time.Minute)
			h.stop()
			again := run(t, kerneltest.New(left), &memory{own: own})
			again.pass(time.Minute)
			again.want(settledText)
			again.converged()
			again.wantFinding("foreign-endpoint", false)
			if len(again.rec.own.Endpoints) != 2 {
				t.Errorf("record: %v", again.rec.own.Endpoints)
			}
		})
	}
}

// TestInitialSubflowLost: the connection began on the path that was lost.
func TestInitialSubflowLost(t *testing.T) {
	begun := func(from ...netip.Addr) netstate.Connection {
		c := opened(1, from...)
		c.Local = netip.AddrPortFrom(ip2, 4000)
		return c
	}
	for _, answered := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			h := newHost(t, twoSubnets)
			h.pass(time.Minute)
			h.SetConnections(begun(ip1))
			h.cable()
			h.pass(900 * time.Millisecond)
			h.wantChanges("add 10.1.2.2 dev eth1 subflow", "add 192.0.2.1", "delete id 4", "delete id 3")
			if answered {
				h.answers(func(c netstate.Change) bool { return c.Op == netstate.EndpointAdd && c.Endpoint.Addr == ip2 }, begun(ip1, ip2))
			}
			h.pass(time.Second)
			h.wantChanges("add 10.1.2.2 dev eth1 subflow")
			h.pass(time.Hour)
			if answered {
				h.wantChanges()
			} else {
				h.wantChanges("delete id 5", "add 10.1.2.2 dev eth1 subflow", "delete id 6", "add 10.1.2.2 dev eth1 subflow")
			}
			h.want(settledText)
			h.converged()
			h.wantFinding(codeContention, false)
			if f, ok := h.loop.fights.Get(endpointObject(ip2)); ok {
				t.Errorf("taken for somebody else's work: %+v", f)
			}
		})
	}
}

func TestStopWhileAnEndpointIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets)
		h.pass(time.Minute)
		c := opened(1, ip1)
		c.Local = netip.AddrPortFrom(ip2, 4000)
		h.SetConnections(c)
		h.cable()
		h.pass(time.Second)
		h.want(without(settledText, "endpoint 10.1.2.2"))
		h.stop()
		h.want(settledText)
		if e := h.rec.own.Endpoints[ip2]; e.ID == 0 {
			t.Errorf("record: %v", h.rec.own.Endpoints)
		}
	})
}
