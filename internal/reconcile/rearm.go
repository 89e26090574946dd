package reconcile

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/subflowd/subflowd/internal/diff"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
	"github.com/subflowd/subflowd/internal/trigger"
)

// Numbers of the search for connections that missed a subflow. The first look
// comes when an attempt is over that waited for a neighbour entry of the time
// without carrier; such an entry fails within a second.
var rearmLooks = [...]time.Duration{400 * time.Millisecond, 1500 * time.Millisecond, 5 * time.Second, 20 * time.Second}

const (
	rearmJitter = 0.1
	// kickWait is how long a subflow may take to show after a kick.
	kickWait = 300 * time.Millisecond
	// maxReadds bounds how often one event makes an endpoint be added anew.
	maxReadds = 3
	// minKickPause and the pauses between looks for sleepers bound what
	// connections that begin to send can cause.
	minKickPause    = 5 * time.Second
	minSleeperPause = time.Second
	maxSleeperPause = 30 * time.Second
)

// readdPause is the pause after each time that an endpoint was added anew.
var readdPause = trigger.Backoff{Min: 5 * time.Second, Max: 15 * time.Second}

// rearm gives connections the subflows that they missed. An endpoint is tried
// once for each connection, and what was tried while a path was not ready, or
// while the limits were zero, is lost. So after each event that made endpoints
// useful the connections are looked at a few times, and never without one.
//
// Those that were never offered an endpoint get it by a kick, which touches
// nothing else; a failed attempt needs delete and add, which is for endpoints
// that no connection uses.
type rearm struct {
	useful map[netip.Addr]wish    // with what an attempt depends on; nil before the first pass
	fresh  map[netip.Addr]*readds // what the last events made useful; nil: no look is due
	event  time.Time
	step   int
	due    time.Time
	kicked bool // since the event
	atOnce bool // the guard ended: nothing is waited for

	awake bool      // a connection was a sleeper and is none
	kick  time.Time // the last one
	look  time.Time // the last one
	// sleepers are connections that could not be offered anything yet.
	sleepers map[uint32]bool
}

// readds counts how often an endpoint was added anew since the event.
type readds struct {
	n    int
	last time.Time
}

// again is when the endpoint may be added anew once more.
func (f *readds) again() time.Time {
	if f.last.IsZero() {
		return f.last
	}
	return f.last.Add(readdPause.Pause(max(f.n, 1), 0))
}

// rearmable lists the endpoints of the kernel that are wanted, as they are
// there, with a digest of what an attempt depends on.
func (l *Loop) rearmable() ([]netstate.Endpoint, map[netip.Addr]wish) {
	useful := map[netip.Addr]wish{}
	var list []netstate.Endpoint
	if l.plan.Guard.Withdraws() || !l.snap.MPTCP.Enabled || l.snap.MPTCP.UserspacePM {
		return nil, useful
	}
	for _, w := range l.plan.Endpoints {
		i := slices.IndexFunc(l.snap.Endpoints, func(e netstate.Endpoint) bool {
			return e.Addr == w.Addr && e.Link == w.Link && e.Port == 0 && e.Flags&netstate.SubflowFlag != 0
		})
		if i < 0 {
			continue
		}
		list = append(list, l.snap.Endpoints[i])
		useful[w.Addr] = digest(w.Link) + l.way(w) + digest(l.snap.Limits.Subflows)
	}
	return list, useful
}

// way digests the gateways of an endpoint's path.
func (l *Loop) way(e plan.Endpoint) wish {
	d := wish(1)
	for _, p := range l.plan.Paths {
		if p.Link == e.Link && p.Family == netstate.FamilyOf(e.Addr) {
			for _, gw := range p.Gateways {
				d = d*31 + digest(gw)
			}
		}
	}
	return d
}

// trackUseful notes which endpoints became useful. What was there when the
// daemon started is adopted as it is.
func (l *Loop) trackUseful(now time.Time) {
	_, useful := l.rearmable()
	r := &l.rearm
	before := r.useful
	r.useful = useful
	switch {
	case before == nil:
		return
	case l.plan.Guard.Withdraws():
		r.fresh, r.sleepers, r.due, r.atOnce = nil, nil, time.Time{}, true
		return
	}
	for _, w := range l.plan.Endpoints {
		// One that was deleted to be added anew comes back as what it was.
		if f := r.fresh[w.Addr]; f != nil && f.n > 0 {
			if old, ok := before[w.Addr]; ok && useful[w.Addr] == 0 {
				useful[w.Addr] = old
			}
		}
	}
	var came []netip.Addr
	for ip, w := range useful {
		if old, ok := before[ip]; !ok || old != w {
			came = append(came, ip)
		}
	}
	if len(came) == 0 {
		r.atOnce = r.atOnce && !r.due.IsZero()
		return
	}
	if r.fresh == nil {
		r.fresh = map[netip.Addr]*readds{}
	}
	for _, ip := range came {
		again := &readds{}
		if f := r.fresh[ip]; f != nil {
			again.last = f.last
		}
		r.fresh[ip] = again
	}
	r.event, r.step, r.kicked = now, 0, false
	r.due = now.Add(trigger.Spread(rearmLooks[0], rearmJitter, rand.Float64()))
	if r.atOnce {
		r.due = now
	}
}

// woken is told that a connection came, went, or sent its first data.
func (a *rearm) woken(now time.Time) {
	if len(a.sleepers) == 0 {
		return
	}
	t := a.look.Add(a.pause(now))
	if t.Before(now) {
		t = now
	}
	a.due = earlier(a.due, t)
}

// pause is how far apart the looks for sleepers are: the longer they sleep, the
// less is asked of a host with many other connections.
func (a *rearm) pause(now time.Time) time.Duration {
	return min(max(minSleeperPause, now.Sub(a.event)/10), maxSleeperPause)
}

// rearmLook looks for connections that missed a subflow, if that is due, and
// tells what it touched. It comes when all else is done, and makes room for
// what has come meanwhile.
func (l *Loop) rearmLook(r *round) netstate.Kinds {
	a, now := &l.rearm, time.Now()
	if a.due.IsZero() || a.due.After(now) || l.slot.Pending() {
		return 0
	}
	scheduled := a.fresh != nil
	a.look = now
	list, _ := l.rearmable()
	conns, err := l.o.Kernel.Connections()
	if err != nil {
		a.next(now, nil)
		return 0
	}
	missed := diff.Missing(conns, list, l.snap.Limits)
	a.wake(conns, scheduled && len(list) > 0)
	a.awake = a.awake && len(missed) > 0
	var fresh []diff.Missed
	for _, m := range missed {
		if a.fresh[m.Endpoint.Addr] != nil {
			fresh = append(fresh, m)
		}
	}
	begun := time.Now()
	defer func() { r.idle += time.Since(begun) }()
	switch {
	case a.atOnce && l.readd(r, fresh, now):
		// An add offers everything to everybody, as a kick does.
		a.atOnce = false
		a.next(now, fresh)
		return netstate.KindEndpoints
	case (len(fresh) > 0 && !a.kicked || a.awake) && now.Sub(a.kick) >= minKickPause && l.kick(r, missed):
		a.atOnce, a.awake, a.kicked, a.kick = false, false, true, now
		a.due = now.Add(kickWait)
		return netstate.KindEndpoints
	}
	a.atOnce = false
	readded := l.readd(r, fresh, now)
	a.next(now, fresh)
	if readded {
		return netstate.KindEndpoints
	}
	return 0
}

// wake brings the sleepers up to date and notes whether one can be offered
// endpoints now. With all set the connections that cannot be yet are learned.
func (a *rearm) wake(conns []netstate.Connection, all bool) {
	still := map[uint32]bool{}
	for _, t := range diff.Unconfirmed(conns) {
		if all || a.sleepers[t] {
			still[t] = true
		}
	}
	for i := range conns {
		if t := conns[i].Token; a.sleepers[t] && !still[t] {
			a.awake = true
		}
	}
	a.sleepers = still
}

// next plans the next look, and ends when there is none.
func (a *rearm) next(now time.Time, missed []diff.Missed) {
	a.due = time.Time{}
	if a.awake {
		a.due = a.kick.Add(minKickPause)
	}
	if a.fresh == nil {
		return
	}
	for a.step < len(rearmLooks) && !a.event.Add(trigger.Spread(rearmLooks[a.step], rearmJitter, 0)).After(now.Add(kickWait)) {
		a.step++
	}
	more := a.step < len(rearmLooks)
	if more {
		a.due = earlier(a.due, a.event.Add(trigger.Spread(rearmLooks[a.step], rearmJitter, rand.Float64())))
	}
	for _, m := range missed {
		if f := a.fresh[m.Endpoint.Addr]; !f.last.IsZero() && f.n < maxReadds && !m.Used {
			a.due, more = earlier(a.due, f.again()), true
		}
	}
	if !more {
		a.fresh = nil
	}
}
