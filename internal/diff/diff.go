// Package diff finds the changes that lead from a snapshot to a plan. It is
// pure. The files: diff (the entry and the order), routes, rules, endpoints,
// vacancy.
package diff

import (
	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
)

// Input is all that the changes depend on.
type Input struct {
	Snapshot *netstate.Snapshot
	Plan     *plan.Plan
	Owned    netstate.Ownership
	Routing  config.Routing
	Foreign  config.ForeignPolicy
}

// Unwanted is an endpoint of ours that goes as soon as it is vacant.
type Unwanted struct {
	Endpoint netstate.Endpoint
	Reason   string
}

// Changes lead from the snapshot to the plan. Up is carried out first, then
// the deletes of those Unwanted that are vacant, then Down.
type Changes struct {
	Up       []netstate.Change // routes, rules (whole exchanges included), limits, endpoints
	Unwanted []Unwanted
	Down     []netstate.Change // rules, then routes
	Findings []plan.Finding    // what is left alone because it is foreign, or waits for a slot
}

// Empty tells whether there is nothing to do now. Unwanted endpoints do not
// count: they may linger.
func (c Changes) Empty() bool { return len(c.Up) == 0 && len(c.Down) == 0 }
