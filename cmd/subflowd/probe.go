package main

import (
	"github.com/subflowd/subflowd/internal/health"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
	"github.com/subflowd/subflowd/internal/probe"
	"github.com/subflowd/subflowd/internal/reconcile"
)

// newProber makes the prober of a loop's paths.
func newProber(l *reconcile.Loop) *probe.Prober {
	return probe.NewProber(probe.Source{
		Paths:   func() []health.Path { return probe.PathsOf(l.View().Plan) },
		Changed: l.Changed,
		Decide:  func(s map[netstate.LinkFamily]health.State) { l.SetReach(s, "probe") },
		Trouble: func(err error) { probeReport(l, err) },
	})
}

// probeReport puts into the status whether the target's name is known.
func probeReport(l *reconcile.Loop, err error) {
	tell(l, err, plan.Finding{
		Code: "probe-unresolved", Severity: plan.Warning, Object: "probe.target", Text: "cannot be looked up, and no path is tested until it can",
		Remedy: "name a host that exists, or its address",
	})
}
