package reconcile

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/kernel/kerneltest"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/netstate/iptext"
)

func entry(endpoints *bool) config.LinkEntry {
	return config.LinkEntry{Name: "*", Endpoints: endpoints}
}

func mustPrefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// TestEveryRequestFailsOnce lets each request of a life fail in turn, and the
// four after it: the host must be right in the end all the same.
func TestEveryRequestFailsOnce(t *testing.T) {
	usual := settledLife(t)
	for n := 1; n <= usual.requests; n++ {
		for _, times := range []int{1, 5} {
			t.Run(fmt.Sprintf("%d/%d times", n, times), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := inhabited()
					f.FailWith(func(i int, _ netstate.Change) error {
						if i >= n && i < n+times {
							return errBusy
						}
						return nil
					})
					h := run(t, f, &memory{})
					life(h)
					if extra := h.Requests() - usual.requests; extra > 60 {
						t.Errorf("%d requests more than without a failure", extra)
					}
					if told := failureLines(h.logs); len(told) == 0 {
						t.Error("no line tells of it")
					}
					usual.wantAll(h, "in the end")
				})
			})
		}
	}
}

// TestWhatAlwaysFails looks for hot loops: a change that never succeeds, with
// and without a storm of events around it.
func TestWhatAlwaysFails(t *testing.T) {
	for op, name := range map[netstate.Op]string{
		netstate.RouteAdd: "route", netstate.RuleAppend: "rule", netstate.LimitsSet: "limits", netstate.EndpointAdd: "endpoint",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := kerneltest.New(iptext.MustSnapshot(twoSubnets))
				var tries atomic.Int64
				f.FailWith(func(_ int, c netstate.Change) error {
					if c.Op == op {
						tries.Add(1)
						return errBusy
					}
					return nil
				})
				h := run(t, f, &memory{})
				h.pass(time.Second)
				first := h.loop.View().Counters.Failures[op]
				if first == 0 {
					t.Fatal("nothing failed")
				}
				tries.Store(0)
				h.pass(10 * time.Minute)
				if most := 60 * int64(first); tries.Load() > most {
					t.Errorf("tried %d times in ten minutes at rest", tries.Load())
				}
				h.wantFinding(codeChange, true)
				if h.loop.View().Converged {
					t.Error("converged")
				}
				objects := map[string]int{}
				for _, l := range h.logs.All() {
					if l.ContextMap()["error"] != nil {
						objects[l.Message]++
					}
				}
				for m, n := range objects {
					if n > 1 {
						t.Errorf("logged %d times: %s", n, m)
					}
				}

				tries.Store(0)
				rounds := h.rounds()
				for range 10000 { // ten seconds of events
					h.Emit(netstate.Hints{Kinds: netstate.KindRoutes, Reason: "storm"})
					h.pass(time.Millisecond)
				}
				if most := 5 * int64(first); tries.Load() > most {
					t.Errorf("tried %d times in a storm", tries.Load())
				}
				if n := h.rounds() - rounds; n > 3500 {
					t.Errorf("%d rounds for 10000 events", n)
				}

				f.FailWith(nil)
				h.pass(time.Minute)
				h.wantSet(settledText)
				h.converged()
				h.wantFinding(codeChange, false)
			})
		})
	}
}

// TestEndpointThatCannotBeDeleted: it lingers, is tried again without haste, and
// is told once.
func TestEndpointThatCannotBeDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets)
		h.pass(time.Second)
		tries := 0
		h.FailWith(func(_ int, c netstate.Change) error {
			if c.Op != netstate.EndpointDelete {
				return nil
			}
			tries++
			return errBusy
		})
		h.Carrier(3, false)
		h.pass(10 * time.Minute)
		if tries < 5 || tries > 200 {
			t.Errorf("tried %d times in ten minutes", tries)
		}
		if told := failureLines(h.logs); len(told) != 1 || told["warn ip mptcp endpoint delete id 2"] != 1 {
			t.Errorf("lines of failures: %v", told)
		}
		h.wantFinding(codeLingering, true)
		h.FailWith(nil)
		h.pass(time.Minute)
		h.want(without(settledText, "10.1.2.2"))
		h.wantFinding(codeLingering, false)
	})
}

// TestEndpointWaitsForItsRouting: each connection tries an endpoint once.
func TestEndpointWaitsForItsRouting(t *testing.T) {
	for _, op := range []netstate.Op{netstate.RouteAdd, netstate.RuleAppend} {
		synctest.Test(t, func(t *testing.T) {
			f := kerneltest.New(iptext.MustSnapshot(twoSubnets))
			f.FailWith(func(_ int, c netstate.Change) error {
				if c.Op == op && (c.Route.Default() && c.Route.Table == 100003 || c.Rule.Table == 100003) {
					return errBusy
				}
				return nil
			})
			h := run(t, f, &memory{})
			h.pass(time.Second)
			if e := h.Snapshot().Endpoints; len(e) != 1 || e[0].Addr != ip1 {
				t.Errorf("op %d: endpoints %v", op, e)
			}
			f.FailWith(nil)
			h.pass(time.Minute)
			h.want(settledText)
		})
	}
}

// TestExchangeThatFailsKeepsTheOldRules: the rules of an address are appended
// anew behind a foreign rule, which fails; none of the old ones may go.
func TestExchangeThatFailsKeepsTheOldRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets)
		h.pass(time.Second)
		h.FailWith(func(_ int, c netstate.Change) error {
			if c.Op == netstate.RuleAppend && c.Rule.Table == 100003 {
				return errBusy
			}
			return nil
		})
		if err := h.AddRule(iptext.MustRule("32765: from all fwmark 0x5 lookup 51")); err != nil {
			t.Fatal(err)
		}
		h.pass(200 * time.Millisecond)
		got := 0
		for _, l := range lines(h.ours()) {
			if l == "rule from 10.1.2.2 lookup 100003 priority 32765 proto 77" {
				got++
			}
		}
		if got != 1 {
			t.Errorf("the third rule is there %d times:\n%s", got, h.ours())
		}
		h.FailWith(nil)
		h.pass(time.Minute)
		h.want(settledText)
		h.converged()
	})
}

func TestEndpointOfSomebodyElseIsNotClaimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := kerneltest.New(iptext.MustSnapshot(twoSubnets))
		// Between the read and the add somebody else takes the address.
		f.After(func(c netstate.Change) {
			if c.Op == netstate.LimitsSet {
				_ = f.AddEndpoint(netstate.Endpoint{Addr: ip1, Flags: netstate.SignalFlag})
			}
		})
		h := run(t, f, &memory{})
		h.pass(time.Minute)
		if _, ours := h.rec.own.Endpoints[ip1]; ours {
			t.Errorf("the record claims it: %+v", h.rec.own.Endpoints)
		}
		h.wantFinding("foreign-endpoint", true)
		h.converged()
	})
}

func TestAnnouncedEndpointOfAKilledDaemon(t *testing.T) {
	for _, there := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			f := kerneltest.New(iptext.MustSnapshot(without(twoSubnets, "metric 200")))
			r := &memory{}
			_ = r.Announce(netstate.Endpoint{Addr: ip1, Link: 2}, netstate.Endpoint{Addr: ip2, Link: 3})
			if there {
				_ = f.AddEndpoint(netstate.Endpoint{Addr: ip1, Link: 2, Flags: netstate.SubflowFlag})
				_ = f.AddEndpoint(netstate.Endpoint{Addr: ip2, Link: 3, Flags: netstate.SubflowFlag})
			}
			h := run(t, f, r)
			h.pass(time.Second)
			h.want(without(settledText, "10.1.2", "100003"))
			if e := r.own.Endpoints; len(e) != 1 || e[ip1].ID == 0 {
				t.Errorf("there %v: the record says %+v", there, e)
			}
		})
	}
}
