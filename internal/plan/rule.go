package plan

import (
	"net/netip"
	"slices"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/netstate"
)

// buildRules decides the rule set of every address of a path.
func (b *builder) buildRules(u *uplink) {
	withdrawn := u.State == Dark && b.liveInFamily(u)
	for _, a := range u.owned {
		if b.plan.Guard.Withdraws() {
			// Bound traffic goes where it would go without us.
			u.Addrs = append(u.Addrs, PathAddr{IP: a.IP(), Reason: "the VPN " + b.plan.Guard.Name + " is up"})
			continue
		}
		if withdrawn {
			u.Addrs = append(u.Addrs, PathAddr{IP: a.IP(), Reason: "no carrier; answers by another path"})
			continue
		}
		if reason := b.mainDecides(u, a.IP()); reason != "" {
			u.Addrs = append(u.Addrs, PathAddr{IP: a.IP(), Reason: reason})
			continue
		}
		u.Addrs = append(u.Addrs, PathAddr{IP: a.IP(), Rules: true, Reason: "address of " + u.Name})
		b.plan.RuleSets = append(b.plan.RuleSets, RuleSet{
			Family: u.Family, Addr: a.IP(), Link: u.Link,
			Rules:  b.ruleSet(u, a.IP()),
			Reason: addressOf(a.IP(), u.Name),
		})
	}
	if b.in.Config.Routing.MainFirst && b.errorDefault(u.Family) {
		b.find(Warning, "error-default", u.Name,
			"main's best "+u.Family.String()+" default route is an error; what main knows is thrown back from the path table instead of asked first",
			"")
	}
}

func addressOf(ip netip.Addr, name string) string { return ip.String() + " is an address of " + name }

// mainDecides says why main is left to decide about traffic from the address,
// where source rules would change what works: main has a default route for such
// sources, which a path table cannot hold beside the others; or it balances over
// gateways of this very link, which a path table would reduce to one; or unbound
// traffic leaves by another link with this address, and connect(2), which looks
// the route up again with it, would move to this one.
func (b *builder) mainDecides(u *uplink, ip netip.Addr) string {
	best := b.bestDefault(u.Family)
	if b.balances(u, best) {
		return "main balances over several gateways of " + u.Name
	}
	if w, ok := b.snap.Unbound[u.Family]; ok && w.Source == ip && w.Link != u.Link && b.hasCarrier(w.Link) {
		return "source of unbound traffic that leaves by " + b.names.Name(w.Link)
	}
	for _, r := range b.main[u.Family] {
		if !r.Default() || r.Type != netstate.Unicast || r.TOS != 0 || r.Expired() {
			continue
		}
		switch {
		case r.SrcPrefix.IsValid():
			if r.SrcPrefix.Contains(ip) {
				return "main has a default route from " + r.SrcPrefix.String()
			}
		case best != nil && r.Metric == best.Metric && r.PrefSrc == ip && r.Link != u.Link && b.hasCarrier(r.Link):
			return "source of unbound traffic that leaves by " + b.names.Name(r.Link)
		}
	}
	return ""
}

// balances tells whether main's best default route is one IPv4 multipath route
// all of whose nexthops are on the link. IPv6 routers of one metric are no such
// route: the kernel chooses one of them (rt6_select, net/ipv6/route.c).
func (b *builder) balances(u *uplink, best *netstate.Route) bool {
	if best == nil || !best.Multipath || u.Family != netstate.IPv4 {
		return false
	}
	return !slices.ContainsFunc(b.main[u.Family], func(r netstate.Route) bool {
		return r.Default() && r.TOS == 0 && r.Multipath && r.Metric == best.Metric && r.Link != u.Link
	})
}

func (b *builder) hasCarrier(link int) bool {
	l, ok := b.snap.LinkByIndex(link)
	return ok && l.Up() && l.Carrier()
}

// ruleSet is the rules of one address of a path.
func (b *builder) ruleSet(u *uplink, ip netip.Addr) []netstate.Rule {
	rt := b.in.Config.Routing
	rt.MainFirst = rt.MainFirst && !b.errorDefault(u.Family)
	return ruleSet(rt, ip, u.Table, len(u.Shared) > 0)
}

// ruleSet is the rules of one address in order. suppress_prefixlength 0 lets
// everything but default routes decide.
func ruleSet(rt config.Routing, ip netip.Addr, table uint32, shared bool) []netstate.Rule {
	rule := func(table uint32, suppress int32, protocol uint8) netstate.Rule {
		return netstate.Rule{
			Family: netstate.FamilyOf(ip), Priority: rt.Priority, From: netip.PrefixFrom(ip, ip.BitLen()),
			Action: netstate.ActLookup, Table: table, Suppress: suppress, Protocol: protocol,
		}
	}
	set := make([]netstate.Rule, 0, 4)
	if shared {
		// The next protocol keeps a delete of the last rule from matching this
		// one: the kernel takes an absent suppress_prefixlength for any.
		set = append(set, rule(table, 0, rt.Protocol+1))
	}
	if rt.MainFirst {
		set = append(set, rule(netstate.TableMain, 0, rt.Protocol))
	}
	set = append(set, rule(table, netstate.NoSuppress, rt.Protocol))
	if rt.Strict {
		r := rule(0, netstate.NoSuppress, rt.Protocol)
		r.Action = netstate.ActUnreachable
		set = append(set, r)
	}
	return set
}

// reportOverruled names a rule of others that decides about all traffic of a
// family before ours do: it is obeyed, and source addresses choose no link.
func (b *builder) reportOverruled(f netstate.Family) {
	if b.plan.Guard != nil || !slices.ContainsFunc(b.plan.RuleSets, func(s RuleSet) bool { return s.Family == f }) {
		return
	}
	for _, r := range b.snap.Rules {
		if r.Family != f || r.Priority > b.in.Config.Routing.Priority || r.Table == netstate.TableLocal ||
			r.Action != netstate.ActLookup || r.From.IsValid() || r.Others != "" || r.Suppress >= 0 {
			continue
		}
		if slices.ContainsFunc(b.snap.Routes, func(o netstate.Route) bool {
			return o.Family == f && o.Table == r.Table && o.Default() && o.TOS == 0 && !o.SrcPrefix.IsValid() && o.Type != netstate.Throw
		}) {
			b.find(Info, "rules-overruled", f.String(),
				"the rule \""+r.Text()+"\" comes before those of subflowd and decides about all traffic; the source address does not choose the link", "")
			return
		}
	}
}
