package control

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
	"github.com/subflowd/subflowd/internal/reconcile"
	"github.com/subflowd/subflowd/pkg/status"
)

// Document is the public form of a view at a time. A view of no round yet gives
// a document that is converging and empty.
func Document(v *reconcile.View, d status.Daemon, now time.Time) status.Document {
	if d.Started.IsZero() {
		d.Started = v.Started
	}
	d.Started = utc(d.Started)
	doc := status.Document{
		Schema:      status.Schema,
		Time:        utc(now),
		Daemon:      d,
		State:       State(v),
		Conditions:  convert(v.Findings, condition),
		Contentions: convert(v.Contentions, contention),
		Pending:     convert(v.Left, func(l reconcile.Left) status.Pending { return pending(l, v.Names) }),
		LastRound:   round(v.LastRound),
		LastChange:  lastChange(v.Recent),
		Counters:    counters(v.Counters),
	}
	if v.Plan != nil {
		doc.Paths = convert(v.Plan.Paths, path)
		doc.Ignored = convert(v.Plan.Ignored, ignored)
	}
	doc.Endpoints = endpoints(v)
	if v.Snapshot != nil {
		doc.Limits = limits(v)
		doc.MPTCP = status.MPTCP{Present: v.Snapshot.MPTCP.Present, Enabled: v.Snapshot.MPTCP.Enabled, UserspacePM: v.Snapshot.MPTCP.UserspacePM}
	}
	return doc
}

// PlanOf is what the loop has still to do.
func PlanOf(v *reconcile.View) status.Plan {
	p := status.Plan{Schema: status.Schema}
	for _, l := range v.Left {
		p.Changes = append(p.Changes, status.Change{Command: l.Change.Text(v.Names), Reason: l.Change.Reason, Error: l.Err})
	}
	for _, l := range v.Lingering {
		c := netstate.Change{Op: netstate.EndpointDelete, Endpoint: l.Endpoint}
		p.Kept = append(p.Kept, status.Change{Command: c.Text(v.Names), Reason: joinWords(l.Reason, l.Why)})
	}
	for _, f := range v.Findings {
		p.Findings = append(p.Findings, FindingOf(f.Finding))
	}
	return p
}

// FindingOf is the public form of a finding.
func FindingOf(f plan.Finding) status.Finding {
	return status.Finding{Code: f.Code, Severity: status.Severity(f.Severity), Object: f.Object, Text: f.Text, Remedy: f.Remedy}
}

// State is what the status calls the state of a view.
func State(v *reconcile.View) status.State {
	switch {
	case v.Plan == nil || v.Snapshot == nil:
		return status.Converging
	case v.Converged:
		return status.Converged
	case slices.ContainsFunc(v.Left, func(l reconcile.Left) bool { return l.Err != "" }):
		return status.Failing
	}
	return status.Converging
}

func family(f netstate.Family) status.Family {
	if f == netstate.IPv6 {
		return status.IPv6
	}
	return status.IPv4
}

func path(p plan.Path) status.Path {
	out := status.Path{
		Link: p.Name, Ifindex: p.Link, Family: family(p.Family), State: status.PathState(p.State), Source: p.Source,
		Table: p.Table, Metric: p.Metric, Preference: p.Preference, Backup: p.Backup,
		Gateways: convert(p.Gateways, netip.Addr.String), SharedPrefixes: convert(p.Shared, netip.Prefix.String),
	}
	for _, a := range p.Addrs {
		out.Addresses = append(out.Addresses, status.Address{Address: a.IP.String(), Rules: a.Rules, Endpoint: a.Endpoint, Reason: a.Reason})
	}
	return out
}

func ignored(i plan.Ignored) status.Link {
	return status.Link{Link: i.Name, Ifindex: i.Link, Family: family(i.Family), Reason: i.Reason}
}

func condition(f reconcile.Finding) status.Condition {
	return status.Condition{Code: f.Code, Severity: status.Severity(f.Severity), Object: f.Object, Text: f.Text, Remedy: f.Remedy, Since: utc(f.Since)}
}

func contention(c reconcile.Contention) status.Contention {
	return status.Contention{Object: c.Object, Count: c.Count, Since: utc(c.Since), Last: utc(c.Last), PauseSeconds: c.Pause.Seconds()}
}

func pending(l reconcile.Left, n netstate.Names) status.Pending {
	return status.Pending{
		Command: l.Change.Text(n), Reason: l.Change.Reason, Error: l.Err, Tries: l.Tries, Since: utc(l.Since), Next: maybe(l.Next),
	}
}

func round(r reconcile.Round) status.Round {
	return status.Round{Trigger: r.Trigger, Started: maybe(r.Started), TookSeconds: r.Took.Seconds(), Changed: r.Changed, Failed: r.Failed}
}

func lastChange(events []reconcile.Event) *status.LastChange {
	for _, e := range slices.Backward(events) {
		if e.Err == "" {
			return &status.LastChange{Time: utc(e.Time), Command: e.Text, Reason: e.Change.Reason, Trigger: e.Trigger}
		}
	}
	return nil
}

func counters(c reconcile.Counters) status.Counters {
	out := status.Counters{Rounds: c.Rounds, FullReads: c.FullReads, Overflows: c.Overflows, ReadErrors: c.ReadErrors, Kicks: c.Kicks}
	if !c.LastOverflow.IsZero() {
		at := utc(c.LastOverflow)
		out.LastOverflow = &at
	}
	for _, n := range c.Changes {
		out.Changes += n
	}
	for _, n := range c.Failures {
		out.Failures += n
	}
	return out
}

func limits(v *reconcile.View) status.Limits {
	m := v.Snapshot.MPTCP
	out := status.Limits{Current: *limitValues(&v.Snapshot.Limits), Found: limitValues(v.Owned.LimitsFound), Maximum: m.MaxLimit, MaxEndpoints: m.MaxEndpoints}
	if v.Plan != nil {
		out.Wanted = limitValues(v.Plan.Limits)
	}
	return out
}

func limitValues(l *netstate.Limits) *status.LimitValues {
	if l == nil {
		return nil
	}
	return &status.LimitValues{Subflows: l.Subflows, AddAddrAccepted: l.AddAddrAccepted}
}

func convert[A, B any](in []A, f func(A) B) []B {
	out := make([]B, 0, len(in))
	for _, a := range in {
		out = append(out, f(a))
	}
	return out
}

// utc drops the location and what JSON would not carry.
func utc(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

func maybe(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = utc(t)
	return &t
}

func joinWords(a, b string) string {
	return strings.Trim(a+"; "+b, "; ")
}
