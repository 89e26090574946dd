package reconcile

import (
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/subflowd/subflowd/internal/kernel/kerneltest"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/netstate/iptext"
)

var (
	ip1 = netip.MustParseAddr("10.1.1.2")
	ip2 = netip.MustParseAddr("10.1.2.2")
)

// defaultOf is a link's default route in main.
func defaultOf(gateway string, link int, metric uint32) netstate.Route {
	return netstate.Route{
		Family: netstate.IPv4, Table: netstate.TableMain, Dst: netstate.IPv4.Default(), Type: netstate.Unicast,
		Gateway: netip.MustParseAddr(gateway), Link: link, Metric: metric, Protocol: netstate.ProtoDHCP,
	}
}

// conn is a connection with one subflow from each address, all healthy and
// heard from so long ago.
func conn(heard time.Duration, from ...netip.Addr) netstate.Connection {
	c := netstate.Connection{Token: 1, State: netstate.Established, Remote: netip.MustParseAddrPort("10.9.0.2:80")}
	for i, a := range from {
		c.Subflows = append(c.Subflows, netstate.Subflow{
			State: netstate.Established, Local: netip.AddrPortFrom(a, 4000), Remote: c.Remote,
			FullyEstablished: true, JoinLocal: i > 0, LastRecv: heard, LastAck: heard,
		})
	}
	return c
}

// TestScenarios lets something happen to a host at rest and then time pass.
func TestScenarios(t *testing.T) {
	never := netip.MustParseAddr("10.1.1.9")
	for _, c := range []struct {
		name  string
		do    func(h *host)
		after time.Duration
		want  string
	}{
		{"nothing", func(*host) {}, time.Minute, settledText},
		{"an address is added", func(h *host) {
			h.AddAddr(netstate.Addr{Link: 2, Local: netip.PrefixFrom(never, 24)})
		}, 20 * time.Millisecond, settledText + `
			rule from 10.1.1.9 lookup main suppress_prefixlength 0 priority 32765 proto 77
			rule from 10.1.1.9 lookup 100002 priority 32765 proto 77`},
		{"an address is replaced", func(h *host) {
			h.AddAddr(netstate.Addr{Link: 2, Local: netip.PrefixFrom(never, 24)})
			h.DelAddr(2, ip1)
			_ = h.AddRoute(defaultOf("10.1.1.1", 2, 100)) // the DHCP client's next step
		}, 50 * time.Millisecond, strings.ReplaceAll(settledText, "10.1.1.2", "10.1.1.9")},
		{"the default route goes", func(h *host) {
			h.DelRoute(defaultOf("10.1.2.1", 3, 200))
		}, 20 * time.Millisecond, without(settledText, "10.1.2", "100003")},
		{"the carrier goes: rules stay for the grace", func(h *host) {
			h.Carrier(3, false)
		}, GracePeriod - time.Second, without(settledText, "endpoint 10.1.2.2")},
		{"the grace is over: the other link answers", func(h *host) {
			h.Carrier(3, false)
		}, GracePeriod + time.Second, without(settledText, "10.1.2.2")},
		{"the carrier comes back within the grace", func(h *host) {
			h.Carrier(3, false)
			h.pass(5 * time.Second)
			h.Carrier(3, true)
		}, 20 * time.Millisecond, settledText},
		{"and after it", func(h *host) {
			h.Carrier(3, false)
			h.pass(time.Minute)
			h.Carrier(3, true)
		}, 20 * time.Millisecond, settledText},
		{"no link has carrier: the rules stay", func(h *host) {
			h.Carrier(2, false)
			h.Carrier(3, false)
		}, time.Minute, without(settledText, "endpoint")},
		{"a link is unplugged for good", func(h *host) {
			h.DelLink(3)
		}, 20 * time.Millisecond, without(settledText, "10.1.2", "100003")},
		{"events are lost", func(h *host) {
			h.Update(func(s *netstate.Snapshot) {
				s.Rules = iptext.MustSnapshot("link 1 lo loopback").Rules
			})
			h.Overflow()
		}, 20 * time.Millisecond, settledText},
		{"an endpoint vanishes without an event", func(h *host) {
			h.DelEndpoint(ip1)
		}, 40 * time.Second, settledText},
		{"limits are lowered without an event", func(h *host) {
			_ = h.SetLimits(netstate.Limits{})
		}, 40 * time.Second, settledText},
		{"a foreign rule comes behind ours", func(h *host) {
			_ = h.AddRule(iptext.MustRule("32765: from all fwmark 0x5 lookup 51"))
		}, 20 * time.Millisecond, settledText},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t, twoSubnets)
				h.pass(time.Second)
				c.do(h)
				h.pass(c.after)
				h.wantSet(without(c.want, "limits"), "limits")
				h.converged()
				if cut := h.Cut(); len(cut) != 0 {
					t.Errorf("connections were cut: %v", cut)
				}
			})
		})
	}
}

// wantSet is want in any order, without the lines that contain one of the words.
func (h *host) wantSet(text string, words ...string) {
	h.t.Helper()
	want, got := lines(text), lines(without(h.ours(), words...))
	slices.Sort(want)
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		h.t.Errorf("(-want +got):\n%s", d)
	}
}

func TestLateDefaultRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, without(twoSubnets, "metric 200"))
		h.pass(time.Minute)
		h.want(without(settledText, "10.1.2", "100003"))
		if err := h.AddRoute(defaultOf("10.1.2.1", 3, 200)); err != nil {
			t.Fatal(err)
		}
		h.pass(time.Millisecond)
		h.want(settledText)
	})
}

func TestRouteWithALifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := kerneltest.New(iptext.MustSnapshot(twoSubnets))
		f.Update(func(s *netstate.Snapshot) {
			for i := range s.Routes {
				if s.Routes[i].Default() && s.Routes[i].Link == 3 {
					s.Routes[i].ExpiresIn = 7 * time.Second
				}
			}
		})
		h := run(t, f, &memory{})
		h.pass(6 * time.Second)
		h.want(settledText)
		h.Update(func(s *netstate.Snapshot) {
			for i := range s.Routes {
				if s.Routes[i].ExpiresIn > 0 {
					s.Routes[i].ExpiresIn = -time.Second // still shown, and over
				}
			}
		})
		h.pass(1200 * time.Millisecond)
		h.want(without(settledText, "10.1.2", "100003"))
	})
}

func TestEndpointLingers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets)
		h.SetConnections(conn(time.Hour, ip1, ip2))
		h.pass(time.Second)
		h.Carrier(3, false)
		h.pass(20 * time.Second)
		h.want(without(settledText, "rule from 10.1.2.2"))
		v := h.loop.View()
		if len(v.Lingering) != 1 || v.Lingering[0].Endpoint.Addr != ip2 || v.Lingering[0].Blocking != 1 || v.Lingering[0].Why == "" {
			t.Fatalf("lingering: %+v", v.Lingering)
		}
		h.wantFinding(codeLingering, true)
		h.converged()
		if n := v.Lingering[0].Looks; n < 5 || n > 30 {
			t.Errorf("looked %d times in 20 s", n)
		}
		if got := v.Snapshot.Endpoints[1]; got.ID != v.Lingering[0].Endpoint.ID || got.Flags != netstate.SubflowFlag {
			t.Errorf("a lingering endpoint changed: %v", got)
		}

		// The other subflow has made progress since: the next event tells.
		h.SetConnections(conn(time.Second, ip1, ip2))
		h.pass(5 * time.Millisecond)
		h.want(without(settledText, "10.1.2.2"))
		h.wantFinding(codeLingering, false)
		if cut := h.Cut(); len(cut) != 0 {
			t.Errorf("connections were cut: %v", cut)
		}
		if _, ours := h.rec.own.Endpoints[ip2]; ours {
			t.Error("the record names an endpoint that is gone")
		}
		// The other subflow's peer hears of the delete first.
		h.Carrier(3, true)
		h.pass(farewellPause / 2)
		h.want(without(settledText, "10.1.2.2 dev"))
		h.pass(farewellPause)
		h.want(settledText)
		h.converged()
	})
}

func TestLingeringEndpointIsWantedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets)
		h.SetConnections(conn(time.Hour, ip1, ip2))
		h.pass(time.Second)
		h.Applied()
		h.Carrier(3, false)
		h.pass(5 * time.Second)
		h.Carrier(3, true)
		h.pass(time.Second)
		if l := h.AppliedText(); len(l) != 0 {
			t.Errorf("changed: %v", l)
		}
		if l := h.loop.View().Lingering; len(l) != 0 {
			t.Errorf("lingering: %v", l)
		}
		rounds := h.rounds()
		h.pass(25 * time.Second)
		// The resync, and the looks for connections that missed a subflow.
		if n := h.rounds() - rounds; n > 4 {
			t.Errorf("%d rounds though nothing lingers", n)
		}
	})
}

func TestTwoUnwantedEndpointsOfOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets)
		c := h.loop.View().Config
		h.SetConnections(conn(0, ip1, ip2))
		h.pass(time.Second)
		no := false
		c.Links = append(c.Links, entry(&no))
		if err := h.loop.SetConfig(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		h.pass(time.Minute)
		if n := len(h.Snapshot().Endpoints); n != 1 {
			t.Errorf("%d endpoints are left", n)
		}
		if cut := h.Cut(); len(cut) != 0 {
			t.Errorf("connections were cut: %v", cut)
		}
	})
}

func TestFlappingLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets)
		h.pass(time.Second)
		for range 4 {
			h.Carrier(3, false)
			h.pass(500 * time.Millisecond)
			h.Carrier(3, true)
			h.pass(100 * time.Millisecond)
		}
		h.want(without(settledText, "endpoint 10.1.2.2"))
		h.converged()
		var reason string
		for _, p := range h.loop.View().Plan.Paths {
			for _, a := range p.Addrs {
				if a.IP == ip2 {
					reason = a.Reason
				}
			}
		}
		if !strings.Contains(reason, "flapping") {
			t.Errorf("reason: %q", reason)
		}
		h.pass(2 * time.Second)
		h.want(settledText)
	})
}

func TestContention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets)
		h.pass(time.Second)
		undone := 0
		rule := iptext.MustRule("32765: from 10.1.2.2 lookup 100003 proto 77")
		for start := time.Now(); time.Since(start) < 10*time.Minute; h.pass(50 * time.Millisecond) {
			if strings.Contains(h.ours(), "from 10.1.2.2 lookup 100003") {
				undone++
				h.DelRule(rule)
			}
		}
		if undone < 8 || undone > 25 {
			t.Errorf("repaired %d times in ten minutes", undone)
		}
		v := h.loop.View()
		if len(v.Contentions) != 1 || v.Contentions[0].Object != "rules of 10.1.2.2" || v.Contentions[0].Pause != time.Minute {
			t.Errorf("contentions: %+v", v.Contentions)
		}
		h.wantFinding(codeContention, true)
		if v.Converged || len(v.Left) != 1 || v.Left[0].Next.IsZero() {
			t.Errorf("left: %+v", v.Left)
		}
		h.pass(time.Minute)
		h.want(settledText)
		h.converged()
		h.pass(10 * time.Minute)
		h.wantFinding(codeContention, false)
	})
}

func TestReconfiguredLinkIsNoContention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets)
		for range 10 {
			h.pass(time.Second)
			h.LinkDown(3)
			h.pass(time.Second)
			h.LinkUp(3)
			_ = h.AddRoute(defaultOf("10.1.2.1", 3, 200))
		}
		h.pass(time.Minute)
		h.want(settledText)
		h.wantFinding(codeContention, false)
	})
}

func TestRecordThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &memory{err: syscall.ENOSPC}
		h := run(t, kerneltest.New(iptext.MustSnapshot(twoSubnets)), r)
		h.pass(time.Second)
		h.want(settledText)
		h.wantFinding(codeRecord, true)
		n := h.logs.FilterMessage("write state record").Len()
		if n != 1 {
			t.Errorf("logged %d times", n)
		}
	})
}

func TestKernelThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := kerneltest.New(iptext.MustSnapshot(twoSubnets))
		var count atomic.Int64
		f.FailRefresh(func(netstate.Hints) error {
			count.Add(1)
			return syscall.EPERM
		})
		h := run(t, f, &memory{})
		h.pass(time.Hour)
		reads := count.Load()
		if reads < 100 || reads > 400 {
			t.Errorf("%d reads in an hour", reads)
		}
		if x, ok := h.finding(codeRead); !ok || !strings.Contains(x.Remedy, "CAP_NET_ADMIN") {
			t.Errorf("finding: %+v", x)
		}
		if h.logs.Len() != 1 {
			t.Errorf("logged %v", h.logs.All())
		}
		if h.loop.View().Converged {
			t.Error("converged")
		}
		f.FailRefresh(nil)
		h.pass(time.Minute)
		h.want(settledText)
		h.converged()
		h.wantFinding(codeRead, false)
	})
}
