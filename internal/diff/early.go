package diff

import (
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
)

// Early are the changes that make a path of which nothing is there yet, in the
// order of Changes.Up; the last one is its endpoint.
func Early(p *plan.Path4) []netstate.Change {
	up := make([]netstate.Change, 0, 3+len(p.Rules.Rules))
	for _, r := range []*plan.Route{&p.OnLink, &p.Way} {
		up = append(up, netstate.Change{Op: netstate.RouteAdd, Route: r.Route, Reason: r.Reason})
	}
	for _, r := range p.Rules.Rules {
		up = append(up, netstate.Change{Op: netstate.RuleAppend, Rule: r, Reason: p.Rules.Reason})
	}
	return append(up, netstate.Change{Op: netstate.EndpointAdd, Endpoint: p.Endpoint.Endpoint, Reason: p.Endpoint.Reason})
}
