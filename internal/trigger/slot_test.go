package trigger

import (
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/subflowd/subflowd/internal/netstate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var t0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func links(n ...int) map[int]struct{} {
	m := map[int]struct{}{}
	for _, i := range n {
		m[i] = struct{}{}
	}
	return m
}

func TestSlotMergesAndKeepsTheFirstMoment(t *testing.T) {
	s := NewSlot()
	s.Put(netstate.Hints{}, t0)
	if s.Pending() {
		t.Fatal("an empty hint filled the slot")
	}
	s.Put(netstate.Hints{Kinds: netstate.KindAddrs, Links: links(2), Reason: "address added on eth0"}, t0)
	s.Put(netstate.Hints{Kinds: netstate.KindRoutes, Links: links(3), Reason: "route added"}, t0.Add(time.Second))
	<-s.Wake()
	h, first := s.Take(t0)
	want := netstate.Hints{Kinds: netstate.KindAddrs | netstate.KindRoutes, Links: links(2, 3), Reason: "address added on eth0"}
	if d := cmp.Diff(want, h); d != "" {
		t.Errorf("hints (-want +got):\n%s", d)
	}
	if !first.Equal(t0) {
		t.Errorf("first: want %v, got %v", t0, first)
	}
	if s.Pending() {
		t.Error("the slot is not empty after Take")
	}
	select {
	case <-s.Wake():
		t.Error("the slot wakes though it is empty")
	default:
	}
}

func TestSlotNeverBlocksNorDrops(t *testing.T) {
	s := NewSlot()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for k := range 1000 {
				s.Put(netstate.Hints{Kinds: netstate.KindAddrs, Links: links(i*1000 + k)}, t0)
			}
		})
	}
	seen := map[int]struct{}{}
	take := func() {
		h, _ := s.Take(t0)
		for l := range h.Links {
			seen[l] = struct{}{}
		}
	}
	for range 100 {
		<-s.Wake()
		take()
		if len(seen) == 8000 {
			break
		}
	}
	wg.Wait()
	take()
	if len(seen) != 8000 {
		t.Errorf("want 8000 links, got %d", len(seen))
	}
}

func TestGate(t *testing.T) {
	const ms, short = time.Millisecond, 200 * time.Microsecond
	for _, c := range []struct {
		name   string
		rounds int // without a pause
		took   time.Duration
		past   time.Duration
		want   time.Duration
	}{
		{"the messages of one change need no pause", 4, short, 0, 0},
		{"then they gather", 17, short, 0, MinGap},
		{"the pause runs from the end of the round", 17, short, 2 * ms, ms},
		{"after it the next event passes at once", 17, short, 3 * ms, 0},
		{"a costly round takes a tenth of the time", 6, 20 * ms, 0, 6*180*ms - DearCredit},
		{"no event waits longer than this", 9, 10 * time.Second, 0, MaxGap},
	} {
		t.Run(c.name, func(t *testing.T) {
			var g Gate
			if w := g.Wait(t0); w != 0 {
				t.Fatalf("the first event waits %v", w)
			}
			now := t0
			for range c.rounds {
				now = now.Add(c.took)
				g.Done(now, c.took)
			}
			if w := g.Wait(now.Add(c.past)); w != c.want {
				t.Errorf("want %v, got %v", c.want, w)
			}
			g.Done(now.Add(time.Minute), short)
			if w := g.Wait(now.Add(time.Minute)); w != 0 {
				t.Errorf("after a quiet minute the second event waits %v", w)
			}
		})
	}
}

func TestStormIsBoundedWork(t *testing.T) {
	// Events come all the time for a minute and each round takes 40 ms.
	var g Gate
	const took = 40 * time.Millisecond
	now, busy := t0, time.Duration(0)
	for now.Sub(t0) < time.Minute {
		now = now.Add(g.Wait(now) + took)
		busy += took
		g.Done(now, took)
	}
	if share := float64(busy) / float64(now.Sub(t0)); share > 0.11 {
		t.Errorf("a storm takes %.0f %% of the time", share*100)
	}
}

// TestFightIsLittleWork: another program makes an event every millisecond.
func TestFightIsLittleWork(t *testing.T) {
	var g Gate
	const took = 300 * time.Microsecond
	now, busy := t0, time.Duration(0)
	for now.Sub(t0) < time.Minute {
		now = now.Add(g.Wait(now) + took)
		busy += took
		g.Vain(now, took)
	}
	if share := float64(busy) / float64(now.Sub(t0)); share > 0.003 || share < 0.002 {
		t.Errorf("rounds in vain take %.2f %% of the time", share*100)
	}
	g.Vain(now, 20*time.Millisecond)
	if w := g.Wait(now); w != MaxGap {
		t.Errorf("after a costly round in vain the next event waits %v", w)
	}
}

func TestBackoff(t *testing.T) {
	b := Backoff{Min: 100 * time.Millisecond, Max: time.Second, Jitter: 0.2}
	for i, want := range []time.Duration{100, 100, 200, 400, 800, 1000, 1000} {
		if got := b.Pause(i, 0.5); got != want*time.Millisecond {
			t.Errorf("attempt %d: want %v, got %v", i, want*time.Millisecond, got)
		}
	}
	if lo, hi := b.Pause(1, 0), b.Pause(1, 0.999999); lo != 80*time.Millisecond || hi <= 119*time.Millisecond || hi > 120*time.Millisecond {
		t.Errorf("jitter: got %v to %v", lo, hi)
	}
	if got := b.Pause(1<<30, 0.5); got != time.Second {
		t.Errorf("many attempts: got %v", got)
	}
}
