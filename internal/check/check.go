// Package check finds what keeps Multipath TCP from working on a host: in the
// kernel's settings, in routing, in the path manager, in firewalls, in other
// programs, and in what the counters tell of the network beyond. Look is a pure
// function of facts that others have gathered.
//
// What plan and diff find is found by them alone: their findings come through
// with their codes. The files: codes (what can be found, and what follows from
// it), and one for each kind of fact.
package check

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/diff"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
)

// Facts are all that is looked at. A fact that could not be seen is as one that
// is in order; who gathers the facts says which those are.
type Facts struct {
	Config config.Config
	// ConfigError is why the configuration cannot be used, in one line; then
	// Config has the defaults.
	ConfigError string
	// RecordError is why the record of what is ours cannot be used.
	RecordError string
	// NoPolicyRouting: the kernel has no rules, and nothing of the snapshot could
	// be read.
	NoPolicyRouting bool
	// HiddenPathManager: endpoints and limits may not be read, and Snapshot says
	// nothing of Multipath TCP.
	HiddenPathManager bool
	Snapshot          *netstate.Snapshot // never nil
	Plan              *plan.Plan         // of Snapshot and Config; never nil
	Changes           diff.Changes       // from Snapshot to Plan
	// Conflicts are the numbers of the configuration that others use, as
	// config.Conflicts tells.
	Conflicts []string
	Ways      []Way
	Filtered  []Filtered
	// Sysctls are values by their path below /proc/sys; one that the kernel does
	// not have is not there.
	Sysctls map[string]string
	// Counters are those of MPTcpExt by name, without the prefix.
	Counters map[string]uint64
	Firewall []FirewallRule
	Programs []Program
	// NetworkManagerOff: its configuration leaves endpoints alone by default.
	// NetworkdKeepsRules: that of systemd-networkd leaves rules of others alone.
	NetworkManagerOff, NetworkdKeepsRules bool
	// Daemon is what subflowd says of this network namespace; nil: none runs.
	Daemon *Daemon
}

// Way is the kernel's answer to the question where traffic from an address of a
// live path goes.
type Way struct {
	Path    *plan.Path
	From    netip.Addr
	Dst     netip.Addr // the probe destination; nothing is sent
	Bound   bool       // as a socket that is bound to the path's link
	Route   netstate.Route
	NoRoute string // why there is no route; empty: there is one
}

// Filtered is an address for which the kernel drops what arrives on its own
// link, because of strict reverse path filtering (RFC 3704, section 2.2).
type Filtered struct {
	Link string
	Addr netip.Addr
	From netip.Addr // the probe source
	Text string     // of the kernel's refusal
}

// Daemon is what the daemon says of itself.
type Daemon struct {
	Conditions []plan.Finding
	// Converged: the kernel holds what it should.
	Converged bool
	// Lingering are the endpoints that it keeps for connections' sake.
	Lingering map[netip.Addr]bool
	// Overflows counts lost notifications, the last of them SinceOverflow ago.
	Overflows     uint64
	SinceOverflow time.Duration
}

// Finding is one thing that is not as it should be.
type Finding struct {
	plan.Finding          // Remedy is a command where there is one
	Evidence     []string // what was seen
	Consequence  string   // what follows from it
}

// Look judges the facts. Errors come first, then warnings; no finding has both
// code and object of another one.
func Look(f *Facts) []Finding {
	l := &looker{Facts: f, names: f.Snapshot.Names()}
	l.kernel()
	l.daemon()
	if !f.NoPolicyRouting {
		l.planned()
		l.limits()
		l.filters()
		l.neighbours()
		l.routers()
		l.defaults()
		l.ways()
		l.rules()
		l.nexthops()
		l.endpoints()
	}
	l.programs()
	l.firewall()
	l.counters()
	return sorted(l.found)
}

type looker struct {
	*Facts
	names netstate.Names
	found []Finding
}

// find reports something, unless the same was reported of the same object.
func (l *looker) find(severity plan.Severity, code, object, text, remedy string, evidence ...string) {
	l.report(Finding{Finding: plan.Finding{Code: code, Severity: severity, Object: object, Text: text, Remedy: remedy}, Evidence: evidence})
}

func (l *looker) report(f Finding) {
	if slices.ContainsFunc(l.found, func(o Finding) bool { return o.Code == f.Code && o.Object == f.Object }) {
		return
	}
	f.Consequence = Consequences[f.Code]
	l.found = append(l.found, f)
}

var rank = map[plan.Severity]int{plan.Error: 0, plan.Warning: 1, plan.Info: 2}

func sorted(found []Finding) []Finding {
	slices.SortStableFunc(found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(rank[a.Severity], rank[b.Severity]), strings.Compare(a.Code, b.Code), strings.Compare(a.Object, b.Object))
	})
	return found
}

// guarded tells whether a full tunnel is up and nothing may go beside it, which
// then is no fault.
func (l *looker) guarded() bool { return l.Plan.Guard.Withdraws() }

// addrLink is the link that has an address; 0: none.
func (l *looker) addrLink(ip netip.Addr) int {
	for _, a := range l.Snapshot.Addrs {
		if a.IP() == ip {
			return a.Link
		}
	}
	return 0
}

// PathLinks are the names of the distinct links that are live paths.
func PathLinks(p *plan.Plan) []string {
	var names []string
	for _, path := range p.Paths {
		if path.State == plan.Live && !slices.Contains(names, path.Name) {
			names = append(names, path.Name)
		}
	}
	return names
}
