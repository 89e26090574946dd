package reconcile

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
)

type findingKey struct{ code, object string }

// publish makes a new view after a round.
func (l *Loop) publish(r *round) {
	l.tell(r)
	if w, ok := l.o.Watcher.(interface{ Overflows() uint64 }); ok {
		if n := w.Overflows(); n != l.counters.Overflows {
			l.counters.Overflows, l.counters.LastOverflow = n, time.Now()
		}
	}
	l.counters.Events = l.events.Load()
	old := l.View()
	v := &View{
		Version: old.Version + 1, Started: l.started, Config: l.cfg,
		Plan: l.plan, Snapshot: l.snap, Owned: l.o.Record.Owned(), Names: l.names,
		Left: l.left(old.Left), Lingering: l.lingering(), Contentions: l.contentions(),
		LastRound: r.Round, Counters: l.counters, Recent: slices.Clip(l.recent),
	}
	v.Counters.Changes = maps.Clone(l.counters.Changes)
	v.Counters.Failures = maps.Clone(l.counters.Failures)
	v.Converged = len(v.Left) == 0 && l.plan != nil && l.reading.tries == 0
	v.Findings = l.findings(v)
	l.view.Store(v)
	l.working.Store(false)
	l.mu.Lock()
	close(l.changed)
	l.changed = make(chan struct{})
	l.mu.Unlock()
}

// left lists the changes that are still to be made; before is the list of the
// last view, which knows since when.
func (l *Loop) left(before []Left) []Left {
	if l.changes.Empty() {
		return nil
	}
	since := make(map[object]time.Time, len(before))
	for _, x := range before {
		since[objectOf(x.Change)] = x.Since
	}
	now := time.Now()
	var out []Left
	for _, list := range [][]netstate.Change{l.changes.Up, l.changes.Down} {
		for _, c := range list {
			o := objectOf(c)
			x := Left{Change: c, Since: now}
			if t, ok := since[o]; ok {
				x.Since = t
			}
			if f := l.failures[o]; f != nil {
				x.Err, x.Tries, x.Next = f.err.Error(), f.tries, f.next
			} else if f, ok := l.fights.Get(o); ok && f.Due.After(now) {
				x.Next = f.Due
			}
			out = append(out, x)
		}
	}
	return out
}

func (l *Loop) contentions() []Contention {
	var out []Contention
	for _, o := range l.fights.Worst() {
		f, _ := l.fights.Get(o)
		out = append(out, Contention{Object: o.String(), Count: f.Count, Since: f.Since, Last: f.Last, Pause: f.Pause})
	}
	return out
}

var severityRank = map[plan.Severity]int{plan.Error: 0, plan.Warning: 1, plan.Info: 2}

// findings are those of the plan, the diff and the loop, each with its age. A
// finding is logged when it comes; its text may change without a line.
func (l *Loop) findings(v *View) []Finding {
	var all []plan.Finding
	if l.plan != nil {
		all = append(all, l.plan.Findings...)
	}
	all = append(all, l.changes.Findings...)
	all = append(all, l.own(v)...)
	l.mu.Lock()
	for _, f := range l.reported {
		all = append(all, f)
	}
	l.mu.Unlock()
	now := time.Now()
	since := make(map[findingKey]time.Time, len(all))
	var out []Finding
	for _, f := range all {
		k := findingKey{f.Code, f.Object}
		if _, twice := since[k]; twice {
			continue
		}
		t, known := l.since[k]
		if !known {
			t = now
			l.logFinding(f)
		}
		since[k] = t
		out = append(out, Finding{f, t})
	}
	l.since = since
	slices.SortStableFunc(out, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(severityRank[a.Severity], severityRank[b.Severity]), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Object, b.Object))
	})
	return out
}

func (l *Loop) logFinding(f plan.Finding) {
	log := l.log.Info
	switch f.Code {
	case codeChange, codeRead, codeRecord, codeLingering, codeGuard:
		return // has a line of its own
	}
	if f.Severity != plan.Info {
		log = l.log.Warn
	}
	fields := []zap.Field{zap.String("code", f.Code)}
	if f.Remedy != "" {
		fields = append(fields, zap.String("remedy", f.Remedy))
	}
	log(f.Object+" "+f.Text, fields...)
}

// Codes of the loop's own findings.
const (
	codeRead       = "read-failed"
	codeWatch      = "watch-failed"
	codeRecord     = "record-unwritable"
	codeChange     = "change-failed"
	codeContention = "contention"
	codeLingering  = "lingering"
	codeGuard      = "guard-failed"
)

// own are the loop's own findings.
func (l *Loop) own(v *View) []plan.Finding {
	var out []plan.Finding
	find := func(s plan.Severity, code, object, text, remedy string) {
		out = append(out, plan.Finding{Code: code, Severity: s, Object: object, Text: text, Remedy: remedy})
	}
	if l.reading.tries > 0 {
		find(plan.Error, codeRead, "kernel", "cannot be read: "+l.reading.err.Error(), remedy(l.reading.err))
	}
	if e := l.watchErr.Load(); e != nil {
		find(plan.Error, codeWatch, "kernel", "tells of no changes, only the resync finds them: "+(*e).Error(), remedy(*e))
	}
	if l.recordErr != nil {
		find(plan.Error, codeRecord, "state record", "cannot be written, so that after a restart endpoints may pass for foreign: "+l.recordErr.Error(),
			"make the state directory writable")
	}
	if err := l.guard.err; err != nil {
		find(plan.Error, codeGuard, l.plan.Guard.Name, "is a full tunnel, and subflows that go around it cannot be closed: "+err.Error(), remedy(err))
	}
	failed := map[object]bool{}
	for _, x := range v.Left {
		if o := objectOf(x.Change); x.Err != "" && !failed[o] {
			failed[o] = true
			find(plan.Error, codeChange, o.String(), "cannot be changed ("+x.Change.Text(l.names)+"): "+x.Err, remedy(l.failures[objectOf(x.Change)].err))
		}
	}
	for _, c := range v.Contentions {
		find(plan.Warning, codeContention, c.Object, fmt.Sprintf("cannot keep what they should be: another program undid it %d times so far", c.Count),
			"find the program that removes it and tell it to leave it alone")
	}
	for _, g := range v.Lingering {
		find(plan.Info, codeLingering, g.Endpoint.Addr.String(), "has an endpoint that is unwanted ("+g.Reason+") and stays: "+g.Why, "")
	}
	return out
}

// remedy is what helps against an error of the kernel, if that is known.
func remedy(err error) string {
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		return "run as root or with CAP_NET_ADMIN in the network namespace's user namespace"
	}
	return ""
}
