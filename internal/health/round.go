package health

import (
	"time"

	"github.com/subflowd/subflowd/internal/netstate"
)

// Round takes the results of one round of a family, of all its paths or of none
// that is left, and plans the next round.
func (t *Tracker) Round(key netstate.Family, results map[netstate.LinkFamily]Result, now time.Time) {
	f := t.families[key]
	if f == nil {
		return
	}
	answer, tested := false, 0
	for k, p := range f.paths {
		r, ok := results[k]
		if !ok {
			continue
		}
		tested++
		p.take(r, now)
		answer = answer || r.OK
	}
	switch {
	case tested == 0:
		f.due = now.Add(t.confirm())
	case answer:
		f.answered(t, results, now)
	default:
		f.unanswered(t, now)
	}
}

func (p *path) take(r Result, now time.Time) {
	p.Tested = now
	if r.OK {
		p.Answered++
		p.good++
		p.Failures, p.RTT = 0, r.RTT
		return
	}
	p.Unanswered++
	p.Failures++
	p.good, p.came = 0, time.Time{}
}

// unanswered is a round in which the target answered over no path. A few of
// them in a row void what the paths were taken for.
func (f *family) unanswered(t *Tracker, now time.Time) {
	if f.void++; f.void < enough {
		f.due = now.Add(t.confirm())
		return
	}
	for _, p := range f.paths {
		p.become(Down, now)
	}
	// The target is asked more and more rarely.
	f.pause = min(max(2*f.pause, t.interval), maxPause*t.interval)
	f.due = now.Add(f.pause)
}

// answered is a round in which the target answered over some path.
func (f *family) answered(t *Tracker, results map[netstate.LinkFamily]Result, now time.Time) {
	voided := f.void > 0
	f.void, f.pause = 0, 0
	pause := t.interval
	for k, p := range f.paths {
		r, ok := results[k]
		if !ok {
			pause = t.confirm()
			continue
		}
		if voided && !r.OK {
			p.Failures = 1 // those before were the target's
			if p.State == Down {
				p.become(Unknown, now)
			}
		}
		pause = min(pause, p.step(t, r.OK, now))
	}
	f.due = now.Add(pause)
}

// step moves a path on by a test beside which the target answered over some
// path, and returns when the next one should be.
func (p *path) step(t *Tracker, ok bool, now time.Time) time.Duration {
	switch {
	case ok && p.State == Silent:
		if p.came.IsZero() {
			p.came = now
		}
		if p.good < enough || now.Sub(p.came) < p.Hold {
			return min(max(p.Hold/enough, t.confirm()), t.interval)
		}
		p.become(Answers, now)
		p.back = now
	case ok:
		p.become(Answers, now)
		p.forgive(t, now)
	case p.State == Silent: // still
	case p.Failures < enough:
		return t.confirm()
	default:
		if !p.forgive(t, now) {
			p.Hold = min(2*p.Hold, maxHold*t.interval)
		}
		p.become(Silent, now)
	}
	return t.interval
}

// forgive makes the hold of a path that never fell silent, or was well for long
// since, a first one, and tells whether it did.
func (p *path) forgive(t *Tracker, now time.Time) bool {
	if !p.back.IsZero() && now.Sub(p.back) <= firm*p.Hold+maxHold*t.interval {
		return false
	}
	p.Hold = time.Duration(minHold * float64(t.interval))
	return true
}
