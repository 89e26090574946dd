// Package plan decides what the kernel should hold. Desired is a pure function
// of the configuration and a snapshot; every decision carries its reason.
//
// The files follow the order of the decisions: uplink (which links lead
// outside), address (which addresses count), table (the path tables), rule (the
// rule sets), endpoint (who gets an endpoint), limits; and
// guard, which overrides the last three while a full tunnel is up. The file early
// has the one path that is found without a plan.
package plan

import (
	"net/netip"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/health"
	"github.com/subflowd/subflowd/internal/netstate"
)

// Input is all that a plan depends on.
type Input struct {
	Config   config.Config
	Snapshot *netstate.Snapshot
	Owned    netstate.Ownership
	// Grace names the links that lost their carrier less than the grace period
	// (10 s) ago.
	Grace map[int]bool
	// Hold names the links whose endpoints are held back, with the reason
	// ("flapping: back in 8s").
	Hold map[int]string
	// Reach is over which paths the probe's target answers; those that are not
	// in it are taken as if there were no probe.
	Reach map[netstate.LinkFamily]health.State
}

// PathState says what a path can do now.
type PathState string

// States of paths.
const (
	Live  PathState = "live"  // has carrier
	Grace PathState = "grace" // lost its carrier moments ago: rules stay
	Dark  PathState = "dark"  // no carrier: rules stay only if no other path of the family lives
)

// Path is one uplink in one family.
type Path struct {
	Link       int // ifindex
	Name       string
	Family     netstate.Family
	State      PathState
	Table      uint32
	Metric     uint32 // of its best default route
	Preference int
	Gateways   []netip.Addr // best first; a default route without gateway adds none
	Source     string       // what makes it an uplink: "default route in main"
	Addrs      []PathAddr
	Backup     bool
	// Probe is the address from which the probe's target is asked for: that of
	// the path's endpoint, whether it may have one now or not. Invalid: the path
	// is to have none.
	Probe netip.Addr
	// Shared are the on-link prefixes that another link has too.
	Shared []netip.Prefix
}

// PathAddr is one address of a path with what becomes of it.
type PathAddr struct {
	IP       netip.Addr
	Rules    bool
	Endpoint bool
	Reason   string // why it has or lacks rules or an endpoint
}

// Ignored is a link that is no path in a family, and why.
type Ignored struct {
	Link   int
	Name   string
	Family netstate.Family
	Reason string
}

// RuleSet is the ordered rules of one address.
type RuleSet struct {
	Family netstate.Family
	Addr   netip.Addr
	Link   int
	Rules  []netstate.Rule // in the order in which the kernel must look at them
	Reason string
}

// Route is a wanted route with its reason.
type Route struct {
	netstate.Route
	Reason string
}

// Endpoint is a wanted endpoint with its reason.
type Endpoint struct {
	netstate.Endpoint
	Reason string
}

// Severity of a finding.
type Severity string

// Severities.
const (
	Info    Severity = "info"
	Warning Severity = "warning"
	Error   Severity = "error"
)

// Finding is something that a person should know: a path that is not used, a
// decision that the host's state forced.
type Finding struct {
	Code     string // stable, lower case with dashes: "same-address"
	Severity Severity
	Object   string // what it is about: a link, an address, "kernel"
	Text     string // one sentence
	Remedy   string // what to do; may be empty
}

// Plan is what the kernel should hold.
type Plan struct {
	Paths     []Path
	Ignored   []Ignored
	Routes    []Route
	RuleSets  []RuleSet
	Endpoints []Endpoint // those that should exist, most wanted first
	// Waning are endpoints that are not to be made and, while they are in the
	// kernel, to have these flags; they go when vacant.
	Waning   []Endpoint
	Limits   *netstate.Limits // nil: leave them alone
	Findings []Finding
	// LiveAddrs are the usable addresses of live paths: a subflow from one of
	// them can carry a connection on.
	LiveAddrs map[netip.Addr]bool
	// Guard is set while a full tunnel is up.
	Guard *Guard
}

// Guard says that a full tunnel is up, and what follows from it.
type Guard struct {
	Link   int // ifindex of the tunnel
	Name   string
	Family netstate.Family // the family that it carries, IPv4 if it carries both
	Policy config.VPNPolicy
}

// Withdraws tells whether nothing may join outside the tunnel. It may be
// called on nil.
func (g *Guard) Withdraws() bool { return g != nil && g.Policy == config.VPNWithdraw }
