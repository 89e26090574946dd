package metrics

import (
	"slices"
	"strings"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
	"github.com/subflowd/subflowd/internal/reconcile"
	"github.com/subflowd/subflowd/pkg/status"
)

func writeState(p *page, now status.State) {
	const name = "subflowd_state"
	p.family(name, gauge, "1 for the state that the daemon is in.")
	for _, s := range []status.State{status.Converged, status.Converging, status.Failing} {
		p.sample(name, truth(s == now), "state", string(s))
	}
}

func writeView(p *page, v *reconcile.View) {
	if v.Plan != nil {
		writePaths(p, v.Plan)
		writeGuard(p, v.Plan.Guard)
		p.single("subflowd_wanted_endpoints", gauge, "Endpoints that the path manager should have.", float64(len(v.Plan.Endpoints)))
	}
	blocking := 0
	for _, l := range v.Lingering {
		blocking += l.Blocking
	}
	p.single("subflowd_lingering_endpoints", gauge, "Endpoints that are unwanted and stay until no connection needs them.", float64(len(v.Lingering)))
	p.single("subflowd_lingering_endpoint_connections", gauge, "Connections that lingering endpoints wait for.", float64(blocking))
	if v.Snapshot != nil {
		p.single("subflowd_limit_subflows", gauge, "The path manager's limit of further subflows of a connection.", float64(v.Snapshot.Limits.Subflows))
		p.single("subflowd_limit_add_addr_accepted", gauge, "The path manager's limit of a peer's addresses that are used.", float64(v.Snapshot.Limits.AddAddrAccepted))
	}
	refused := 0
	for _, l := range v.Left {
		refused += int(truth(l.Err != ""))
	}
	p.family("subflowd_pending_changes", gauge, "Changes that are still to be made: the kernel refused them, or they wait.")
	p.sample("subflowd_pending_changes", float64(len(v.Left)-refused), "result", "waiting")
	p.sample("subflowd_pending_changes", float64(refused), "result", "failed")
	p.single("subflowd_contentions", gauge, "Objects that another program keeps changing.", float64(len(v.Contentions)))
	writeConditions(p, v.Findings)
	writeTotals(p, v.Counters)
	writeRounds(p, v.Counters.Took)
}

// writePaths writes each state of each path, so that a rule can sum over them.
func writePaths(p *page, of *plan.Plan) {
	p.family("subflowd_path_state", gauge, "1 for the state that the path is in.")
	for _, x := range of.Paths {
		for _, s := range []plan.PathState{plan.Live, plan.Grace, plan.Dark} {
			p.sample("subflowd_path_state", truth(x.State == s), append(pathLabels(x), "state", string(s))...)
		}
	}
	p.family("subflowd_path_backup", gauge, "Whether the path carries data only when no other does.")
	for _, x := range of.Paths {
		p.sample("subflowd_path_backup", truth(x.Backup), pathLabels(x)...)
	}
}

func pathLabels(x plan.Path) []string {
	return []string{"link", x.Name, "family", familyName(x.Family)}
}

func familyName(f netstate.Family) string {
	if f == netstate.IPv6 {
		return string(status.IPv6)
	}
	return string(status.IPv4)
}

func writeGuard(p *page, g *plan.Guard) {
	p.single("subflowd_guard_tunnel", gauge, "Whether a full VPN tunnel is up.", truth(g != nil))
	p.single("subflowd_guard_withdrawn", gauge, "Whether the daemon has stepped aside for a full VPN tunnel.", truth(g.Withdraws()))
}

func writeConditions(p *page, found []reconcile.Finding) {
	type key struct{ severity, code string }
	count := map[key]int{}
	var keys []key
	for _, f := range found {
		k := key{string(f.Severity), f.Code}
		if count[k]++; count[k] == 1 {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b key) int { return strings.Compare(a.severity+" "+a.code, b.severity+" "+b.code) })
	p.family("subflowd_conditions", gauge, "Conditions that the status shows, by severity and code.")
	for _, k := range keys {
		p.sample("subflowd_conditions", float64(count[k]), "severity", k.severity, "code", k.code)
	}
}

var opNames = [...]struct {
	op   netstate.Op
	name string
}{
	{netstate.RouteAdd, "route_add"},
	{netstate.RouteReplace, "route_replace"},
	{netstate.RouteDelete, "route_delete"},
	{netstate.RuleAppend, "rule_append"},
	{netstate.RuleDelete, "rule_delete"},
	{netstate.LimitsSet, "limits_set"},
	{netstate.EndpointAdd, "endpoint_add"},
	{netstate.EndpointSet, "endpoint_set"},
	{netstate.EndpointDelete, "endpoint_delete"},
}

// writeTotals writes all kinds of changes from the start: a series that appears
// with its first change has no rate for it.
func writeTotals(p *page, c reconcile.Counters) {
	const changes = "subflowd_changes_total"
	p.family(changes, counter, "Changes of the kernel's state, by kind and result.")
	for _, o := range opNames {
		p.sample(changes, float64(c.Changes[o.op]), "kind", o.name, "result", "made")
		p.sample(changes, float64(c.Failures[o.op]), "kind", o.name, "result", "failed")
	}
	for _, x := range []struct {
		name, help string
		value      uint64
	}{
		{"subflowd_events_total", "Notifications of the kernel that were looked at.", c.Events},
		{"subflowd_overflows_total", "Times that notifications were lost, each followed by a full read.", c.Overflows},
		{"subflowd_full_reads_total", "Times that all state was read.", c.FullReads},
		{"subflowd_read_errors_total", "Times that the kernel's state could not be read.", c.ReadErrors},
		{"subflowd_kicks_total", "Times that idle connections were offered a new endpoint.", c.Kicks},
		{"subflowd_guard_closed_subflows_total", "Subflows that went around a VPN and were closed.", c.Closed},
	} {
		p.single(x.name, counter, x.help, float64(x.value))
	}
}

func writeRounds(p *page, d reconcile.Durations) {
	const name = "subflowd_reconcile_duration_seconds"
	p.family(name, histogram, "How long the rounds took, from reading to verification.")
	sum := uint64(0)
	for i, bound := range reconcile.DurationBounds {
		sum += d.Counts[i]
		p.sample(name+"_bucket", float64(sum), "le", number(bound.Seconds()))
	}
	sum += d.Counts[len(reconcile.DurationBounds)]
	p.sample(name+"_bucket", float64(sum), "le", "+Inf")
	p.sample(name+"_sum", d.Sum.Seconds())
	p.sample(name+"_count", float64(sum))
}
