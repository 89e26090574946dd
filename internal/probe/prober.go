package probe

import (
	"context"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/health"
	"github.com/subflowd/subflowd/internal/netstate"
)

const (
	// maxWait and minWait bound how long an answer is waited for: the first
	// packet and the one that follows it after a second.
	minWait = time.Second
	maxWait = 3 * time.Second
	// lookUpWait and lookUpAge are for the name of the target.
	lookUpWait = 5 * time.Second
	lookUpAge  = 10 * time.Minute
	// atOnce is how many tests run at one time.
	atOnce = 16
	// jitter keeps hosts apart that were started together.
	jitter = 0.1
)

// Source is what the prober works with, and whom it tells.
type Source struct {
	// Paths are those that can be tested now.
	Paths func() []health.Path
	// Changed returns a channel that is closed when Paths may have changed.
	Changed func() <-chan struct{}
	// Decide is told what is known of the paths, whenever that changes.
	Decide func(map[netstate.LinkFamily]health.State)
	// Trouble is told the error of the look-up of the target's name; nil: there
	// is none any more.
	Trouble func(error)
}

// Prober tests all paths for the daemon, and decides nothing itself.
type Prober struct {
	source Source
	wanted atomic.Pointer[config.Probe]
	nudge  chan struct{}
	status atomic.Pointer[Status]

	running config.Probe
	target  *target
	tracker *health.Tracker
	told    map[netstate.LinkFamily]health.State
	trouble error
}

// Status is what a prober knows. It is not changed later.
type Status struct {
	Target   string // empty: off
	Interval time.Duration
	// Addresses are where the tests go, in each family.
	Addresses map[netstate.Family]netip.AddrPort
	Err       error // of the last look-up of the name
	Paths     map[netstate.LinkFamily]health.Report
}

// NewProber makes a prober; nothing happens before Run.
func NewProber(s Source) *Prober {
	p := &Prober{source: s, nudge: make(chan struct{}, 1)}
	p.status.Store(&Status{})
	return p
}

// Status is the newest one; never nil.
func (p *Prober) Status() *Status { return p.status.Load() }

// Configure sets what is tested. It may be called by any goroutine.
func (p *Prober) Configure(c config.Probe) {
	p.wanted.Store(&c)
	select {
	case p.nudge <- struct{}{}:
	default:
	}
}

// Run tests until ctx ends.
func (p *Prober) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		changed := p.source.Changed()
		if c := p.wanted.Load(); c != nil && *c != p.running {
			p.restart(*c)
		}
		if p.running.Target == "" {
			// An idle prober costs no wake-up.
			changed = nil
		} else if p.round(ctx, changed) {
			continue
		}
		pause, ok := p.pause(time.Now())
		var due <-chan time.Time
		if ok {
			timer.Reset(pause)
			due = timer.C
		}
		select {
		case <-ctx.Done():
		case <-p.nudge:
		case <-changed:
		case <-due:
		}
	}
}

// restart forgets all that is known.
func (p *Prober) restart(c config.Probe) {
	p.running, p.target, p.tracker = c, newTarget(c.Target), health.New(c.Interval)
	p.publish()
}

// round tests what is due, and tells whether anything was.
func (p *Prober) round(ctx context.Context, changed <-chan struct{}) bool {
	paths := p.source.Paths()
	p.lookUp(ctx, paths)
	paths = slices.DeleteFunc(slices.Clone(paths), func(x health.Path) bool { return len(p.target.addrs[x.Family]) == 0 })
	p.tracker.Set(paths, time.Now())
	due := p.tracker.Due(time.Now())
	if len(due) > 0 {
		results := p.test(ctx, due, changed)
		if ctx.Err() != nil {
			return false
		}
		p.take(due, results, time.Now())
	}
	p.publish()
	return len(due) > 0
}

// take gives the results to the tracker, by family.
func (p *Prober) take(due []health.Path, results map[netstate.LinkFamily]health.Result, now time.Time) {
	for _, f := range netstate.Families {
		of := map[netstate.LinkFamily]health.Result{}
		asked, answered := false, false
		for _, x := range due {
			if x.Family != f {
				continue
			}
			asked = true
			if r, ok := results[x.LinkFamily]; ok {
				of[x.LinkFamily] = r
				answered = answered || r.OK
			}
		}
		if !asked {
			continue
		}
		if len(of) > 0 && !answered {
			p.target.another(f)
		}
		p.tracker.Round(f, of, now)
	}
}

// lookUp asks for the target's addresses when they are old, and something is
// to be tested with them.
func (p *Prober) lookUp(ctx context.Context, paths []health.Path) {
	now := time.Now()
	age := lookUpAge
	if p.target.err != nil || len(p.target.addrs) == 0 {
		age = p.running.Interval
	}
	if len(paths) < 2 || !p.target.read.IsZero() && now.Sub(p.target.read) < age {
		return
	}
	limited, cancel := context.WithTimeout(ctx, lookUpWait)
	defer cancel()
	p.target.lookUp(limited, now)
}

// test tries the target over the paths, and returns what it found. A change of
// the paths ends it: what is a path no more must not be used, beside a VPN
// least of all, and its result would say nothing.
func (p *Prober) test(ctx context.Context, due []health.Path, changed <-chan struct{}) map[netstate.LinkFamily]health.Result {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wait := min(max(p.running.Interval, minWait), maxWait)
	type answer struct {
		key netstate.LinkFamily
		health.Result
	}
	answers := make(chan answer, len(due))
	free := make(chan struct{}, atOnce)
	for _, x := range due {
		to := p.target.addrs[x.Family][0]
		go func() {
			select {
			case free <- struct{}{}:
				defer func() { <-free }()
			case <-ctx.Done():
			}
			limited, cancel := context.WithTimeout(ctx, wait)
			defer cancel()
			answers <- answer{x.LinkFamily, reach(limited, x, to)}
		}()
	}
	results := map[netstate.LinkFamily]health.Result{}
	stopped := false
	for len(results) < len(due) {
		select {
		case a := <-answers:
			results[a.key] = a.Result
		case <-changed:
			changed = p.source.Changed()
			if !covers(p.source.Paths(), due) {
				stopped, changed = true, nil
				cancel()
			}
		}
	}
	if stopped {
		return nil
	}
	return results
}

// covers tells whether all that is tested is still there as it was.
func covers(now, tested []health.Path) bool {
	for _, x := range tested {
		if !slices.ContainsFunc(now, func(y health.Path) bool {
			return x.LinkFamily == y.LinkFamily && x.Source == y.Source && slices.Equal(x.Via, y.Via)
		}) {
			return false
		}
	}
	return true
}

// publish tells what changed.
func (p *Prober) publish() {
	s := &Status{
		Target: p.running.Target, Interval: p.running.Interval, Err: p.target.err,
		Addresses: map[netstate.Family]netip.AddrPort{}, Paths: p.tracker.Reports(),
	}
	for f, list := range p.target.addrs {
		s.Addresses[f] = list[0]
	}
	p.status.Store(s)
	if states := p.tracker.States(); !maps.Equal(states, p.told) {
		p.told = states
		p.source.Decide(maps.Clone(states))
	}
	if was := p.trouble; (was == nil) != (s.Err == nil) || was != nil && was.Error() != s.Err.Error() {
		p.trouble = s.Err
		p.source.Trouble(s.Err)
	}
}

// pause is how long nothing is to be done; false: until something changes.
func (p *Prober) pause(now time.Time) (time.Duration, bool) {
	if p.running.Target == "" {
		return 0, false
	}
	next := p.tracker.Next()
	if p.target.err != nil {
		if again := p.target.read.Add(p.running.Interval); next.IsZero() || again.Before(next) {
			next = again
		}
	}
	if next.IsZero() {
		return 0, false
	}
	d := max(next.Sub(now), 0)
	return d + time.Duration(jitter*rand.Float64()*float64(d)), true
}
