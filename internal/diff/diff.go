// Package diff finds the changes that lead from a snapshot to a plan. It is
// pure. The files: diff (the entry and the order), routes, rules, ladder (the
// rules of one address), endpoints, vacancy, early (a path without a plan).
package diff

import (
	"net/netip"
	"slices"

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

// Diff finds the changes that lead from the snapshot to the plan. Their order
// is part of the result: carried out one by one they never leave a wanted
// address without a way out, and an endpoint comes only after all that its
// subflows need. Equal inputs give equal changes, in whatever order the plan
// lists its routes and rule sets; the order of its endpoints is their rank.
func Diff(in Input) Changes {
	b := builder{Input: in, names: in.Snapshot.Names()}
	b.routes()
	b.rules()
	b.limits()
	b.endpoints()
	b.out.Down = slices.Concat(b.downRules, b.downRoutes)
	return b.out
}

// onePath is how many changes a new path brings with three rules and limits.
// Changes are large, and making room for them one by one takes longer than
// finding them.
const onePath = 8

// builder collects the changes.
type builder struct {
	Input
	names      netstate.Names
	out        Changes
	downRules  []netstate.Change
	downRoutes []netstate.Change
}

func (b *builder) up(c netstate.Change) {
	if b.out.Up == nil {
		b.out.Up = make([]netstate.Change, 0, onePath)
	}
	b.out.Up = append(b.out.Up, c)
}

func (b *builder) find(f plan.Finding) { b.out.Findings = append(b.out.Findings, f) }

// limits come after the routes and before the endpoints, because a server's
// connections keep the limits that they found when they were accepted.
func (b *builder) limits() {
	want := b.Plan.Limits
	if want == nil || !b.Snapshot.MPTCP.Present || *want == b.Snapshot.Limits {
		return
	}
	b.up(netstate.Change{
		Op: netstate.LimitsSet, Limits: *want, Found: b.Snapshot.Limits, Checked: true,
		Reason: "they were " + b.Snapshot.Limits.Text(),
	})
}

// pathAddr finds what the plan says about an address of a path.
func (b *builder) pathAddr(ip netip.Addr) (plan.PathAddr, bool) {
	for _, p := range b.Plan.Paths {
		for _, a := range p.Addrs {
			if a.IP == ip {
				return a, true
			}
		}
	}
	return plan.PathAddr{}, false
}
