package reconcile

import (
	"context"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/kernel/kerneltest"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/netstate/iptext"
)

// watcher fails for some time.
type watcher struct {
	*kerneltest.Fake
	broken atomic.Bool
	tries  atomic.Int64
	conns  atomic.Int64 // subscriptions to connections that stand
}

func (w *watcher) Watch(ctx context.Context, ready func(), emit func(netstate.Hints)) error {
	w.tries.Add(1)
	if w.broken.Load() {
		return syscall.EPERM
	}
	return w.Fake.Watch(ctx, ready, emit)
}

func (w *watcher) WatchConnections(ctx context.Context, emit func()) error {
	w.conns.Add(1)
	defer w.conns.Add(-1)
	return w.Fake.WatchConnections(ctx, emit)
}

func watched(t *testing.T, broken bool) (*host, *watcher) {
	f := kerneltest.New(iptext.MustSnapshot(twoSubnets))
	w := &watcher{Fake: f}
	w.broken.Store(broken)
	o, logs := options(f, &memory{})
	o.Watcher = w
	return runWith(t, f, o, logs), w
}

func TestWatcherThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, w := watched(t, true)
		h.pass(time.Second)
		h.want(settledText)
		if x, ok := h.finding(codeWatch); !ok || !strings.Contains(x.Remedy, "CAP_NET_ADMIN") {
			t.Errorf("finding: %+v", x)
		}
		h.pass(10 * time.Minute)
		if n := w.tries.Load(); n < 15 || n > 60 {
			t.Errorf("tried %d times in ten minutes", n)
		}
		// The resync finds what no event tells.
		h.DelRule(iptext.MustRule("32765: from 10.1.2.2 lookup 100003 proto 77"))
		h.pass(40 * time.Second)
		h.want(settledText)

		w.broken.Store(false)
		h.pass(time.Minute)
		h.wantFinding(codeWatch, false)
		h.DelRule(iptext.MustRule("32765: from 10.1.2.2 lookup 100003 proto 77"))
		h.pass(20 * time.Millisecond)
		h.want(settledText)
	})
}

func TestConnectionsAreWatchedWhileSomethingLingers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, w := watched(t, false)
		h.SetConnections(conn(time.Hour, ip1, ip2))
		for range 3 {
			h.pass(time.Minute)
			if n := w.conns.Load(); n != 0 {
				t.Fatalf("%d subscriptions at rest", n)
			}
			h.Carrier(3, false)
			h.pass(time.Second)
			if n := w.conns.Load(); n != 1 {
				t.Fatalf("%d subscriptions while an endpoint lingers", n)
			}
			h.Carrier(3, true)
		}
	})
}

func TestStormOfConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets)
		h.SetConnections(conn(time.Hour, ip1, ip2))
		h.pass(time.Second)
		h.Carrier(3, false)
		h.pass(time.Second)
		rounds := h.rounds()
		for range 10000 {
			h.SetConnections(conn(time.Hour, ip1, ip2))
			h.pass(100 * time.Microsecond)
		}
		if n := h.rounds() - rounds; n > 400 {
			t.Errorf("%d rounds in a second", n)
		}
		if l := h.loop.View().Lingering; len(l) != 1 {
			t.Errorf("lingering: %+v", l)
		}
	})
}

// TestDeletesMakeRoom: while endpoints are deleted, 10 ms each, another link
// comes up; it must not wait for all of them.
func TestDeletesMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets)
		h.pass(time.Second)
		var late time.Duration
		var came time.Time
		h.After(func(c netstate.Change) {
			switch {
			case c.Op == netstate.EndpointDelete:
				time.Sleep(10 * time.Millisecond)
				if came.IsZero() {
					came = time.Now()
					h.AddAddr(netstate.Addr{Link: 2, Local: mustPrefix("10.1.1.9/24")})
				}
			case c.Op == netstate.RuleAppend && !came.IsZero() && late == 0:
				late = time.Since(came)
			}
		})
		no := false
		c := h.loop.View().Config
		c.Links = append(c.Links, config.LinkEntry{Name: "*", Endpoints: &no})
		if err := h.loop.SetConfig(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		h.pass(10 * time.Second)
		if late == 0 || late >= 20*time.Millisecond { // the delete that runs, and the gap
			t.Errorf("the address waited %v", late)
		}
		if n := len(h.Snapshot().Endpoints); n != 0 {
			t.Errorf("%d endpoints are left", n)
		}
	})
}
