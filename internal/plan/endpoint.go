package plan

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/netstate"
)

// buildEndpoints decides who gets an endpoint: the first address of every path
// before the second of any, and who has a slot keeps it.
func (b *builder) buildEndpoints() {
	if !b.snap.MPTCP.Present {
		return
	}
	b.reportFullmesh()
	all := make(map[*uplink][]Endpoint, len(b.uplinks))
	for _, u := range b.uplinks {
		if all[u] = b.candidates(u); len(all[u]) > 0 {
			u.Probe = all[u][0].Addr
		}
	}
	var tiers [][]Endpoint
	for _, u := range b.uplinks {
		es := all[u]
		switch {
		case b.plan.Guard.Withdraws():
			es = b.guarded(es)
		case b.silent(u):
			b.wane(u, es)
			continue
		}
		for i, e := range es {
			if i == len(tiers) {
				tiers = append(tiers, nil)
			}
			tiers[i] = append(tiers[i], e)
		}
	}
	if len(tiers) == 0 {
		return
	}
	// A first address comes before every second one, held or not.
	ranked := append(b.heldFirst(tiers[0]), b.heldFirst(slices.Concat(tiers[1:]...))...)
	if free := b.slots(ranked); len(ranked) > free {
		for _, e := range ranked[free:] {
			b.find(Warning, "no-slot", e.Addr.String(), "gets no endpoint: the kernel takes no more", "")
			for _, u := range b.uplinks {
				if u.Link == e.Link {
					u.explainOne(e.Addr, "the kernel takes no more endpoints")
				}
			}
		}
		ranked = ranked[:free]
	}
	b.plan.Endpoints = ranked
	b.markAddrs(ranked)
}

// slots is how many endpoints the plan may have: what the kernel takes, less
// the foreign ones that serve none of ours.
func (b *builder) slots(wanted []Endpoint) int {
	n := b.snap.MPTCP.Slots()
	for _, e := range b.snap.Endpoints {
		serves := slices.ContainsFunc(wanted, func(w Endpoint) bool { return w.Addr == e.Addr && e.Port == 0 })
		if !serves && e.Flags&netstate.ImplicitFlag == 0 && b.foreign(e) {
			n--
		}
	}
	return max(n, 0)
}

// foreign tells whether an endpoint that is not wanted belongs to somebody
// else. Without a record nothing that is unwanted can be ours.
func (b *builder) foreign(e netstate.Endpoint) bool { return !b.in.Owned.OwnsEndpoint(e) }

// heldFirst puts the endpoints that exist before those that do not.
func (b *builder) heldFirst(es []Endpoint) []Endpoint {
	held := func(e Endpoint) bool {
		return slices.ContainsFunc(b.snap.Endpoints, func(o netstate.Endpoint) bool { return o.Addr == e.Addr && o.Port == 0 })
	}
	out := make([]Endpoint, 0, len(es))
	for _, want := range []bool{true, false} {
		for _, e := range es {
			if held(e) == want {
				out = append(out, e)
			}
		}
	}
	return out
}

// candidates are the endpoints of one path, the chosen address first.
func (b *builder) candidates(u *uplink) []Endpoint {
	if reason := b.noEndpoint(u); reason != "" {
		u.explain(reason)
		return nil
	}
	eligible := slices.DeleteFunc(slices.Clone(u.owned), func(a netstate.Addr) bool { return b.flags(u, a.IP()) == 0 })
	u.explain("private address: not signalled beside a public one")
	if len(eligible) == 0 {
		return nil
	}
	first, reason := b.chooseAddress(u, eligible)
	out := []Endpoint{{netstate.Endpoint{Addr: first, Link: u.Link, Flags: b.flags(u, first)}, reason}}
	for _, a := range eligible {
		switch {
		case a.IP() == first:
		case a.Deprecated():
			u.explainOne(a.IP(), "deprecated: nothing new is to leave from it")
		case u.settings.Addresses != config.AddressesAll:
			u.explainOne(a.IP(), first.String()+" has the endpoint of "+u.Name)
		default:
			out = append(out, Endpoint{netstate.Endpoint{Addr: a.IP(), Link: u.Link, Flags: b.flags(u, a.IP())}, "all addresses of " + u.Name + " by configuration"})
		}
	}
	return out
}

// noEndpoint says why a path gets no endpoint at all.
func (b *builder) noEndpoint(u *uplink) string {
	if !u.settings.Endpoints {
		return "no endpoints by configuration"
	}
	if u.State != Live {
		return "no carrier"
	}
	return b.in.Hold[u.Link]
}

// chooseAddress picks the address of a path that gets its endpoint. One that
// exists stays, because replacing it closes subflows; else the kernel's own
// choice for unbound traffic follows the host's settings for temporary,
// secondary and preferred-source addresses. One that was only ready before its
// better, as the random delays of RFC 4862, section 5.4.2, have it in half of
// all cases, does not stay: see yields.
func (b *builder) chooseAddress(u *uplink, eligible []netstate.Addr) (netip.Addr, string) {
	preferred := b.snap.Preferred[u.key()]
	if ip, ok := b.existing(u, eligible, preferred); ok {
		return ip, "endpoint of " + u.Name + " that exists and is good"
	}
	if len(eligible) == 1 {
		return eligible[0].IP(), onlyAddressOf(u.Name)
	}
	usable := func(ip netip.Addr) bool {
		return slices.ContainsFunc(eligible, func(a netstate.Addr) bool { return a.IP() == ip })
	}
	if usable(preferred) {
		return preferred, "source that the kernel picks on " + u.Name
	}
	for _, d := range u.defaults {
		if d.PrefSrc.IsValid() && usable(d.PrefSrc) {
			return d.PrefSrc, "src of the default route of " + u.Name
		}
	}
	rank := func(a netstate.Addr) int {
		switch {
		case a.Deprecated():
			return 2
		case uniqueLocal(a.IP()):
			return 1
		}
		return 0
	}
	best := slices.MinFunc(eligible, func(x, y netstate.Addr) int { return cmp.Compare(rank(x), rank(y)) })
	return best.IP(), "first usable address of " + u.Name
}

func onlyAddressOf(name string) string { return "only usable address of " + name }

func uniqueLocal(ip netip.Addr) bool { return ip.Is6() && netstate.Private(ip) }

// existing finds the path's address that has an endpoint already: one of ours
// first, the kernel's preferred among these, else a foreign one, which counts
// as satisfied.
func (b *builder) existing(u *uplink, eligible []netstate.Addr, preferred netip.Addr) (netip.Addr, bool) {
	var ours, foreign netip.Addr
	find := func(ip netip.Addr) int {
		return slices.IndexFunc(eligible, func(a netstate.Addr) bool { return a.IP() == ip })
	}
	best := find(preferred)
	for _, e := range b.snap.Endpoints {
		i := find(e.Addr)
		if i < 0 || eligible[i].Deprecated() || e.Port != 0 || e.Link != u.Link || e.Flags&netstate.ImplicitFlag != 0 {
			continue
		}
		switch {
		case b.foreign(e):
			if !foreign.IsValid() || e.Addr == preferred {
				foreign = e.Addr
			}
		case best >= 0 && yields(eligible[i], eligible[best]):
		case !ours.IsValid() || e.Addr == preferred:
			ours = e.Addr
		}
	}
	if ours.IsValid() {
		return ours, true
	}
	return foreign, foreign.IsValid()
}

// yields tells whether an address gives its endpoint up for the one that the
// kernel prefers: a unique-local one, which reaches nobody outside, for a global
// one; a stable one, which tells every server who the host is, for a temporary
// one.
func yields(a, preferred netstate.Addr) bool {
	return uniqueLocal(a.IP()) && !uniqueLocal(preferred.IP()) || preferred.Temporary() && !a.Temporary()
}

// flags are the path manager's flags of one address; 0: it gets no endpoint. A
// private address is signalled only where the host has no public one: to a peer
// outside it names a stranger's host.
func (b *builder) flags(u *uplink, ip netip.Addr) netstate.EndpointFlags {
	f := u.settings.Role.EndpointFlags()
	if f&netstate.SignalFlag != 0 && netstate.Private(ip) && b.hasPublic(u.Family) {
		if f &^= netstate.SignalFlag; f == 0 {
			return 0
		}
	}
	if u.Backup || b.plan.Guard != nil && b.plan.Guard.Policy == config.VPNBackup {
		f |= netstate.BackupFlag
	}
	if u.settings.Fullmesh && f&netstate.SignalFlag == 0 {
		f |= netstate.FullmeshFlag // the kernel refuses it beside signal
	}
	return f
}

// reportFullmesh names the links whose fullmesh is left out. The configuration
// is refused only where its entries are certain to meet at a link.
func (b *builder) reportFullmesh() {
	seen := map[int]bool{}
	for _, u := range b.uplinks {
		s := u.settings
		if seen[u.Link] || !s.Fullmesh || !s.Endpoints || s.Role.EndpointFlags()&netstate.SignalFlag == 0 {
			continue
		}
		seen[u.Link] = true
		b.find(Warning, "no-fullmesh", u.Name, "is not fullmesh: its role is "+string(s.Role)+", and the kernel takes no endpoint that is both fullmesh and signalled",
			`role = "client" or fullmesh = false for this link`)
	}
}

func (b *builder) hasPublic(f netstate.Family) bool {
	for _, u := range b.uplinks {
		if u.Family == f && slices.ContainsFunc(u.owned, func(a netstate.Addr) bool { return !netstate.Private(a.IP()) }) {
			return true
		}
	}
	return false
}

// explain gives every address of the path the reason why it has no endpoint.
func (u *uplink) explain(reason string) {
	for i := range u.Addrs {
		if u.Addrs[i].Rules {
			u.Addrs[i].Reason = reason
		}
	}
}

// explainOne gives one address of the path the reason why it has no endpoint.
func (u *uplink) explainOne(ip netip.Addr, reason string) {
	for i := range u.Addrs {
		if u.Addrs[i].IP == ip && u.Addrs[i].Rules {
			u.Addrs[i].Reason = reason
		}
	}
}

// markAddrs notes at the paths which addresses have endpoints.
func (b *builder) markAddrs(es []Endpoint) {
	for _, u := range b.uplinks {
		for i, a := range u.Addrs {
			k := slices.IndexFunc(es, func(e Endpoint) bool { return e.Addr == a.IP && e.Link == u.Link })
			if k >= 0 {
				u.Addrs[i].Endpoint = true
				u.Addrs[i].Reason = es[k].Reason
			}
		}
	}
}
