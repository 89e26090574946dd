package reconcile

import (
	"maps"
	"slices"

	"github.com/subflowd/subflowd/internal/diff"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
)

// early makes the path that events tell of, before anything is read, if it is
// the first one of its link and nothing else is to be thought of. What events
// say may be over when they are heard, and nothing else has been looked at: the
// round goes on as it would have without, reads all that it touched, decides, and
// puts right what is not as it should be. It tells whether anything was made.
func (l *Loop) early(r *round, h *netstate.Hints) bool {
	if !h.Told || !l.calm() {
		return false
	}
	p := plan.Early(l.planInput(r.Started), l.plan, h.News)
	if p == nil {
		return false
	}
	changes := diff.Early(p)
	if !l.unopposed(r, changes) {
		return false
	}
	errs := l.makePath(changes)
	// Words and accounts wait until it is made; the lines, for the plan that says
	// which link a rule serves.
	r.Trigger = h.Why(l.names)
	if slices.ContainsFunc(errs, failed) { // to do what is wanted now
		maps.Copy(l.wishes, wishes(p.Plan()))
	}
	touched := l.account(r, changes[:len(errs)], errs)
	for o, d := range digests(diff.Changes{Up: changes[:len(errs)]}) {
		r.tried[o] = d
	}
	clear(r.now)
	if r.reread {
		touched &^= netstate.KindEndpoints
	}
	r.reread = false
	h.Merge(netstate.Hints{Kinds: touched, Links: map[int]struct{}{p.Link: {}}, Family: netstate.IPv4})
	return true
}

// calm tells whether the kernel was as planned when it was read last, but for
// what lingers.
func (l *Loop) calm() bool {
	return l.plan != nil && !l.snap.Unsure && l.reading.tries == 0 && l.changes.Empty() &&
		len(l.failures) == 0 && !l.guard.active
}

// unopposed tells whether nobody took such a thing away before, and no peer is
// still being told that the address went.
func (l *Loop) unopposed(r *round, changes []netstate.Change) bool {
	for i := range changes {
		c := &changes[i]
		if i > 0 && c.Op == netstate.RuleAppend && changes[i-1].Op == netstate.RuleAppend {
			continue // of the same object
		}
		o := objectOf(*c)
		if s, ok := l.held[o]; ok {
			if s.wish != 0 {
				return false
			}
			delete(l.held, o) // it was to be absent
		}
	}
	return !l.farewells.holds(changes[len(changes)-1], r.Started)
}

// makePath makes the routing of a path and then, if all of it could be made, its
// endpoint, and returns the errors of what it tried.
func (l *Loop) makePath(changes []netstate.Change) []error {
	last := len(changes) - 1
	l.announce(changes[:last])
	errs := l.o.Kernel.Apply(changes[:last])
	if slices.ContainsFunc(errs, failed) {
		return errs
	}
	l.announce(changes[last:])
	return append(errs, l.o.Kernel.Apply(changes[last:])...)
}

func failed(err error) bool { return err != nil }
