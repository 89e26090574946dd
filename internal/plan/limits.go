package plan

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/netstate"
)

// Limits that the automatic mode wants at least; see ip-mptcp(8).
const (
	minSubflows        = 2
	minAddAddrAccepted = 4
)

// buildLimits decides the path manager's limits. They are never lowered:
// somebody may count on what was there, and a server's connections keep the
// limits that they were accepted with. Only the guard sets them to zero, so
// that in one change nothing can join any more, whatever made the endpoints.
func (b *builder) buildLimits() {
	m := b.snap.MPTCP
	if !m.Present {
		return
	}
	if b.plan.Guard.Withdraws() && b.isClient() {
		b.plan.Limits = &netstate.Limits{}
		return
	}
	found := b.snap.Limits
	if b.zeroed() {
		found = *b.in.Owned.LimitsFound
	}
	if b.in.Config.Limits.Mode == config.LimitsKeep {
		if b.zeroed() {
			b.plan.Limits = &found
		}
		return
	}
	most := m.HighestLimit()
	if b.in.Config.Limits.Mode == config.LimitsFixed {
		v := b.in.Config.Limits.Values
		b.plan.Limits = &netstate.Limits{Subflows: min(v.Subflows, most), AddAddrAccepted: min(v.AddAddrAccepted, most)}
		if *b.plan.Limits != v {
			b.find(Info, "limits-capped", "limits", fmt.Sprintf("are %s by configuration, and this kernel takes at most %d", v, most), "")
		}
		return
	}
	// Lingering endpoints still carry subflows: they count. One without flags
	// carries none.
	addrs := map[netip.Addr]bool{}
	for _, e := range b.snap.Endpoints {
		if e.Flags != 0 && e.Flags&netstate.ImplicitFlag == 0 {
			addrs[e.Addr] = true
		}
	}
	for _, e := range b.plan.Endpoints {
		addrs[e.Addr] = true
	}
	l := found
	if o := b.in.Owned; o.LimitsFound != nil && o.OwnsLimits(b.snap.Limits) {
		// Numbers of an earlier configuration may have lowered what was there.
		l.Subflows = max(l.Subflows, o.LimitsFound.Subflows)
		l.AddAddrAccepted = max(l.AddAddrAccepted, o.LimitsFound.AddAddrAccepted)
	}
	if b.isClient() {
		l.AddAddrAccepted = max(l.AddAddrAccepted, min(minAddAddrAccepted, most))
	}
	need := uint32(len(addrs))
	if slices.ContainsFunc(b.plan.Endpoints, func(e Endpoint) bool { return e.Flags&netstate.FullmeshFlag != 0 }) {
		// Each such endpoint connects to every address that the peer announces.
		need *= 1 + l.AddAddrAccepted
	}
	l.Subflows = max(l.Subflows, min(max(minSubflows, need), most))
	b.plan.Limits = &l
}

// zeroed tells whether the limits are what a guard made of them.
func (b *builder) zeroed() bool {
	o := b.in.Owned
	return o.LimitsFound != nil && b.snap.Limits == netstate.Limits{} && o.OwnsLimits(b.snap.Limits)
}

// isClient tells whether the host connects, on any of its links.
func (b *builder) isClient() bool {
	if len(b.uplinks) == 0 {
		return b.in.Config.Role != config.RoleServer
	}
	for _, u := range b.uplinks {
		if u.settings.Role != config.RoleServer {
			return true
		}
	}
	return false
}
