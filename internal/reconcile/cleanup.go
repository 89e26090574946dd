package reconcile

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/diff"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
)

// removal is all that is ours, in the order in which it goes: what leads
// traffic to something goes before that something.
type removal struct {
	endpoints []netstate.Change
	rest      []netstate.Change // rules (the third before the second before the first), routes, limits
	left      []netstate.Endpoint
}

// removalOf decides what a cleanup removes: all that differs from a plan that
// wants nothing. Limits are restored only while they are as we set them.
// Endpoints that no record names are not provably ours; they are left.
func removalOf(s *netstate.Snapshot, owned netstate.Ownership, r config.Routing) removal {
	c := diff.Diff(diff.Input{Snapshot: s, Plan: &plan.Plan{}, Owned: owned, Routing: r, Foreign: config.ForeignRespect})
	const reason = "cleanup"
	var out removal
	ours := map[uint8]bool{}
	for _, u := range c.Unwanted {
		ours[u.Endpoint.ID] = true
		out.endpoints = append(out.endpoints, netstate.Change{Op: netstate.EndpointDelete, Endpoint: u.Endpoint, Reason: reason})
	}
	for _, e := range s.Endpoints {
		if !ours[e.ID] && e.Flags&netstate.ImplicitFlag == 0 {
			out.left = append(out.left, e)
		}
	}
	for _, d := range append(c.Up, c.Down...) {
		d.Reason = reason
		out.rest = append(out.rest, d)
	}
	if f := owned.LimitsFound; f != nil && owned.OwnsLimits(s.Limits) && s.Limits != *f && s.MPTCP.Present {
		out.rest = append(out.rest, netstate.Change{
			Op: netstate.LimitsSet, Limits: *f, Found: s.Limits, Checked: true, Reason: "as they were found",
		})
	}
	return out
}

// Cleaned says what a cleanup did.
type Cleaned struct {
	Endpoints, Rules, Routes int
	Limits                   *netstate.Limits // restored; nil: left as they are
	// Connections is how many connections had a subflow on a deleted endpoint.
	Connections int
	// Left are endpoints that are not provably ours, in ip(8) words.
	Left []string
}

// cleanupPasses bounds how often a cleanup looks again: duplicates of a rule
// are deleted one by one.
const cleanupPasses = 5

// Cleanup removes all that is ours and restores the limits, whether or not
// connections use it. The error is that of what could not be removed.
func Cleanup(o Options) (Cleaned, error) {
	l := New(o)
	r := &round{Round: Round{Trigger: "cleanup"}, failed: map[object]bool{}}
	var out Cleaned
	var failed error
	for range cleanupPasses {
		snap, err := o.Kernel.Refresh(full("cleanup"))
		if err != nil {
			return out, fmt.Errorf("read kernel state: %w", err)
		}
		l.snap = snap
		l.learnNames()
		rm := removalOf(snap, o.Record.Owned(), l.cfg.Routing)
		out.Left = nil
		for _, e := range rm.left {
			out.Left = append(out.Left, e.Text(l.names))
		}
		if len(rm.endpoints)+len(rm.rest) == 0 {
			if err := o.Record.Remove(); err != nil {
				return out, fmt.Errorf("remove state record: %w", err)
			}
			return out, nil
		}
		if out.Endpoints == 0 && len(rm.endpoints) > 0 {
			out.Connections = users(o.Kernel, rm.endpoints)
		}
		clear(r.failed)
		if failed = l.remove(r, append(rm.endpoints, rm.rest...), &out); failed != nil && !l.progress(r) {
			break
		}
	}
	if failed == nil {
		failed = fmt.Errorf("remove what is ours: somebody puts it back")
	}
	return out, failed
}

// progress tells whether anything was removed since it was last asked.
func (l *Loop) progress(r *round) bool {
	p := r.Changed > 0
	r.Changed = 0
	return p
}

// remove carries the changes out and returns the first error.
func (l *Loop) remove(r *round, list []netstate.Change, out *Cleaned) error {
	var first error
	for i, err := range l.o.Kernel.Apply(list) {
		c := list[i]
		l.note(r, c, err)
		if err != nil {
			if first == nil {
				first = fmt.Errorf("%s: %w", c.Text(l.names), err)
			}
			continue
		}
		switch c.Op {
		case netstate.EndpointDelete:
			out.Endpoints++
			l.recorded(l.o.Record.Forget(c.Endpoint))
		case netstate.RuleDelete:
			out.Rules++
		case netstate.RouteDelete:
			out.Routes++
		case netstate.LimitsSet:
			out.Limits = &c.Limits
		}
	}
	l.tell(r)
	return first
}

// users counts the connections that have a subflow on one of the endpoints.
func users(k Kernel, endpoints []netstate.Change) int {
	conns, err := k.Connections()
	if err != nil {
		return 0
	}
	index := diff.IndexConnections(conns)
	seen := map[uint32]bool{}
	for _, c := range endpoints {
		for _, conn := range index[c.Endpoint.Addr] {
			seen[conn.Token] = true
		}
	}
	return len(seen)
}

// LogCleaned writes the outcome of a cleanup as one line, and one for each
// endpoint that is left.
func LogCleaned(log *zap.Logger, c Cleaned, took time.Duration) {
	f := []zap.Field{
		zap.Int("endpoints", c.Endpoints), zap.Int("rules", c.Rules), zap.Int("routes", c.Routes),
		zap.Int("connections", c.Connections), zap.Duration("took", took),
	}
	if c.Limits != nil {
		f = append(f, zap.Stringer("limits", c.Limits))
	}
	log.Info("removed all that was subflowd's", f...)
	for _, e := range c.Left {
		log.Info("left alone, because no record says that subflowd made it: endpoint " + e)
	}
}
