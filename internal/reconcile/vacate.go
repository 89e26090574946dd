package reconcile

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/subflowd/subflowd/internal/diff"
	"github.com/subflowd/subflowd/internal/netstate"
)

// Bounds of the pause between two looks at an endpoint that lingers. A healthy
// idle subflow proves itself within 65 ms, so the first looks come early; the
// pause then grows with the time that it lingers already.
const (
	minLook = 50 * time.Millisecond
	maxLook = 5 * time.Second
)

// lingerKey is an endpoint apart from its flags.
type lingerKey struct {
	id   uint8
	addr netip.Addr
	link int
}

func lingerOf(e netstate.Endpoint) lingerKey { return lingerKey{e.ID, e.Addr, e.Link} }

// linger is an endpoint that is unwanted and was not vacant so far.
type linger struct {
	Lingering
	next    time.Time
	refused *failure // of its deletion, when it was last tried
}

// vacate deletes those unwanted endpoints that no connection depends on, and
// tells whether it deleted any. It looks once in a round.
func (l *Loop) vacate(r *round) bool {
	l.trackUnwanted(r)
	if len(l.lingers) == 0 || r.looked && !l.unseen() {
		return false
	}
	r.looked = true
	now := time.Now() // the ages that are read now are older when they have been read
	conns, err := l.o.Kernel.Connections()
	if err != nil {
		for _, g := range l.lingers {
			g.look(now, "connections cannot be read: "+err.Error(), 0)
		}
		return false
	}
	index := diff.IndexConnections(conns)
	deleted := false
	live := maps.Clone(l.plan.LiveAddrs)
	for _, u := range l.changes.Unwanted {
		if deleted && l.slot.Pending() {
			// A delete takes 10 ms: what happened meanwhile may be another
			// link's way up. It is the next round's.
			r.cut = true
			break
		}
		if l.vacateOne(r, u, index, live, now) {
			deleted, r.reread = true, false
			// What was read does not show that these subflows close now.
			delete(live, u.Endpoint.Addr)
			if len(conns) > 0 {
				l.farewells.bid(u.Endpoint, time.Now())
			}
		}
	}
	return deleted
}

// trackUnwanted notes since when each endpoint is unwanted.
func (l *Loop) trackUnwanted(r *round) {
	there := make(map[lingerKey]bool, len(l.changes.Unwanted))
	for _, u := range l.changes.Unwanted {
		k := lingerOf(u.Endpoint)
		there[k] = true
		g := l.lingers[k]
		if g == nil {
			g = &linger{Lingering: Lingering{Since: r.at}}
			l.lingers[k] = g
		}
		g.Endpoint, g.Reason = u.Endpoint, u.Reason
	}
	maps.DeleteFunc(l.lingers, func(k lingerKey, _ *linger) bool { return !there[k] })
}

// unseen tells whether an endpoint became unwanted after the look of this round.
func (l *Loop) unseen() bool {
	for _, g := range l.lingers {
		if g.Looks == 0 {
			return true
		}
	}
	return false
}

func (g *linger) look(now time.Time, why string, blocking int) {
	g.Looks++
	g.Why, g.Blocking = why, blocking
	g.next = now.Add(min(max(minLook, now.Sub(g.Since)/2), maxLook))
}

// vacateOne deletes the endpoint if it is vacant, and tells whether it did.
func (l *Loop) vacateOne(r *round, u diff.Unwanted, conns diff.ConnIndex, live map[netip.Addr]bool, now time.Time) bool {
	g := l.lingers[lingerOf(u.Endpoint)]
	v := conns.Vacancy(u.Endpoint, live, now.Sub(g.Since))
	if !v.Vacant {
		if g.Looks == 0 {
			l.log.Info("endpoint lingers: "+u.Endpoint.Text(l.names), zap.String("reason", u.Reason),
				zap.String("trigger", r.Trigger), zap.Int("connections", v.Blocking), zap.String("why", v.Why))
		}
		g.look(now, v.Why, v.Blocking)
		return false
	}
	if pause := l.replacePause(u, now); pause > 0 {
		g.look(now, "another program undoes what replaces it", 0)
		g.next = now.Add(pause)
		return false
	}
	c := netstate.Change{Op: netstate.EndpointDelete, Endpoint: u.Endpoint, Reason: u.Reason}
	begun := time.Now()
	err := l.o.Kernel.Apply([]netstate.Change{c})[0]
	r.idle += time.Since(begun)
	o := objectOf(c)
	if err != nil && l.failures[o] == nil && g.refused != nil {
		l.failures[o] = g.refused // forgotten, as no change of the plan is left, but told already
	}
	l.note(r, c, err)
	if err != nil {
		g.refused = l.failures[o]
		g.look(now, "cannot be deleted: "+err.Error(), 0)
		return false
	}
	delete(l.lingers, lingerOf(u.Endpoint))
	l.recorded(l.o.Record.Forget(u.Endpoint))
	return true
}

// replacePause is how long an endpoint stays that another is to replace: as long
// as a fight keeps that one from being added. Until then it serves.
func (l *Loop) replacePause(u diff.Unwanted, now time.Time) time.Duration {
	o := endpointObject(u.Endpoint.Addr)
	if s, held := l.held[o]; !held || s.wish != l.wishes[o] || !l.replaces(o) {
		return 0
	}
	return l.fights.Undone(o, now)
}

// replaces tells whether an endpoint has to go before what is wanted on its
// address can come.
func (l *Loop) replaces(o object) bool {
	return o.kind == objectEndpoint && l.wishes[o] != 0 &&
		slices.ContainsFunc(l.changes.Unwanted, func(u diff.Unwanted) bool { return u.Endpoint.Addr == o.addr })
}

// lingering lists what lingers, the oldest first.
func (l *Loop) lingering() []Lingering {
	var out []Lingering
	for _, g := range l.lingers {
		out = append(out, g.Lingering)
	}
	slices.SortFunc(out, func(a, b Lingering) int {
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		return a.Endpoint.Addr.Compare(b.Endpoint.Addr)
	})
	return out
}
