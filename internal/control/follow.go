package control

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/subflowd/subflowd/internal/reconcile"
	"github.com/subflowd/subflowd/internal/version"
	"github.com/subflowd/subflowd/pkg/status"
)

func (b *loopBackend) Follow(recent int) Follower {
	v := b.loop.View()
	f := &follower{loop: b.loop, namespace: b.host.About().Namespace, last: newest(v)}
	if n := min(recent, len(v.Recent)); n > 0 {
		f.last = v.Recent[len(v.Recent)-n].Seq - 1
	}
	return f
}

// follower compares the newest view with what it told of the last one. It keeps
// no view: a reader that is stopped must not keep old snapshots alive.
type follower struct {
	loop      Loop
	namespace uint64

	begun      bool
	last       uint64 // the number of the last change that was told
	state      status.State
	paths      map[pathKey]status.PathState
	conditions map[conditionKey]status.Condition
}

type pathKey struct {
	ifindex int
	family  status.Family
	link    string
}

type conditionKey struct{ code, object string }

func (f *follower) Next() []status.Event {
	return f.next(f.loop.View(), time.Now())
}

func (f *follower) next(v *reconcile.View, now time.Time) []status.Event {
	var out []status.Event
	add := func(at time.Time, e status.Event) {
		e.Schema, e.Time, e.Source = status.Schema, utc(at), status.FromDaemon
		out = append(out, e)
	}
	state := State(v)
	if !f.begun {
		add(now, status.Event{
			Type: status.EventHello, State: state, Version: version.Version(), Namespace: f.namespace,
			Text: "subflowd " + version.Version() + " is " + string(state),
		})
	}
	f.changes(v, now, add)
	f.pathEvents(v, now, add)
	f.conditionEvents(v, now, add)
	if f.begun && state != f.state {
		add(now, status.Event{Type: status.EventState, State: state, Text: stateText(state)})
	}
	f.begun, f.state = true, state
	return out
}

func stateText(s status.State) string {
	switch s {
	case status.Converged:
		return "the kernel holds what it should"
	case status.Failing:
		return "the kernel refuses changes; they are tried again"
	}
	return "changes are under way"
}

type adder func(at time.Time, e status.Event)

// changes tells of what was made and refused since the last one that was told.
func (f *follower) changes(v *reconcile.View, now time.Time, add adder) {
	for i, e := range v.Recent {
		if e.Seq <= f.last {
			continue
		}
		if i == 0 && e.Seq > f.last+1 {
			lost := e.Seq - f.last - 1
			add(now, status.Event{Type: status.EventLost, Lost: lost, Text: fmt.Sprintf("%d changes were not told of: the reader was too slow", lost)})
		}
		text := e.Text
		if e.Change.Reason != "" {
			text += ": " + e.Change.Reason
		}
		if e.Err != "" {
			text = "refused: " + e.Text + ": " + e.Err
		}
		add(e.Time, status.Event{Type: status.EventChange, Text: text, Command: e.Text, Reason: e.Change.Reason, Trigger: e.Trigger, Error: e.Err})
		f.last = e.Seq
	}
}

func (f *follower) pathEvents(v *reconcile.View, now time.Time, add adder) {
	if v.Plan == nil {
		return
	}
	found := make(map[pathKey]status.PathState, len(v.Plan.Paths))
	tell := func(k pathKey, s status.PathState, text string) {
		if f.begun {
			add(now, status.Event{Type: status.EventPath, Link: k.link, Ifindex: k.ifindex, Family: k.family, PathState: s, Text: text})
		}
	}
	for _, p := range v.Plan.Paths {
		k := pathKey{p.Link, family(p.Family), p.Name}
		s := status.PathState(p.State)
		found[k] = s
		switch was, ok := f.paths[k]; {
		case !ok:
			tell(k, s, fmt.Sprintf("%s is an %s path now (%s): %s", p.Name, p.Family, s, p.Source))
		case was != s:
			tell(k, s, fmt.Sprintf("%s, an %s path, is %s now and was %s", p.Name, p.Family, s, was))
		}
	}
	for _, k := range sortedKeys(f.paths, comparePaths) {
		if _, ok := found[k]; !ok {
			word := "IPv4"
			if k.family == status.IPv6 {
				word = "IPv6"
			}
			tell(k, status.PathGone, k.link+" is no "+word+" path any more")
		}
	}
	f.paths = found
}

func (f *follower) conditionEvents(v *reconcile.View, now time.Time, add adder) {
	found := make(map[conditionKey]status.Condition, len(v.Findings))
	for _, x := range v.Findings {
		c := condition(x)
		k := conditionKey{c.Code, c.Object}
		found[k] = c
		if _, ok := f.conditions[k]; !ok && f.begun {
			add(now, status.Event{
				Type: status.EventCondition, Code: c.Code, Severity: c.Severity, Object: c.Object, Remedy: c.Remedy, Text: c.Object + ": " + c.Text,
			})
		}
	}
	for _, k := range sortedKeys(f.conditions, compareConditions) {
		if _, ok := found[k]; !ok {
			c := f.conditions[k]
			add(now, status.Event{
				Type: status.EventConditionOver, Code: c.Code, Severity: c.Severity, Object: c.Object, Text: "over: " + c.Object + ": " + c.Text,
			})
		}
	}
	f.conditions = found
}

func sortedKeys[K comparable, V any](m map[K]V, less func(a, b K) int) []K {
	return slices.SortedFunc(maps.Keys(m), less)
}

func comparePaths(a, b pathKey) int {
	return cmp.Or(cmp.Compare(a.ifindex, b.ifindex), cmp.Compare(a.family, b.family), cmp.Compare(a.link, b.link))
}

func compareConditions(a, b conditionKey) int {
	return cmp.Or(cmp.Compare(a.code, b.code), cmp.Compare(a.object, b.object))
}
