package reconcile

import (
	"fmt"
	"time"

	"github.com/subflowd/subflowd/internal/diff"
	"github.com/subflowd/subflowd/internal/netstate"
)

// readd deletes and adds those missed endpoints that no connection uses, and
// tells whether there was one.
func (l *Loop) readd(r *round, missed []diff.Missed, now time.Time) bool {
	did := false
	for _, m := range missed {
		f := l.rearm.fresh[m.Endpoint.Addr]
		if m.Used || f.n >= maxReadds || now.Before(f.again()) || !l.o.Record.Owned().OwnsEndpoint(m.Endpoint) {
			continue
		}
		if did && l.slot.Pending() {
			break
		}
		f.n++
		f.last = now
		reason := fmt.Sprintf("%s no subflow from %s, and an attempt is made once", connectionsHave(m.Connections), m.Endpoint.Addr)
		did = true
		if m.Initial {
			l.sendAway(r, m.Endpoint, reason)
			continue
		}
		fresh := m.Endpoint
		fresh.ID = 0
		// Announced before the delete: a kill in between must leave an endpoint
		// that is known as ours, whichever id it has.
		l.batch(r, []netstate.Change{
			{Op: netstate.EndpointDelete, Endpoint: m.Endpoint, Reason: reason},
			{Op: netstate.EndpointAdd, Endpoint: fresh, Reason: reason},
		})
	}
	return did
}

// sendAway deletes an endpoint that is added again when the farewell is over,
// because the plan wants it.
func (l *Loop) sendAway(r *round, e netstate.Endpoint, reason string) {
	r.reread = false
	if l.applyOne(r, netstate.Change{Op: netstate.EndpointDelete, Endpoint: e, Reason: reason}) {
		l.recorded(l.o.Record.Forget(e))
		l.farewells.bid(e, time.Now())
		delete(l.held, endpointObject(e.Addr)) // nobody else undid it
	}
}

// comeBack adds what is away before the loop ends: stopping leaves everything
// in place.
func (l *Loop) comeBack() {
	if len(l.farewells) > 0 {
		l.farewells, l.rearm.due = nil, time.Time{}
		l.round(netstate.Hints{Kinds: netstate.KindEndpoints, Reason: "stop"}, time.Now(), false)
	}
}

// kick adds an endpoint that does nothing and deletes it. The record names it
// meanwhile, so that one that a killed daemon leaves is deleted by the next.
func (l *Loop) kick(r *round, missed []diff.Missed) bool {
	e, ok := diff.Kick(l.snap)
	if !ok {
		return false
	}
	n := 0
	for _, m := range missed {
		n = max(n, m.Connections)
	}
	reason := fmt.Sprintf("%s missed endpoints: they are offered again", connectionsHave(n))
	l.recorded(l.o.Record.Announce(e))
	if !l.applyOne(r, netstate.Change{Op: netstate.EndpointAdd, Endpoint: e, Reason: reason}) {
		l.recorded(l.o.Record.Forget(e))
		return false
	}
	l.counters.Kicks++
	r.reread = false
	if !l.read(netstate.Hints{Kinds: netstate.KindEndpoints, Reason: r.Trigger}, time.Now()) {
		return true
	}
	for _, have := range l.snap.Endpoints {
		if have.Addr == e.Addr && l.applyOne(r, netstate.Change{Op: netstate.EndpointDelete, Endpoint: have, Reason: "it has done its work"}) {
			l.recorded(l.o.Record.Forget(e))
		}
	}
	return true
}

// applyOne carries out one change and tells whether it was made.
func (l *Loop) applyOne(r *round, c netstate.Change) bool {
	err := l.o.Kernel.Apply([]netstate.Change{c})[0]
	l.note(r, c, err)
	return err == nil
}

func connectionsHave(n int) string {
	if n == 1 {
		return "1 connection has"
	}
	return fmt.Sprintf("%d connections have", n)
}
