package reconcile

import (
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/kernel/kerneltest"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/netstate/iptext"
)

const tun = 9

// tunnel brings a full tunnel up or takes it away.
func (h *host) tunnel(up bool) {
	out := 2
	if up {
		out = tun
	}
	h.Update(func(s *netstate.Snapshot) {
		s.Outbound = map[netstate.Family][2]int{netstate.IPv4: {out, out}}
		s.Links = slices.DeleteFunc(s.Links, func(l netstate.Link) bool { return l.Index == tun })
		if up {
			s.Links = append(s.Links, netstate.Link{Index: tun, Name: "tun0", Kind: "tun", Flags: netstate.FlagUp | netstate.FlagLowerUp | netstate.FlagP2P})
		}
	})
	h.Emit(netstate.Hints{Kinds: netstate.KindLinks | netstate.KindRoutes, Reason: "route added: 0.0.0.0/1 dev tun0"})
}

// bound is opened with its further subflows bound to links, as endpoints with
// dev have them.
func bound(token uint32, from ...netip.Addr) netstate.Connection {
	c := opened(token, from...)
	for i := range c.Subflows {
		if c.Subflows[i].JoinLocal {
			c.Subflows[i].Link = map[netip.Addr]int{ip1: 2, ip2: 3}[from[i]]
		}
	}
	return c
}

// guardedText is what the kernel holds of ours while the tunnel is up.
var guardedText = strings.Replace(without(settledText, "rule "), "limits subflows 2 add_addr_accepted 4", "limits subflows 0 add_addr_accepted 0", 1)

func TestGuardBeginsAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets)
		h.pass(time.Minute)
		h.SetConnections(bound(1, ip1, ip2))
		h.AppliedText()

		h.tunnel(true)
		h.pass(time.Millisecond)
		h.want(guardedText)
		h.converged()
		h.wantFinding("vpn-guard", true)
		applied := h.AppliedText()
		if len(applied) != 5 || applied[0] != "ip mptcp limits set subflows 0 add_addr_accepted 0" ||
			!strings.HasPrefix(applied[1], "ip -4 rule del from 10.1.1.2 lookup 100002") {
			t.Errorf("order: %q", applied)
		}
		closed, dumps := h.Destroyed()
		if len(closed) != 1 || closed[0].Local.Addr() != ip2 || dumps < 3 {
			t.Errorf("closed %v in %d dumps", closed, dumps)
		}
		if n := h.loop.View().Counters.Closed; n != 1 {
			t.Errorf("counted %d", n)
		}
		if h.logs.FilterMessageSnippet("subflow closed: 10.1.2.2:4000 dev eth1 to 10.9.0.2:80").Len() != 1 {
			t.Errorf("logged %v", h.logs.All())
		}
		if f := h.rec.own.LimitsFound; f == nil || *f != (netstate.Limits{Subflows: 2}) || *h.rec.own.LimitsSet != (netstate.Limits{}) {
			t.Errorf("record: %v, %v", f, h.rec.own.LimitsSet)
		}

		h.pass(time.Hour)
		if l := h.AppliedText(); len(l) != 0 {
			t.Errorf("changed while guarded: %q", l)
		}

		h.After(func(c netstate.Change) {
			if c.Op == netstate.EndpointAdd && c.Endpoint.Addr == ip2 {
				h.SetConnections(bound(1, ip1, ip2))
			}
		})
		h.tunnel(false)
		h.pass(50*time.Millisecond + farewellPause)
		h.want(settledText)
		applied = h.AppliedText()
		if len(applied) != 7 || !strings.Contains(applied[3], "rule add from 10.1.2.2 lookup 100003") || !slices.Equal(applied[4:], []string{
			"ip mptcp limits set subflows 2 add_addr_accepted 4",
			"ip mptcp endpoint delete id 2", "ip mptcp endpoint add 10.1.2.2 dev eth1 subflow",
		}) {
			t.Errorf("order: %q", applied)
		}
		h.pass(time.Minute)
		if l := h.AppliedText(); len(l) != 0 {
			t.Errorf("changed afterwards: %q", l)
		}
		h.wantFinding("vpn-guard", false)
		h.converged()
	})
}

// TestGuardEndsWithAllInUse: no endpoint is free of subflows, so none is
// touched, and what was opened meanwhile is offered them by a kick.
func TestGuardEndsWithAllInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets)
		h.pass(time.Minute)
		h.tunnel(true)
		h.SetConnections(opened(1, ip1), opened(2, ip2))
		h.pass(time.Minute)
		h.endpointChanges()
		h.tunnel(false)
		h.pass(50 * time.Millisecond)
		h.wantChanges("add 192.0.2.1", "delete id 3")
		h.pass(time.Hour)
		h.wantChanges()
	})
}

func TestSubflowsThatStillAppear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets)
		h.pass(time.Minute)
		h.tunnel(true)
		h.pass(time.Second)
		for _, c := range []struct {
			after, within time.Duration
		}{
			{2 * time.Second, 10 * time.Millisecond},
			{9 * time.Second, 10 * time.Millisecond},
			{time.Minute, 10 * time.Millisecond},
			{500 * time.Millisecond, 10 * time.Millisecond},
			{time.Hour, 10 * time.Millisecond},
		} {
			h.pass(c.after)
			h.Destroyed()
			joining := bound(1, ip1, ip2)
			joining.Subflows[1].State = netstate.SynSent
			h.SetConnections(joining)
			h.pass(c.within)
			if closed, _ := h.Destroyed(); len(closed) != 1 {
				t.Errorf("after %v: closed %v", c.after, closed)
			}
		}
		h.pass(time.Minute)
		h.Destroyed()
		rounds := h.rounds()
		h.pass(10 * time.Minute)
		_, dumps := h.Destroyed()
		if n := h.rounds() - rounds; n > 23 || dumps > 46 {
			t.Errorf("%d rounds and %d dumps in ten minutes of rest", n, dumps)
		}
	})
}

func TestLimitsRaisedWhileGuarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets)
		h.pass(time.Minute)
		h.tunnel(true)
		h.pass(time.Second)
		_ = h.SetLimits(netstate.Limits{Subflows: 8, AddAddrAccepted: 8})
		h.SetConnections(bound(1, ip1, ip2)) // that is how it shows
		h.pass(10 * time.Millisecond)
		h.want(guardedText)
		for range 3 {
			_ = h.SetLimits(netstate.Limits{Subflows: 8})
			h.pass(40 * time.Second)
		}
		h.wantFinding(codeContention, true)
		h.pass(2 * time.Minute)
		h.want(guardedText)
		h.tunnel(false)
		h.pass(time.Second)
		// What others set last is what they get back.
		h.want(strings.Replace(settledText, "limits subflows 2", "limits subflows 8", 1))
	})
}

func TestStopWhileGuarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets)
		h.pass(time.Minute)
		h.tunnel(true)
		h.pass(time.Second)
		h.stop()
		h.want(guardedText)
		h.AppliedText()

		again := run(t, h.Fake, h.rec)
		again.pass(time.Minute)
		if l := h.AppliedText(); len(l) != 0 {
			t.Errorf("the next daemon changed: %q", l)
		}
		again.tunnel(false)
		again.pass(time.Second)
		again.want(settledText)

		again.tunnel(true)
		again.pass(time.Second)
		again.stop()
		o, _ := options(h.Fake, h.rec)
		if _, err := Cleanup(o); err != nil {
			t.Fatal(err)
		}
		h.want("limits subflows 2 add_addr_accepted 0") // as before the first daemon
	})
}

func TestCleanupWhileGuardedRestoresLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets+"limits subflows 5 add_addr_accepted 1\n")
		h.pass(time.Second)
		h.tunnel(true)
		h.pass(time.Second)
		h.want(guardedText)
		h.stop()
		o, _ := options(h.Fake, h.rec)
		if _, err := Cleanup(o); err != nil {
			t.Fatal(err)
		}
		h.want("limits subflows 5 add_addr_accepted 1")
	})
}

// TestSignalledEndpointsAreWithdrawn, after all that must not wait.
func TestSignalledEndpointsAreWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := kerneltest.New(iptext.MustSnapshot(twoSubnets))
		o, logs := options(f, &memory{})
		o.Config.Role = config.RoleBoth
		h := runWith(t, f, o, logs)
		h.pass(time.Minute)
		h.SetConnections(conn(0, ip1))
		h.AppliedText()
		h.tunnel(true)
		h.pass(time.Second)
		h.want(strings.Replace(without(guardedText, "endpoint 10.1.2.2"), "eth0 subflow", "eth0 signal subflow", 1))
		applied := h.AppliedText()
		if n := len(applied); n != 6 || !strings.Contains(applied[0], "limits") || !strings.Contains(applied[5], "endpoint delete id 2") {
			t.Errorf("order: %q", applied)
		}
		if l := h.loop.View().Lingering; len(l) != 1 || l[0].Endpoint.Addr != ip1 {
			t.Errorf("lingering: %+v", l)
		}
		h.tunnel(false)
		h.pass(time.Second)
		h.want(strings.ReplaceAll(settledText, " subflow\n", " signal subflow\n"))
	})
}

func TestSubflowsThatCannotBeClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets)
		h.pass(time.Minute)
		h.SetConnections(bound(1, ip1, ip2))
		h.FailDestroy(syscall.EPERM)
		h.tunnel(true)
		h.pass(time.Minute)
		h.want(guardedText)
		if f, ok := h.finding(codeGuard); !ok || !strings.Contains(f.Remedy, "CAP_NET_ADMIN") {
			t.Errorf("finding: %+v", f)
		}
		if n := h.logs.FilterMessageSnippet("close subflows beside").Len(); n != 1 {
			t.Errorf("logged %d times", n)
		}
		h.FailDestroy(nil)
		h.pass(40 * time.Second)
		h.wantFinding(codeGuard, false)
		if closed, _ := h.Destroyed(); len(closed) != 1 {
			t.Errorf("closed %v", closed)
		}
	})
}

func TestNewLinkWhileGuarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, without(twoSubnets, "metric 200"))
		h.pass(time.Minute)
		h.tunnel(true)
		h.pass(time.Second)
		_ = h.AddRoute(defaultOf("10.1.2.1", 3, 200))
		h.SetConnections(opened(1, ip1))
		h.pass(time.Minute)
		if n := len(h.Snapshot().Endpoints); n != 1 {
			t.Errorf("%d endpoints while guarded", n)
		}
		h.tunnel(false)
		h.pass(time.Second + farewellPause)
		h.want(settledText)
	})
}
