package reconcile

import (
	"math/rand/v2"
	"time"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/trigger"
)

// overduePause is waited for what should have been done in the round that just
// ended and was not, so that no oversight can make the loop spin.
const overduePause = time.Second

// walkPause is how long the events of a large routing table are believed before
// it is walked.
const walkPause = 5 * time.Second

// setTimers finds the next time at which the loop has to act by itself. At rest that is
// the resync.
func (l *Loop) setTimers(now time.Time) {
	l.fightDue = l.fights.Waiting(now)
	due := l.resync
	if l.reading.tries > 0 {
		due = earlier(due, l.reading.next)
	} else {
		_, grace := l.carriers.inGrace(now)
		_, hold := l.carriers.flaps.Held(now)
		for _, t := range []time.Time{l.walk, grace, hold, l.expiry.at, l.fightDue, l.rearm.due, l.guard.due, l.farewells.due()} {
			due = earlier(due, t)
		}
		for _, f := range l.failures {
			due = earlier(due, f.next)
		}
		for _, g := range l.lingers {
			due = earlier(due, g.next)
		}
		for _, t := range l.told {
			due = earlier(due, t.due)
		}
	}
	if !due.After(now) {
		due = now.Add(overduePause)
	}
	l.due = due
}

// pace spaces out the rounds. One that finds only what a fight holds back is in
// vain, and so is the next as long as the fight's pause runs.
func (l *Loop) pace(r *round, now time.Time, took time.Duration) {
	if r.Changed+r.Failed == 0 && l.fights.On(now) {
		l.gate.Vain(now, took)
		return
	}
	l.gate.Done(now, took)
}

// take empties the slot and adds what is due by time. The moment returned is
// that of the oldest event, or now; event tells whether there was one.
func (l *Loop) take(now time.Time) (h netstate.Hints, at time.Time, event bool) {
	h, at = l.slot.Take(now)
	event = !h.Empty()
	if !event {
		at = now
	}
	wasPoked := l.poked
	l.poked = false
	over := func(t time.Time) bool { return !t.IsZero() && !t.After(now) }
	if over(l.resync) {
		h.Merge(full("resync"))
	}
	if l.reading.tries > 0 && over(l.reading.next) {
		h.Merge(full("retry of a failed read"))
	}
	if over(l.walk) {
		h.Merge(netstate.Hints{Kinds: netstate.KindRoutes, Walk: true, Reason: "events of a large routing table"})
	}
	if over(l.expiry.at) {
		h.Merge(netstate.Hints{Kinds: netstate.KindRoutes, Reason: "end of a route's lifetime"})
	}
	if over(l.fightDue) {
		h.Merge(netstate.Hints{Kinds: netstate.KindRoutes | netstate.KindRules | netstate.KindEndpoints, Reason: "repair that had to wait"})
	}
	if wasPoked {
		l.rearm.woken(now)
	}
	if wasPoked && l.guard.active {
		l.guard.due = now
	}
	if over(l.guard.due) {
		// What joins does so because somebody raised the limits, and the kernel
		// tells of no change of them.
		h.Merge(netstate.Hints{Kinds: netstate.KindEndpoints, Reason: "look beside the VPN"})
	}
	if over(l.farewells.due()) {
		h.Merge(netstate.Hints{Kinds: netstate.KindEndpoints, Reason: "peers have heard that an address went"})
		l.farewells.expire(now)
	}
	if over(l.rearm.due) {
		h.Merge(netstate.Hints{Kinds: netstate.KindEndpoints, Reason: "look for missed subflows"})
	}
	for _, t := range l.told {
		if over(t.due) {
			h.Merge(netstate.Hints{Kinds: netstate.KindEndpoints, Reason: "look whether the peer was heard of"})
		}
	}
	for o, f := range l.failures {
		if over(f.next) {
			h.Merge(netstate.Hints{Kinds: o.kinds(), Reason: "retry of a failed change"})
		}
	}
	switch {
	case h.Reason != "" || len(h.News) > 0:
	case wasPoked:
		h.Reason = "look again"
	default:
		h.Reason = "time"
	}
	return h, at, event
}

// full is the hint after which nothing is kept of earlier reads.
func full(reason string) netstate.Hints {
	return netstate.Hints{Kinds: netstate.KindAll, Full: true, Reason: reason}
}

// setResync plans the next full read.
func (l *Loop) setResync(now time.Time) {
	d := l.cfg.Resync
	if l.o.Tick > 0 && l.o.Tick < d {
		d = l.o.Tick
	}
	l.resync = now.Add(trigger.Spread(d, resyncJitter, rand.Float64()))
}
