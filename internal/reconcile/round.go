package reconcile

import (
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/subflowd/subflowd/internal/diff"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
	"github.com/subflowd/subflowd/internal/trigger"
)

// maxPasses bounds how often one round looks again after its own changes.
const maxPasses = 8

// Pauses before a change that failed is tried again. By itself the loop waits
// longer and longer; an event may well be what the change waited for (an
// address that became usable), so after one it is tried sooner.
var (
	retryBackoff = trigger.Backoff{Min: 100 * time.Millisecond, Max: 30 * time.Second, Jitter: 0.2}
	eventBackoff = trigger.Backoff{Min: 100 * time.Millisecond, Max: 5 * time.Second}
)

// failure is an object that could not be brought to what the plan wants.
type failure struct {
	wish  wish
	err   error
	last  time.Time
	tries int
	next  time.Time
}

// errNotShown is the failure of a change that the kernel acknowledged.
var errNotShown = errors.New("the kernel took the change and does not show it")

// settled is an object that one of our changes brought to what the plan wants.
type settled struct {
	wish wish
	at   time.Time
}

// round is one pass from hints to verification.
type round struct {
	Round
	at      time.Time       // the moment of the event
	event   bool            // it was caused by the kernel or a person, not by time
	full    bool            // everything was read
	looked  bool            // lingering endpoints were looked at
	guarded bool            // subflows beside a VPN were looked for
	cut     bool            // it ends early for what came meanwhile
	reread  bool            // endpoints were read again after all changes of them so far
	unread  bool            // what is changed is what events told, and may not be wanted any more
	early   map[object]bool // what was changed so
	refused []refusal       // and what of it was not
	idle    time.Duration   // spent waiting for the kernel's grace periods, not working
	now     map[object]bool // tried in this pass
	tried   map[object]wish // tried in earlier passes, with the digest of the changes
	failed  map[object]bool
}

// round reads what the hints name and works until the kernel matches, or what
// is left has failed or has to wait.
func (l *Loop) round(h netstate.Hints, at time.Time, event bool) {
	l.working.Store(true)
	l.forget()
	now := time.Now()
	r := &round{
		Round: Round{Started: now}, at: at, event: event, full: h.Full,
		now: map[object]bool{}, tried: map[object]wish{}, failed: map[object]bool{},
	}
	l.counters.Rounds++
	if l.readAll(&h, r) {
		for range maxPasses {
			if !l.pass(r) {
				break
			}
		}
	}
	end := time.Now()
	r.Took = end.Sub(now)
	l.counters.Took.add(r.Took)
	// On a host whose processors are taken by others a round takes long and costs
	// little. What was used before it, by events that it took, counts as well.
	used := l.used
	l.used = cpuTime()
	l.pace(r, end, min(r.Took-r.idle, l.used-used))
	if h.Full {
		l.setResync(end)
	}
	l.fights.Expire(end)
	for o, s := range l.held {
		if s.wish == 0 && end.Sub(s.at) > trigger.FightQuiet {
			delete(l.held, o)
		}
	}
	l.retire()
	l.publish(r)
	l.setTimers(end)
	if l.o.OnRound != nil {
		l.o.OnRound(l.View())
	}
	if h.Full && l.o.OnTick != nil {
		l.o.OnTick()
	}
}

// decide computes the plan and the changes from what was read last.
func (l *Loop) decide(now time.Time) {
	in := l.planInput(now)
	l.planned = l.snap
	l.plan = plan.Desired(in)
	l.changes = diff.Diff(diff.Input{
		Snapshot: l.snap, Plan: l.plan, Owned: in.Owned, Routing: l.cfg.Routing, Foreign: l.cfg.ForeignEndpoints,
	})
	l.wishes = wishes(l.plan)
}

// planInput is all that a plan depends on now.
func (l *Loop) planInput(now time.Time) plan.Input {
	grace, _ := l.carriers.inGrace(now)
	hold, _ := l.carriers.flaps.Held(now)
	return plan.Input{Config: l.cfg, Snapshot: l.snap, Owned: l.o.Record.Owned(), Grace: grace, Hold: hold, Reach: l.reached()}
}

// pass decides and acts once, and tells whether there may be more to do. The
// pass that finds nothing is the verification of those before it.
func (l *Loop) pass(r *round) bool {
	l.decide(time.Now())
	if l.tidy() || l.limitsNow(r) {
		l.decide(time.Now())
	}
	l.trackUseful(time.Now())
	left := digests(l.changes)
	l.noteEarly(r, left)
	l.verify(r, left)

	changes, touched := l.stepAside(r, left)
	// Whether an endpoint may come is known when its routing has been made.
	routing, endpoints := split(changes.Up)
	touched |= l.apply(r, l.choose(r, left, routing))
	endpoints = l.choose(r, left, endpoints)
	l.trackClears(endpoints)
	touched |= l.apply(r, endpoints)
	l.tell(r)
	if l.vacate(r) {
		touched |= netstate.KindEndpoints
	}
	touched |= l.apply(r, l.choose(r, left, changes.Down))
	if touched == 0 {
		touched = l.rearmLook(r) | l.tellAgain(r)
	}
	l.tell(r)
	for o := range r.now {
		r.tried[o] = left[o]
	}
	clear(r.now)
	if touched == 0 {
		return false
	}
	if r.reread {
		touched &^= netstate.KindEndpoints // have been read since
	}
	r.reread = false
	return l.read(netstate.Hints{Kinds: touched, Reason: r.Trigger}, time.Now()) && !r.cut
}

// limitsNow reads the limits before they are set, and tells whether it did. No
// event tells of a change of them: what somebody set since the last read would
// be overwritten, and nobody could ever restore it.
func (l *Loop) limitsNow(r *round) bool {
	if !slices.ContainsFunc(l.changes.Up, func(c netstate.Change) bool { return c.Op == netstate.LimitsSet }) {
		return false
	}
	return l.read(netstate.Hints{Kinds: netstate.KindEndpoints, Reason: r.Trigger}, time.Now())
}

// split parts the way up into what comes before the endpoints and the endpoints.
func split(up []netstate.Change) (routing, endpoints []netstate.Change) {
	i := slices.IndexFunc(up, func(c netstate.Change) bool { return objectOf(c).kind == objectEndpoint })
	if i < 0 {
		return up, nil
	}
	return up[:i], up[i:]
}

// digests digests the changes that are to be made, by object.
func digests(c diff.Changes) map[object]wish {
	if c.Empty() {
		return nil
	}
	d := map[object]wish{}
	for _, list := range [][]netstate.Change{c.Up, c.Down} {
		for _, x := range list {
			x.Reason = ""
			o := objectOf(x)
			d[o] = d[o]*31 + digest(x)
		}
	}
	return d
}

// verify compares what earlier passes and rounds tried with what is left now.
func (l *Loop) verify(r *round, left map[object]wish) {
	now := time.Now()
	for o := range r.tried {
		if _, ok := left[o]; !ok {
			l.held[o] = settled{l.wishes[o], now}
		}
	}
	for o, s := range l.held {
		if l.wishes[o] != s.wish {
			delete(l.held, o)
		}
	}
	l.fights.Settle(func(o object) bool {
		_, held := l.held[o]
		_, ok := left[o]
		return held && (ok || l.replaces(o))
	})
	for o, f := range l.failures {
		// A wish that changed deserves a fresh attempt.
		if _, ok := left[o]; !ok || f.wish != l.wishes[o] {
			delete(l.failures, o)
		}
	}
	for _, list := range [][]netstate.Change{l.changes.Up, l.changes.Down} {
		for _, c := range list {
			o := objectOf(c)
			// What came meanwhile may have undone it: an address that went took it along.
			if was, ok := r.tried[o]; ok && was == left[o] && !r.failed[o] && !l.slot.Pending() {
				l.fail(r, c, errNotShown)
			}
		}
	}
}

// fail notes that a change failed. Only the first failure of an object in a
// round counts; it is logged when it is not the one that was logged last.
func (l *Loop) fail(r *round, c netstate.Change, err error) {
	o, now := objectOf(c), time.Now()
	if r.failed[o] {
		return
	}
	r.failed[o] = true
	f := l.failures[o]
	if f == nil {
		f = &failure{wish: l.wishes[o]}
		l.failures[o] = f
	}
	if f.err == nil || f.err.Error() != err.Error() {
		l.log.Warn(c.Text(l.names), append(l.fields(c, r.Trigger), zap.Error(err))...)
	}
	f.err = err
	f.tries++
	f.last = now
	f.next = now.Add(retryBackoff.Pause(f.tries, rand.Float64()))
}

// choose takes the changes that may be made now: not those of objects that
// failed and wait for another attempt, nor of those that somebody keeps undoing.
func (l *Loop) choose(r *round, left map[object]wish, list []netstate.Change) []netstate.Change {
	now := time.Now()
	if len(list) == 0 {
		return nil
	}
	verdicts := map[object]bool{}
	chosen := make([]netstate.Change, 0, len(list))
	for _, c := range list {
		if l.farewells.holds(c, now) {
			continue
		}
		o := objectOf(c)
		ok, known := verdicts[o]
		if !known {
			ok = l.may(r, o, left[o], now)
			verdicts[o] = ok
		}
		if ok && !l.lacksRouting(c) {
			chosen = append(chosen, c)
		}
	}
	return chosen
}

func (l *Loop) may(r *round, o object, d wish, now time.Time) bool {
	if was, ok := r.tried[o]; r.failed[o] || ok && was == d {
		return false
	}
	if f := l.failures[o]; f != nil {
		if r.event {
			f.next = earlier(f.next, f.last.Add(eventBackoff.Pause(f.tries, 0)))
		}
		if f.next.After(now) {
			return false
		}
	}
	if s, ok := l.held[o]; ok && s.wish == l.wishes[o] {
		return l.fights.Undone(o, now) == 0
	}
	return true
}

// lacksRouting tells whether an endpoint is to be added whose rules or default
// route could not be made. Each connection tries an endpoint once: one that
// comes before its routing is lost for all of them.
func (l *Loop) lacksRouting(c netstate.Change) bool {
	if c.Op != netstate.EndpointAdd {
		return false
	}
	family := netstate.FamilyOf(c.Endpoint.Addr)
	if l.failures[rulesObject(family, c.Endpoint.Addr)] != nil {
		return true
	}
	for _, p := range l.plan.Paths {
		if p.Link == c.Endpoint.Link && p.Family == family {
			o := routeObject(netstate.Route{Family: family, Table: p.Table, Dst: family.Default()})
			return l.failures[o] != nil
		}
	}
	return false
}
