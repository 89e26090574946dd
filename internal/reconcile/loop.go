package reconcile

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/diff"
	"github.com/subflowd/subflowd/internal/health"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
	"github.com/subflowd/subflowd/internal/trigger"
)

// Periods of the loop that are no part of the configuration.
var (
	// resyncJitter keeps hosts that were started together apart.
	resyncJitter = 0.1
	// readBackoff spaces reads that failed, and subscriptions that ended.
	readBackoff = trigger.Backoff{Min: 100 * time.Millisecond, Max: 30 * time.Second, Jitter: 0.2}
)

// Options are what a loop works with.
type Options struct {
	Kernel  Kernel
	Watcher Watcher // not needed by Once and Cleanup
	Record  Record
	Config  config.Config
	Log     *zap.Logger
	// Tick bounds the time between two full reads from above, besides the
	// configuration; 0: it does not. It is for a service manager's watchdog.
	Tick time.Duration
	// OnRound is called by the loop after every round, OnTick after every full
	// read, OnConfig before the first round with another configuration, and when
	// nothing is left of the numbers that were used before. Each may be nil; none
	// may block.
	OnRound  func(*View)
	OnTick   func()
	OnConfig func(config.Config, netstate.Ownership)
}

// Loop keeps the kernel as planned. Its fields belong to the goroutine that
// calls Run or Once; the exported methods besides may be called by any.
type Loop struct {
	o   Options
	cfg config.Config
	log *zap.Logger

	slot     *trigger.Slot
	requests chan chan struct{}
	configs  chan config.Config
	nudge    chan struct{} // lingering endpoints and findings are to be looked at
	watchErr atomic.Pointer[error]
	reach    atomic.Pointer[map[netstate.LinkFamily]health.State]
	events   atomic.Uint64 // hints of the watcher

	gate      trigger.Gate
	snap      *netstate.Snapshot
	plan      *plan.Plan
	planned   *netstate.Snapshot // of which plan and changes are
	changes   diff.Changes
	wishes    map[object]wish
	carriers  carriers
	expiry    expiry
	held      map[object]settled
	fights    trigger.Fights[object]
	failures  map[object]*failure
	lingers   map[lingerKey]*linger
	rearm     rearm
	farewells farewells
	guard     guard
	told      map[netip.Addr]*told
	reading   retry // the kernel could not be read
	names     netstate.Names

	recordErr  error
	resync     time.Time
	walk       time.Time // when a large table is to be walked; zero: not
	fightDue   time.Time
	due        time.Time // when the loop acts by itself
	poked      bool      // nudged
	waiters    []chan struct{}
	used       time.Duration      // of the processors, at the end of the last round
	unwatch    context.CancelFunc // ends WatchConnections
	watchPause time.Duration      // see eventPause

	since    map[findingKey]time.Time
	counters Counters
	recent   []Event
	untold   []Event // changes that are not in recent yet
	seq      uint64
	started  time.Time

	view     atomic.Pointer[View]
	working  atomic.Bool // a round runs whose view is not there yet
	mu       sync.Mutex
	changed  chan struct{}
	reported map[findingKey]plan.Finding
	wg       sync.WaitGroup
}

// retry is something that failed and is tried again.
type retry struct {
	err   error
	tries int
	next  time.Time
}

func (r *retry) failed(err error, now time.Time) {
	r.tries++
	r.err = err
	r.next = now.Add(readBackoff.Pause(r.tries, rand.Float64()))
}

// New makes a loop; nothing happens before Run or Once.
func New(o Options) *Loop {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	l := &Loop{
		o: o, cfg: o.Config, log: o.Log, slot: trigger.NewSlot(), started: time.Now(),
		requests: make(chan chan struct{}), configs: make(chan config.Config), nudge: make(chan struct{}, 1),
		held: map[object]settled{}, failures: map[object]*failure{}, lingers: map[lingerKey]*linger{}, told: map[netip.Addr]*told{},
		names: netstate.Names{}, since: map[findingKey]time.Time{}, changed: make(chan struct{}), reported: map[findingKey]plan.Finding{},
	}
	l.counters.Changes = map[netstate.Op]uint64{}
	l.counters.Failures = map[netstate.Op]uint64{}
	l.view.Store(&View{Started: l.started, Config: o.Config, Names: l.names})
	return l
}

// View is the newest view; never nil.
func (l *Loop) View() *View { return l.view.Load() }

// Behind tells whether the newest view may not show what the kernel has told
// already: a round runs or is about to. Another view follows soon. Events on
// which no path depends, of which a host of containers has always some, do not count.
func (l *Loop) Behind() bool { return l.slot.Pending() || l.working.Load() }

// Changed returns a channel that is closed with the next view.
func (l *Loop) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// Reconcile reads everything again, puts it right, and returns when that is
// done or ctx ends, with the error of ctx. Changes that fail are no error: the
// view has them. It needs a running loop.
func (l *Loop) Reconcile(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case l.requests <- done:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// SetConfig makes the loop follow another configuration. It needs a running
// loop, and returns the error of ctx if that ends first.
func (l *Loop) SetConfig(ctx context.Context, c config.Config) error {
	select {
	case l.configs <- c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Report adds a finding of another part of the program, in the place of one
// with the same code and object.
func (l *Loop) Report(f plan.Finding) {
	l.mu.Lock()
	l.reported[findingKey{f.Code, f.Object}] = f
	l.mu.Unlock()
	l.poke()
}

// Retract takes back what Report said.
func (l *Loop) Retract(code, object string) {
	l.mu.Lock()
	delete(l.reported, findingKey{code, object})
	l.mu.Unlock()
	l.poke()
}

// Hint says from outside what may have changed, besides what the watcher says.
func (l *Loop) Hint(h netstate.Hints) { l.slot.Put(h, time.Now()) }

// poke asks for a round that reads nothing.
func (l *Loop) poke() {
	select {
	case l.nudge <- struct{}{}:
	default:
	}
}

// Run works until ctx ends, and then leaves the kernel as it is. All that it
// started has ended when it returns.
func (l *Loop) Run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer l.wg.Wait()
	defer cancel()
	subscribed := make(chan struct{})
	l.wg.Go(func() { l.watch(ctx, subscribed) })
	// Read only when events can no longer be missed.
	select {
	case <-subscribed:
	case <-ctx.Done():
		return
	}
	l.slot.Put(full("start"), time.Now())
	timer := time.NewTimer(0)
	defer timer.Stop()
	for l.wait(ctx, timer) {
		l.round(l.take(time.Now()))
		l.watchConnections(ctx)
		for _, done := range l.waiters {
			close(done)
		}
		l.waiters = nil
	}
	l.comeBack()
}

// wait returns true when a round is to be made, false when ctx has ended.
func (l *Loop) wait(ctx context.Context, timer *time.Timer) bool {
	for ctx.Err() == nil {
		now := time.Now()
		wake := l.slot.Wake()
		due := l.due
		if held := l.slot.Due(); !held.IsZero() {
			due = earlier(due, held)
		}
		if l.poked || !due.After(now) {
			// Further events change nothing until the gate opens.
			due, wake = now, nil
		}
		pause := max(l.gate.Wait(now), due.Sub(now))
		if pause <= 0 {
			return true
		}
		timer.Reset(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-wake:
		case <-l.nudge:
			l.poked = true
		case done := <-l.requests:
			l.waiters = append(l.waiters, done)
			l.slot.Put(full("asked to"), now)
		case c := <-l.configs:
			l.configure(c)
			l.slot.Put(full("configuration"), now)
		}
	}
	return false
}

var errWatchEnded = errors.New("the subscription ended")

// watch subscribes, again and again: a watcher may fail, but not die.
func (l *Loop) watch(ctx context.Context, subscribed chan<- struct{}) {
	var once sync.Once
	for tries := 1; ; tries++ {
		begun := time.Now()
		first := true
		err := l.o.Watcher.Watch(ctx, func() {
			l.watchErr.Store(nil)
			if tries > 1 && first {
				l.hint(full("subscribed again"))
			}
			first = false
			once.Do(func() { close(subscribed) })
		}, l.hint)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errWatchEnded
		}
		l.watchErr.Store(&err)
		once.Do(func() { close(subscribed) })
		l.slot.Put(full("subscription lost"), time.Now())
		if time.Since(begun) > readBackoff.Max {
			tries = 1
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(readBackoff.Pause(tries, rand.Float64())):
		}
	}
}

// hint takes a hint of the watcher, from its goroutine.
func (l *Loop) hint(h netstate.Hints) {
	l.events.Add(1)
	l.slot.Put(h, time.Now())
}

// watchConnections listens for connections while something waits for them, and
// only then: a busy server has thousands of such events.
func (l *Loop) watchConnections(ctx context.Context) {
	pause, wanted := l.eventPause(time.Now())
	if l.unwatch != nil && (!wanted || pause < l.watchPause/2 || pause > 2*l.watchPause) {
		l.unwatch()
		l.unwatch = nil
	}
	if wanted && l.unwatch == nil {
		inner, cancel := context.WithCancel(ctx)
		l.unwatch, l.watchPause = cancel, pause
		l.wg.Go(func() {
			// Without events the growing looks remain.
			_ = l.o.Watcher.WatchConnections(inner, func() { l.connectionEvent(inner, pause) })
		})
	}
}

// eventPause tells whether connections are to be listened for, and for how long
// their events are taken together.
func (l *Loop) eventPause(now time.Time) (pause time.Duration, wanted bool) {
	switch {
	case len(l.lingers) > 0 || l.guard.watching(now):
		return 0, true
	case l.guard.active:
		return guardPause, true
	case len(l.rearm.sleepers) > 0:
		return l.rearm.pause(now), true
	}
	return 0, false
}

// connectionEvent asks for a round, and then lets the pause pass.
func (l *Loop) connectionEvent(ctx context.Context, pause time.Duration) {
	l.poke()
	if pause == 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(pause):
	}
}
