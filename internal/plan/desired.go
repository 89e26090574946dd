package plan

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/subflowd/subflowd/internal/netstate"
)

// Desired decides what the kernel should hold. It depends on nothing but its
// argument, and equal arguments give equal plans.
func Desired(in Input) *Plan {
	b := newBuilder(in)
	b.findGuard()
	b.findUplinks()
	b.assignAddresses()
	b.plan.Routes = make([]Route, 0, 2*len(b.uplinks))
	for _, u := range b.uplinks {
		b.buildTable(u)
	}
	for _, u := range b.uplinks {
		b.buildRules(u)
	}
	for _, f := range netstate.Families {
		b.reportOverruled(f)
	}
	b.buildEndpoints()
	b.buildLimits()
	b.reportProbe()
	b.reportKernel()
	for _, u := range b.uplinks {
		b.plan.Paths = append(b.plan.Paths, u.Path)
	}
	return b.plan
}

// builder carries what the steps share.
type builder struct {
	in    Input
	snap  *netstate.Snapshot
	names netstate.Names
	addrs map[netstate.LinkFamily][]netstate.Addr
	// unusable says why the addresses of a link that are not in addrs do not count.
	unusable map[netstate.LinkFamily]string
	main     map[netstate.Family][]netstate.Route // in the kernel's order
	uplinks  []*uplink                            // best first within everything that ranks
	plan     *Plan
}

func newBuilder(in Input) *builder {
	b := &builder{
		in: in, snap: in.Snapshot, names: in.Snapshot.Names(),
		addrs:    map[netstate.LinkFamily][]netstate.Addr{},
		unusable: map[netstate.LinkFamily]string{},
		main:     map[netstate.Family][]netstate.Route{},
		plan:     &Plan{LiveAddrs: map[netip.Addr]bool{}},
	}
	for _, a := range b.snap.Addrs {
		key := netstate.LinkFamily{Link: a.Link, Family: a.Family()}
		if a.Outward() {
			b.addrs[key] = append(b.addrs[key], a)
		} else {
			b.noteUnusable(key, a)
		}
	}
	for _, f := range netstate.Families {
		b.main[f] = inMain(b.snap.Routes, f)
	}
	return b
}

// inMain are the routes of one family in main, which a snapshot has in a row.
func inMain(routes []netstate.Route, f netstate.Family) []netstate.Route {
	is := func(r *netstate.Route) bool { return r.Table == netstate.TableMain && r.Family == f }
	first, end, n := 0, 0, 0
	for i := range routes {
		if is(&routes[i]) {
			if n == 0 {
				first = i
			}
			end, n = i+1, n+1
		}
	}
	if end-first == n {
		return routes[first:end:end]
	}
	var list []netstate.Route
	for i := range routes {
		if is(&routes[i]) {
			list = append(list, routes[i])
		}
	}
	return list
}

// sortUplinks orders paths: those that work first, then by the administrator's
// preference, the host's metric, and the ifindex so that nothing is left to chance.
func (b *builder) sortUplinks() {
	dark := func(u *uplink) int {
		if u.State == Dark {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(b.uplinks, func(x, y *uplink) int {
		return cmp.Or(cmp.Compare(x.Family, y.Family), cmp.Compare(dark(x), dark(y)),
			cmp.Compare(x.Preference, y.Preference), cmp.Compare(x.Metric, y.Metric), cmp.Compare(x.Link, y.Link))
	})
}

// assignAddresses gives every address to one path. The same address on two
// links belongs to the better path, because a rule selects by address alone.
func (b *builder) assignAddresses() {
	b.sortUplinks()
	owner := map[netip.Addr]*uplink{}
	for _, u := range b.uplinks {
		for _, a := range b.addrs[u.key()] {
			if first, taken := owner[a.IP()]; taken {
				if first != u {
					u.Addrs = append(u.Addrs, PathAddr{IP: a.IP(), Reason: first.Name + " has the same address and the better path"})
					b.find(Warning, "same-address", a.IP().String(),
						"is on "+first.Name+" and on "+u.Name+"; only "+first.Name+" uses it",
						"remove the address from one of the two links")
				}
				continue
			}
			if !b.reaches(u, a) {
				u.Addrs = append(u.Addrs, PathAddr{IP: a.IP(), Reason: "no rule leads its traffic to " + tableName(u.defaults[0].Table)})
				continue
			}
			owner[a.IP()] = u
			u.owned = append(u.owned, a)
			if u.State == Live && !b.plan.Guard.Withdraws() {
				b.plan.LiveAddrs[a.IP()] = true
			}
		}
	}
}

// liveInFamily tells whether a path of the family other than u has carrier.
func (b *builder) liveInFamily(u *uplink) bool {
	for _, o := range b.uplinks {
		if o != u && o.Family == u.Family && o.State == Live {
			return true
		}
	}
	return false
}

func (b *builder) find(sev Severity, code, object, text, remedy string) {
	b.plan.Findings = append(b.plan.Findings, Finding{Code: code, Severity: sev, Object: object, Text: text, Remedy: remedy})
}

// reportKernel reports what keeps Multipath TCP from working though routing does.
func (b *builder) reportKernel() {
	m := b.snap.MPTCP
	switch {
	case !m.Present:
		b.find(Error, "mptcp-absent", "kernel", "has no Multipath TCP; routing is kept, endpoints cannot be made",
			"use a kernel built with CONFIG_MPTCP=y (5.15 or newer)")
	case !m.Enabled:
		b.find(Error, "mptcp-disabled", "kernel", "has Multipath TCP switched off (net.mptcp.enabled=0); connections use one path",
			"sysctl -w net.mptcp.enabled=1")
	case m.UserspacePM:
		b.find(Warning, "mptcp-userspace-pm", "kernel", "leaves new connections to a userspace path manager; endpoints do nothing",
			"sysctl -w net.mptcp.pm_type=0")
	}
}
