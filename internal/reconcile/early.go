package reconcile

import (
	"errors"

	"go.uber.org/zap"

	"github.com/subflowd/subflowd/internal/diff"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
)

// early makes the path that events tell of, before anything is read, if it is
// the first one of its link and nothing else is to be thought of. What events
// say may be over when they are heard, and nothing else has been looked at: the
// round goes on as it would have without, reads all that it touched, decides, and
// puts right what is not as it should be. It tells whether anything was tried.
func (l *Loop) early(r *round, h *netstate.Hints) bool {
	if !h.Told || !l.calm() {
		return false
	}
	p := plan.Early(l.planInput(r.Started), l.plan, h.News)
	if p == nil {
		return false
	}
	changes := diff.Early(p)
	if l.opposed(r, changes) {
		return false
	}
	errs := l.makePath(changes)
	for i := range errs {
		delete(l.held, objectOf(changes[i])) // it was to be absent; whether it is wanted is decided when it is known
	}
	// Words and accounts wait until it is made; the lines, for the plan that says
	// which link a rule serves.
	r.Trigger = h.Why(l.names)
	r.unread = true
	touched := l.account(r, changes[:len(errs)], errs)
	r.unread = false
	r.early = r.now
	r.now = map[object]bool{}
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
	return l.plan != nil && l.planned == l.snap && !l.snap.Unsure && l.reading.tries == 0 && l.changes.Empty() &&
		len(l.failures) == 0 && !l.guard.active
}

// opposed tells whether somebody took such a thing away before, or a peer is
// still being told that the address went.
func (l *Loop) opposed(r *round, changes []netstate.Change) bool {
	var last object
	for i := range changes {
		o := objectOf(changes[i])
		if o == last { // the rules of an address are one
			continue
		}
		if s, ok := l.held[o]; ok && s.wish != 0 {
			return true
		}
		last = o
	}
	return l.farewells.holds(changes[len(changes)-1], r.Started)
}

// makePath makes the routing of a path and then its endpoint, and returns the
// errors of what it tried. The endpoint is the round's to make if some of the
// routing was refused, or if anything has happened meanwhile: of all that is made
// early it alone cannot be taken back without a connection's noticing.
func (l *Loop) makePath(changes []netstate.Change) []error {
	last := len(changes) - 1
	l.announce(changes[:last])
	errs := l.o.Kernel.Apply(changes[:last])
	if errors.Join(errs...) != nil || l.slot.Pending() || l.unread() {
		return errs
	}
	l.announce(changes[last:])
	return append(errs, l.o.Kernel.Apply(changes[last:])...)
}

// refusal is a change that failed before it was known whether it is still wanted.
type refusal struct {
	change netstate.Change
	err    error
}

// noteEarly judges what was made early by what is wanted, now that it is known.
// A refusal is no failure: what is wanted still is tried as if for the first time,
// and the link may well have been down for that moment. What is as it should be
// is ours to defend from now on.
func (l *Loop) noteEarly(r *round, left map[object]wish) {
	for _, x := range r.refused {
		l.log.Info(x.change.Text(l.names), append(l.fields(x.change, r.Trigger), zap.Error(x.err))...)
	}
	for o := range r.early {
		if _, ok := left[o]; !ok {
			l.held[o] = settled{l.wishes[o], r.Started}
		}
	}
	r.refused, r.early = nil, nil
}
