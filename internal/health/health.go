// Package health decides over which paths the probe's target answers, from the
// results of tests and their times alone.
//
// The paths of a family are tested together, in rounds: a path is told from a
// target that is gone only by another path over which the target answers at the
// same time. What a path loses by its silence it gets back after a hold, which
// grows while the path flaps.
package health

import (
	"net/netip"
	"strings"
	"time"

	"github.com/subflowd/subflowd/internal/netstate"
)

// State says what is known of a path.
type State string

// States of paths.
const (
	Unknown State = ""        // not tested, or not often enough: as if there were no probe
	Answers State = "answers" // the target answers
	Silent  State = "silent"  // it answers over other paths, and not over this one
	Down    State = "down"    // it answers over no path of the family, which says nothing of the path
)

const (
	// enough is how many rounds with the same result are believed.
	enough = 3
	// minHold, maxHold and firm are in intervals: how long a path must answer
	// before it is used again, at first and at most. What was well for the longest
	// hold and for firm times its own is forgiven.
	minHold = 1.0 / 6
	maxHold = 20
	firm    = 10
	// maxPause is in intervals: how rare the rounds become while nothing answers.
	maxPause = 4
	// maxConfirm is the pause between the rounds that confirm a result; at short
	// intervals it is a part of these.
	maxConfirm  = time.Second
	confirmPart = 5
)

// Path is what a tracker is to test.
type Path struct {
	netstate.LinkFamily
	Source netip.Addr
	// Via is the path's gateways. Another network is another path.
	Via []netip.Addr
}

// network is what the path's results are about: temporary addresses come and
// go within one.
func (p Path) network() string {
	bits := 24
	if p.Source.Is6() {
		bits = 64
	}
	var b strings.Builder
	if prefix, err := p.Source.Prefix(bits); err == nil {
		b.WriteString(prefix.String())
	}
	for _, ip := range p.Via {
		b.WriteString(" " + ip.String())
	}
	return b.String()
}

// Report is what is known of one path.
type Report struct {
	State    State
	Since    time.Time     // of the state
	Tested   time.Time     // the last test; zero: none
	RTT      time.Duration // of the last answer; 0: none
	Failures int           // tests in a row without an answer
	// Answered and Unanswered count tests.
	Answered, Unanswered uint64
	// Hold is how long a silent path must answer before it is used again.
	Hold time.Duration
}

// Result is the outcome of one test.
type Result struct {
	OK  bool
	RTT time.Duration
}

// Tracker follows the paths. Its times are those that its callers give.
type Tracker struct {
	interval time.Duration
	families map[netstate.Family]*family
}

// New makes a tracker; interval is the time between tests while all is well.
func New(interval time.Duration) *Tracker {
	return &Tracker{interval: interval, families: map[netstate.Family]*family{}}
}

// family is the paths of one family.
type family struct {
	paths map[netstate.LinkFamily]*path
	void  int // rounds in a row in which nothing answered
	pause time.Duration
	due   time.Time
}

// path is one path between rounds.
type path struct {
	Path
	Report
	came  time.Time // when it began to answer again; zero: it does not
	good  int       // tests in a row with an answer
	back  time.Time // when it last came back from silence
	known string    // network
}

// Set says which paths there are. New ones, and those that lead to another
// network now, are tested at once; a family of one path not at all, because
// nothing would follow.
func (t *Tracker) Set(paths []Path, now time.Time) {
	there := map[netstate.LinkFamily]bool{}
	for _, p := range paths {
		there[p.LinkFamily] = true
		f := t.families[p.Family]
		if f == nil {
			f = &family{paths: map[netstate.LinkFamily]*path{}}
			t.families[p.Family] = f
		}
		old := f.paths[p.LinkFamily]
		if old != nil && old.known == p.network() {
			old.Path = p
			continue
		}
		fresh := &path{Path: p, known: p.network(), Report: Report{Since: now}}
		fresh.forgive(t, now)
		if old != nil {
			fresh.Answered, fresh.Unanswered = old.Answered, old.Unanswered
		}
		f.paths[p.LinkFamily] = fresh
		f.due = now
	}
	for key, f := range t.families {
		for k := range f.paths {
			if !there[k] {
				delete(f.paths, k)
			}
		}
		if len(f.paths) == 0 {
			delete(t.families, key)
		}
	}
	for _, f := range t.families {
		if len(f.paths) < 2 {
			for _, p := range f.paths {
				p.become(Unknown, now)
			}
			f.void, f.due = 0, now
		}
	}
}

// Due lists the paths that are to be tested now, those of whole families.
func (t *Tracker) Due(now time.Time) []Path {
	var out []Path
	for _, key := range netstate.Families {
		f := t.families[key]
		if f == nil || len(f.paths) < 2 || f.due.After(now) {
			continue
		}
		for _, p := range f.paths {
			out = append(out, p.Path)
		}
	}
	return out
}

// Next is when Due will list something; zero: never, as things are.
func (t *Tracker) Next() (next time.Time) {
	for _, f := range t.families {
		if len(f.paths) >= 2 && (next.IsZero() || f.due.Before(next)) {
			next = f.due
		}
	}
	return next
}

// States are those of all paths; paths that are Unknown are left out.
func (t *Tracker) States() map[netstate.LinkFamily]State {
	out := map[netstate.LinkFamily]State{}
	for _, f := range t.families {
		for k, p := range f.paths {
			if p.State != Unknown {
				out[k] = p.State
			}
		}
	}
	return out
}

// Reports are those of all paths.
func (t *Tracker) Reports() map[netstate.LinkFamily]Report {
	out := map[netstate.LinkFamily]Report{}
	for _, f := range t.families {
		for k, p := range f.paths {
			out[k] = p.Report
		}
	}
	return out
}

// confirm is the pause between rounds that confirm a result.
func (t *Tracker) confirm() time.Duration { return min(maxConfirm, t.interval/confirmPart) }

func (p *path) become(s State, now time.Time) {
	if p.State != s {
		p.State, p.Since = s, now
	}
	if s != Silent {
		p.came = time.Time{}
	}
}
