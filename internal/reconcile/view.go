package reconcile

import (
	"time"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
)

// View is all that the loop knows at one moment. A new one is made after every
// round; none is ever changed, so that readers need no lock and must not write.
type View struct {
	Version uint64    // rises with every view; 0: no round is over yet
	Started time.Time // of the loop
	Config  config.Config

	Plan     *plan.Plan         // nil before the first round
	Snapshot *netstate.Snapshot // nil before the first round
	Owned    netstate.Ownership
	Names    netstate.Names // also of links that are gone

	// Converged tells that the kernel holds the whole plan. Lingering endpoints
	// do not count.
	Converged bool
	// Left are the changes that are still to be made: failed ones, and those
	// that wait because of a contention.
	Left        []Left
	Lingering   []Lingering
	Contentions []Contention
	// Findings are those of the plan, of the diff and of the loop itself, the
	// worst first.
	Findings []Finding

	LastRound Round
	Counters  Counters
	// Recent are the last changes that were made or failed, oldest first: those of
	// the last round and some before.
	Recent []Event
}

// Left is a change that is still to be made.
type Left struct {
	Change netstate.Change
	Err    string    // of the last attempt; empty when it was not tried
	Since  time.Time // when it was first wanted
	Tries  int
	Next   time.Time // of the next attempt
}

// Lingering is an endpoint that is no longer wanted and waits until no
// connection needs it.
type Lingering struct {
	Endpoint netstate.Endpoint
	Reason   string    // why it is unwanted
	Since    time.Time // when it became so
	Blocking int       // how many connections need it
	Why      string    // what keeps it, from the vacancy check
	Looks    int       // how often it was looked at
}

// Contention is an object that somebody else keeps changing.
type Contention struct {
	Object string // "rules of 10.1.1.2", "route default table 100002"
	Count  int    // how often it was undone since it last kept still
	Since  time.Time
	Last   time.Time     // when it was last found undone
	Pause  time.Duration // before the next repair; 0: at once
}

// Finding is a plan.Finding with its age.
type Finding struct {
	plan.Finding
	Since time.Time
}

// Round describes one pass from hints to verification.
type Round struct {
	Trigger string // why it ran: "address added on eth0"
	Started time.Time
	Took    time.Duration
	Changed int // changes that were made
	Failed  int
}

// Counters count since the start of the loop.
type Counters struct {
	Rounds    uint64
	Took      Durations // of the rounds
	Events    uint64    // hints of what the kernel told
	FullReads uint64
	Overflows uint64 // events that were lost, each followed by a full read
	// LastOverflow is when a round first knew of the last one; zero: there was none.
	LastOverflow time.Time
	ReadErrors   uint64
	Kicks        uint64                 // flags-0 kicks of idle connections
	Closed       uint64                 // subflows that went around a VPN
	Changes      map[netstate.Op]uint64 // that were made
	Failures     map[netstate.Op]uint64
}

// Durations is a histogram of durations.
type Durations struct {
	// Counts are how many were at most as long as the bound of the same index,
	// and longer than the one before; the last are longer than all.
	Counts [len(DurationBounds) + 1]uint64
	Sum    time.Duration
}

// DurationBounds are the upper bounds in Durations.
var DurationBounds = [...]time.Duration{
	250 * time.Microsecond, 500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond,
	25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, time.Second, 5 * time.Second,
}

func (d *Durations) add(took time.Duration) {
	i := 0
	for i < len(DurationBounds) && took > DurationBounds[i] {
		i++
	}
	d.Counts[i]++
	d.Sum += took
}

// Event is one change that was made or failed.
type Event struct {
	Seq     uint64 // rises by one
	Time    time.Time
	Change  netstate.Change
	Text    string // the change as a command of ip(8)
	Trigger string
	Err     string // empty: made
}
