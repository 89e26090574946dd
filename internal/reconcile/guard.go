package reconcile

import (
	"time"

	"go.uber.org/zap"

	"github.com/subflowd/subflowd/internal/diff"
	"github.com/subflowd/subflowd/internal/netstate"
)

const (
	// guardWatch is how long subflows that still appear beside a tunnel are
	// looked for without a pause, from the beginning or from the last one that
	// was found. After that events of connections make a look once in a
	// guardPause: nothing can join then unless somebody raises the limits.
	guardWatch   = 10 * time.Second
	guardPause   = time.Second
	minGuardLook = 50 * time.Millisecond
	// maxGuardDumps bounds how often one look repeats itself: a program that
	// opens connections without end must not hold the loop.
	maxGuardDumps = 20
	// maxGuardLines bounds how many of the subflows of one look are named.
	maxGuardLines = 16
)

// guard is what the loop knows while nothing may be beside a full tunnel.
type guard struct {
	active bool
	since  time.Time // it began, or the last subflow was closed
	due    time.Time // of the next look; zero: with the next event or resync
	err    error
}

func (g *guard) watching(now time.Time) bool { return g.active && now.Before(g.since.Add(guardWatch)) }

// stepAside makes what must not wait when a full tunnel is up, and then closes
// what goes around it. It returns the changes that can wait, and what it
// touched.
func (l *Loop) stepAside(r *round, left map[object]wish) (diff.Changes, netstate.Kinds) {
	if !l.plan.Guard.Withdraws() {
		l.guard = guard{}
		return l.changes, 0
	}
	first, rest := l.changes.StepAside()
	touched := l.apply(r, l.choose(r, left, first))
	l.closeBeside(r)
	return rest, touched
}

// closeBeside closes the subflows that go around the tunnel. It looks once in
// a round.
func (l *Loop) closeBeside(r *round) {
	g, now := &l.guard, time.Now()
	begins := !g.active
	due := !g.due.IsZero() && !g.due.After(now)
	if r.guarded || !begins && !r.full && !due && !g.watching(now) {
		return
	}
	r.guarded = true
	if begins {
		g.active, g.since = true, now
	}
	tunnels := diff.Tunnels(l.snap)
	match := func(s netstate.Subflow) bool { return diff.BesideTunnel(s, tunnels) }
	found := 0
	// A join may be under way in the kernel while the list is made: only two
	// lists without one say that there is none.
	for empty, n := 0, 0; empty < 2 && n < maxGuardDumps; n++ {
		closed, err := l.o.Kernel.DestroySubflows(match)
		l.noteClosed(r, closed, found)
		found += len(closed)
		l.guardFailed(err)
		if err != nil {
			break
		}
		if empty++; len(closed) > 0 {
			empty = 0
		}
	}
	if found > maxGuardLines {
		l.log.Info("and more subflows closed", zap.Int("in all", found))
	}
	if found > 0 {
		g.since = time.Now()
	}
	g.due = time.Time{}
	if next := now.Add(max(minGuardLook, now.Sub(g.since))); g.watching(next) {
		g.due = next
	}
}

// noteClosed counts and logs subflows that were closed; before is how many the
// look had closed already.
func (l *Loop) noteClosed(r *round, closed []netstate.Subflow, before int) {
	l.counters.Closed += uint64(len(closed))
	for i, s := range closed {
		if before+i >= maxGuardLines {
			return
		}
		l.log.Info("subflow closed: "+s.Local.String()+" dev "+l.names.Name(s.Link)+" to "+s.Remote.String(),
			zap.String("reason", "it goes around "+l.plan.Guard.Name), zap.String("trigger", r.Trigger))
	}
}

// guardFailed notes whether subflows could be closed, and logs it when that
// changed.
func (l *Loop) guardFailed(err error) {
	if err != nil && (l.guard.err == nil || l.guard.err.Error() != err.Error()) {
		l.log.Error("close subflows beside "+l.plan.Guard.Name, zap.Error(err))
	}
	l.guard.err = err
}
