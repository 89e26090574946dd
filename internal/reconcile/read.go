package reconcile

import (
	"errors"
	"maps"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
)

// further is how often a round looks for what came meanwhile.
const further = 2

// readAll reads what the hints name, and what came while it read: a default
// route follows its address by microseconds, and what would be decided between
// the two is not worth the time. A path of which the events tell all is made
// before.
func (l *Loop) readAll(h *netstate.Hints, r *round) bool {
	made := l.early(r, h)
	for n := 0; !made && h.Told && n < further && l.more(); n++ {
		l.takeMore(h, r)
		made = l.early(r, h)
	}
	if !made {
		r.Trigger = h.Why(l.names)
	}
	ok := l.read(*h, r.at)
	for n := 0; ok && n < further && l.more(); n++ {
		ok = l.read(l.takeMore(h, r), r.at)
	}
	return ok
}

// takeMore adds what came to the hints, and returns it.
func (l *Loop) takeMore(h *netstate.Hints, r *round) netstate.Hints {
	came, _ := l.slot.Take(time.Now())
	h.Merge(came)
	r.event, r.full = true, h.Full
	return came
}

// unreadPause bounds the wait for what the watcher makes of unread events; some
// mean nothing to it.
const unreadPause = time.Millisecond

// more tells whether there is something new. A watcher that has not had its turn,
// because the processor was taken by the round, gets it.
func (l *Loop) more() bool {
	if !l.slot.Pending() && l.unread() {
		timer := time.NewTimer(unreadPause)
		defer timer.Stop()
		select {
		case <-l.slot.Wake():
		case <-timer.C:
		}
	}
	return l.slot.Pending()
}

// unread tells whether the kernel has told something that the watcher has not looked at.
func (l *Loop) unread() bool {
	w, ok := l.o.Watcher.(interface{ Unread() bool })
	return ok && w.Unread()
}

// cpuTime is what this process has used of the processors so far.
func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// read refreshes the snapshot and tells whether it can be worked with.
func (l *Loop) read(h netstate.Hints, at time.Time) bool {
	if l.reading.tries > 0 {
		h.Merge(full("")) // what was missed meanwhile is not known
	}
	if h.Empty() && l.snap != nil {
		return true
	}
	if h.Full {
		l.counters.FullReads++
	}
	snap, err := l.o.Kernel.Refresh(h)
	now := time.Now()
	if err != nil {
		l.counters.ReadErrors++
		if l.newError(err) {
			l.log.Error("read kernel state", zap.Error(err), zap.String("trigger", h.Why(l.names)))
		}
		l.reading.failed(err, now)
		return false
	}
	l.reading = retry{}
	l.snap = snap
	switch {
	case !snap.Unsure:
		l.walk = time.Time{}
	case l.walk.IsZero():
		l.walk = now.Add(walkPause)
	}
	l.carriers.see(snap.Links, at)
	l.expiry.see(snap.Routes, now)
	l.learnNames()
	return true
}

// newError tells whether a failed read is worth a line: the first of its kind,
// or the second in a row of those that pass.
func (l *Loop) newError(err error) bool {
	var t interface{ Temporary() bool }
	if errors.As(err, &t) && t.Temporary() {
		return l.reading.tries == 1
	}
	return l.reading.err == nil || l.reading.err.Error() != err.Error()
}

// learnNames keeps the names of links that are gone, for the lines about them.
// Views share the map, so that it is replaced, never changed.
func (l *Loop) learnNames() {
	for _, x := range l.snap.Links {
		if l.names[x.Index] != x.Name {
			n := maps.Clone(l.snap.Names())
			for i, s := range l.names {
				if _, ok := n[i]; !ok {
					n[i] = s
				}
			}
			l.names = n
			return
		}
	}
}
