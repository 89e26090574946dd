package reconcile

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/subflowd/subflowd/internal/diff"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/trigger"
)

// tellFor is how long a peer may stay silent that has to be told again that a
// subflow is no backup. Beyond the first looks, the resync looks.
const tellFor = 10 * time.Minute

// told is an endpoint whose backup flag was cleared while some of its
// subflows may not have taken that to the peer: it is sent once, and what is
// lost on a dark path leaves the peer with a backup for good.
type told struct {
	at       time.Time
	doubtful map[diff.Ends]bool
	step     int
	due      time.Time
}

func (t *told) next(now time.Time) {
	t.due = time.Time{}
	for t.step < len(rearmLooks) && !t.at.Add(trigger.Spread(rearmLooks[t.step], rearmJitter, 0)).After(now) {
		t.step++
	}
	if t.step < len(rearmLooks) {
		t.due = t.at.Add(trigger.Spread(rearmLooks[t.step], rearmJitter, rand.Float64()))
	}
}

// trackClears notes, before it is done, which backup flags are cleared while
// the peer may not hear of it.
func (l *Loop) trackClears(changes []netstate.Change) {
	var conns []netstate.Connection
	for _, c := range changes {
		if c.Op != netstate.EndpointSet {
			continue
		}
		delete(l.told, c.Endpoint.Addr)
		if c.Endpoint.Flags&netstate.BackupFlag != 0 {
			continue
		}
		if conns == nil {
			var err error
			if conns, err = l.o.Kernel.Connections(); err != nil {
				return
			}
		}
		if d := diff.Doubtful(conns, c.Endpoint.Addr); len(d) > 0 {
			t := &told{at: time.Now(), doubtful: d}
			t.next(t.at)
			l.told[c.Endpoint.Addr] = t
		}
	}
}

// tellAgain sets and clears the backup flag of endpoints whose peers have been
// heard of since they were told in vain.
func (l *Loop) tellAgain(r *round) netstate.Kinds {
	now := time.Now()
	var conns []netstate.Connection
	var touched netstate.Kinds
	for ip, t := range l.told {
		if !r.full && (t.due.IsZero() || t.due.After(now)) {
			continue
		}
		e, ok := l.settledWithoutBackup(ip)
		if !ok || now.Sub(t.at) > tellFor {
			delete(l.told, ip)
			continue
		}
		t.next(now)
		if conns == nil {
			var err error
			if conns, err = l.o.Kernel.Connections(); err != nil {
				return touched
			}
		}
		again, left := diff.HeardSince(conns, ip, t.doubtful, now.Sub(t.at))
		if again {
			set := e
			set.Flags |= netstate.BackupFlag
			const reason = "it was no backup any more when the path was dark, and the peer has not heard of it"
			touched |= l.batch(r, []netstate.Change{
				{Op: netstate.EndpointSet, Endpoint: set, Reason: reason},
				{Op: netstate.EndpointSet, Endpoint: e, Reason: reason},
			})
		}
		if t.doubtful = left; len(left) == 0 {
			delete(l.told, ip)
		}
	}
	return touched
}

// settledWithoutBackup finds the endpoint of an address if it is wanted as it
// is, without backup.
func (l *Loop) settledWithoutBackup(ip netip.Addr) (netstate.Endpoint, bool) {
	for _, w := range l.plan.Endpoints {
		for _, e := range l.snap.Endpoints {
			if e.Addr == ip && w.Addr == ip && e.Link == w.Link && e.Flags == w.Flags && e.Flags&netstate.BackupFlag == 0 {
				return e, true
			}
		}
	}
	return netstate.Endpoint{}, false
}
