package reconcile

import (
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/subflowd/subflowd/internal/kernel/kerneltest"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/netstate/iptext"
)

// managed is a host on which a daemon has been.
func managed(t *testing.T, text string) (*kerneltest.Fake, *memory) {
	f, r := kerneltest.New(iptext.MustSnapshot(text)), &memory{}
	o, _ := options(f, r)
	if v := New(o).Once(t.Context()); !v.Converged {
		t.Fatalf("left: %+v", v.Left)
	}
	f.Applied()
	return f, r
}

func TestOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		f, _ := managed(t, twoSubnets)
		if d := cmp.Diff(lines(settledText), lines(oursOf(f.Snapshot()))); d != "" {
			t.Error(d)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("took %v", took)
		}
	})
}

func TestOnceTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := kerneltest.New(iptext.MustSnapshot(twoSubnets))
		f.FailOp(netstate.RouteAdd, 9, errBusy)
		o, _ := options(f, &memory{})
		if v := New(o).Once(t.Context()); !v.Converged {
			t.Errorf("left: %+v", v.Left)
		}
	})
}

func TestOnceGivesUp(t *testing.T) {
	for name, prepare := range map[string]func(f *kerneltest.Fake){
		"a change fails":           func(f *kerneltest.Fake) { f.FailOp(netstate.RuleAppend, 1<<30, errBusy) },
		"the kernel is unreadable": func(f *kerneltest.Fake) { f.FailRefresh(func(netstate.Hints) error { return errBusy }) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := kerneltest.New(iptext.MustSnapshot(twoSubnets))
				prepare(f)
				o, _ := options(f, &memory{})
				start := time.Now()
				v := New(o).Once(t.Context())
				if v.Converged {
					t.Error("converged")
				}
				if took := time.Since(start); took > onceTimeout || took < onceTimeout/4 {
					t.Errorf("took %v", took)
				}
				if n := v.Counters.Rounds; n > 20 {
					t.Errorf("%d rounds", n)
				}
			})
		})
	}
}

func TestOnceWaitsForLingeringEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, r := managed(t, twoSubnets)
		f.SetConnections(conn(10*time.Millisecond, ip1, ip2))
		f.Carrier(3, false)
		o, _ := options(f, r)
		if v := New(o).Once(t.Context()); len(v.Lingering) != 0 || len(f.Snapshot().Endpoints) != 1 {
			t.Errorf("lingering: %+v", v.Lingering)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		f, r := managed(t, twoSubnets)
		f.SetConnections(conn(time.Hour, ip1, ip2))
		f.Carrier(3, false)
		o, _ := options(f, r)
		start := time.Now()
		if v := New(o).Once(t.Context()); !v.Converged || len(v.Lingering) != 1 {
			t.Errorf("converged %v, lingering %+v", v.Converged, v.Lingering)
		}
		if took := time.Since(start); took > onceLinger {
			t.Errorf("took %v", took)
		}
	})
}

func TestCleanup(t *testing.T) {
	const foreign = `
		rule 32765: from 10.1.1.2 lookup 51
		rule 100: from all fwmark 0x5 lookup 52
		route 10.7.0.0/16 via 10.1.1.7 dev eth0 proto static
		endpoint 10.9.9.9 id 200 signal
	`
	before := iptext.Text(kerneltest.New(iptext.MustSnapshot(twoSubnets + foreign)).Snapshot())
	f, r := managed(t, twoSubnets+foreign)
	f.SetConnections(conn(0, ip1, ip2))
	o, _ := options(f, r)
	got, err := Cleanup(o)
	if err != nil {
		t.Fatal(err)
	}
	if got.Endpoints != 2 || got.Rules != 4 || got.Routes != 5 || got.Connections != 1 || got.Limits == nil {
		t.Errorf("got %+v", got)
	}
	if d := cmp.Diff([]string{"10.9.9.9 id 200 signal"}, got.Left); d != "" {
		t.Errorf("left: %s", d)
	}
	if d := cmp.Diff(before, iptext.Text(f.Snapshot())); d != "" {
		t.Errorf("(-before +after):\n%s", d)
	}
	if r.own.Known {
		t.Error("the record is still there")
	}
	text := f.AppliedText()
	if third, second := index(text, "rule del from 10.1.1.2 lookup 100002"), index(text, "rule del from 10.1.1.2 lookup main"); third > second {
		t.Errorf("order:\n%s", strings.Join(text, "\n"))
	}
	if e, ru, ro := index(text, "endpoint delete"), index(text, "rule del"), index(text, "route del"); e > ru || ru > ro {
		t.Errorf("order:\n%s", strings.Join(text, "\n"))
	}
	if again, err := Cleanup(o); err != nil || again.Endpoints+again.Rules+again.Routes != 0 || len(f.Applied()) != 0 {
		t.Errorf("second cleanup: %+v, %v", again, err)
	}
}

func index(list []string, part string) int {
	for i, s := range list {
		if strings.Contains(s, part) {
			return i
		}
	}
	return len(list)
}

func TestCleanupWithoutARecord(t *testing.T) {
	f, _ := managed(t, twoSubnets)
	o, _ := options(f, &memory{})
	got, err := Cleanup(o)
	if err != nil || got.Endpoints != 0 || got.Rules != 4 || len(got.Left) != 2 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestCleanupKeepsLimitsOfOthers(t *testing.T) {
	f, r := managed(t, twoSubnets)
	if err := f.SetLimits(netstate.Limits{Subflows: 7, AddAddrAccepted: 7}); err != nil {
		t.Fatal(err)
	}
	o, _ := options(f, r)
	got, err := Cleanup(o)
	if err != nil || got.Limits != nil || f.Snapshot().Limits.Subflows != 7 {
		t.Errorf("got %+v, %v, limits %v", got, err, f.Snapshot().Limits)
	}
}

// TestLimitsThatOthersSetBetweenReads: no event tells of them, and a change of
// ours comes before the resync.
func TestLimitsThatOthersSetBetweenReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets+"link 4 eth2\naddr 10.1.3.2/24 dev eth2\nroute 10.1.3.0/24 dev eth2 proto kernel\n")
		h.pass(time.Second)
		if err := h.SetLimits(netstate.Limits{AddAddrAccepted: 3}); err != nil {
			t.Fatal(err)
		}
		if err := h.AddRoute(defaultOf("10.1.3.1", 4, 300)); err != nil {
			t.Fatal(err)
		}
		h.pass(time.Second)
		if got := h.Snapshot().Limits; got != (netstate.Limits{Subflows: 3, AddAddrAccepted: 4}) {
			t.Errorf("limits are %v", got)
		}
		h.stop()
		o, _ := options(h.Fake, h.rec)
		if _, err := Cleanup(o); err != nil {
			t.Fatal(err)
		}
		if got := h.Snapshot().Limits; got != (netstate.Limits{AddAddrAccepted: 3}) {
			t.Errorf("after a cleanup the limits are %v, not what others set", got)
		}
	})
}

func TestCleanupDeletesDuplicates(t *testing.T) {
	f, r := managed(t, twoSubnets)
	for range 3 {
		f.Apply([]netstate.Change{{Op: netstate.RuleAppend, Rule: iptext.MustRule("32765: from 10.1.1.2 lookup 100002 proto 77")}})
	}
	o, _ := options(f, r)
	if _, err := Cleanup(o); err != nil {
		t.Error(err)
	}
	if s := oursOf(f.Snapshot()); strings.Contains(s, "77") {
		t.Errorf("left:\n%s", s)
	}
}

func TestCleanupThatFails(t *testing.T) {
	for _, op := range []netstate.Op{netstate.EndpointDelete, netstate.RuleDelete, netstate.RouteDelete, netstate.LimitsSet} {
		f, r := managed(t, twoSubnets)
		f.FailWith(func(_ int, c netstate.Change) error {
			if c.Op == op {
				return syscall.EPERM
			}
			return nil
		})
		o, _ := options(f, r)
		if _, err := Cleanup(o); err == nil {
			t.Errorf("op %d: no error", op)
		}
		if !r.own.Known {
			t.Errorf("op %d: the record is gone before all that it names", op)
		}
		f.FailWith(nil)
		if _, err := Cleanup(o); err != nil {
			t.Errorf("op %d: %v", op, err)
		}
	}
}

// TestLimitsThatOthersSetBeforeOurs: what somebody sets between our look and our
// change is found, and kept.
func TestLimitsThatOthersSetBeforeOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := kerneltest.New(iptext.MustSnapshot(twoSubnets))
		theirs, once := netstate.Limits{Subflows: 7, AddAddrAccepted: 1}, sync.Once{}
		f.After(func(c netstate.Change) {
			if c.Op == netstate.RuleAppend { // rules are made before the limits
				once.Do(func() { f.SetLimits(theirs) })
			}
		})
		h := run(t, f, &memory{})
		h.pass(time.Minute)
		if got := h.Snapshot().Limits; got != (netstate.Limits{Subflows: 7, AddAddrAccepted: 4}) {
			t.Errorf("limits are %s", got.Text())
		}
		if found := h.rec.own.LimitsFound; found == nil || *found != theirs {
			t.Errorf("found before ours: %v", found)
		}
		h.converged()
	})
}
