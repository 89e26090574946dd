package plan

import (
	"net/netip"

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
		u.Addrs = append(u.Addrs, PathAddr{IP: a.IP(), Rules: true, Reason: "address of " + u.Name})
		b.plan.RuleSets = append(b.plan.RuleSets, RuleSet{
			Family: u.Family, Addr: a.IP(), Link: u.Link,
			Rules:  b.ruleSet(u, a.IP()),
			Reason: a.IP().String() + " is an address of " + u.Name,
		})
	}
	if b.in.Config.Routing.MainFirst && b.errorDefault(u.Family) {
		b.find(Warning, "error-default", u.Name,
			"main's best "+u.Family.String()+" default route is an error; what main knows is thrown back from the path table instead of asked first",
			"")
	}
}

// ruleSet is the rules of one address in order. suppress_prefixlength 0 lets
// everything but default routes decide.
func (b *builder) ruleSet(u *uplink, ip netip.Addr) []netstate.Rule {
	rt := b.in.Config.Routing
	rule := func(table uint32, suppress int32, protocol uint8) netstate.Rule {
		return netstate.Rule{Family: u.Family, Priority: rt.Priority, From: netip.PrefixFrom(ip, ip.BitLen()),
			Action: netstate.ActLookup, Table: table, Suppress: suppress, Protocol: protocol}
	}
	var set []netstate.Rule
	if len(u.Shared) > 0 {
		// The next protocol keeps a delete of the last rule from matching this
		// one: the kernel takes an absent suppress_prefixlength for any.
		set = append(set, rule(u.Table, 0, rt.Protocol+1))
	}
	if rt.MainFirst && !b.errorDefault(u.Family) {
		set = append(set, rule(netstate.TableMain, 0, rt.Protocol))
	}
	set = append(set, rule(u.Table, netstate.NoSuppress, rt.Protocol))
	if rt.Strict {
		r := rule(0, netstate.NoSuppress, rt.Protocol)
		r.Action = netstate.ActUnreachable
		set = append(set, r)
	}
	return set
}
