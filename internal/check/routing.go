package check

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
)

// insideKinds are links that lead to what the host itself holds.
var insideKinds = map[string]bool{"bridge": true, "dummy": true, "ifb": true, "vrf": true, "vxlan": true, "geneve": true}

// defaults looks for links that would be paths if something said where they
// lead.
func (l *looker) defaults() {
	others := PathLinks(l.Plan)
	for _, i := range l.Plan.Ignored {
		link, ok := l.Snapshot.LinkByIndex(i.Link)
		if !ok || i.Reason != plan.NoDefaultRoute || insideKinds[link.Kind] || !link.Carrier() || l.isPath(i.Link) {
			continue
		}
		severity := plan.Info
		if len(others) < 2 {
			severity = plan.Warning
		}
		l.find(severity, "no-default-route", i.Name, "has an address and no default route",
			fmt.Sprintf("ip %s route add default via GATEWAY dev %s metric 1000 (the router there; or a [[link]] with gateway%s, or uplink = false if it leads nowhere)",
				i.Family.Flag(), i.Name, i.Family.Flag()[1:]),
			fmt.Sprintf("ip %s route show default dev %s: nothing", i.Family.Flag(), i.Name))
	}
}

func (l *looker) isPath(link int) bool {
	return slices.ContainsFunc(l.Plan.Paths, func(p plan.Path) bool { return p.Link == link })
}

// ways judges where traffic from the addresses of paths goes. That of subflows
// is an error, that of others a warning.
func (l *looker) ways() {
	for _, w := range l.Ways {
		if l.specific(w.Dst) || l.tunnelled(w) {
			continue
		}
		if w.right() {
			l.ofProtocol(w)
			continue
		}
		severity := plan.Warning
		if w.Bound || l.usedUnbound(w.From) {
			severity = plan.Error
		}
		leaves := "does not leave at all"
		if w.NoRoute == "" {
			leaves = "leaves " + l.wayOut(w.Route)
		}
		text := fmt.Sprintf("is %s's, and its traffic %s", w.Path.Name, leaves)
		evidence := w.question(l.names) + ": " + l.answer(w)
		// A socket bound to the link passes over the routes of other links.
		if r := l.culprit(w); r != nil && (!w.Bound || r.Action != netstate.ActLookup) {
			change := netstate.Change{Op: netstate.RuleDelete, Rule: *r}
			l.find(severity, "rules-overruled", w.From.String(), text+": the rule \""+r.Text()+"\" decides about it", change.Text(l.names), evidence)
			continue
		}
		remedy := l.startOrReconcile()
		if l.Daemon != nil && l.Daemon.Converged {
			remedy = "ip " + w.Path.Family.Flag() + " rule show (all of subflowd's rules are there: one before them decides, by its mark, port or the like)"
		}
		l.find(severity, "wrong-link", w.From.String(), text, remedy, evidence)
	}
}

// tunnelled tells whether the way leads into a full tunnel beside which the
// subflows of endpoints may go: its rules take the rest, as they are meant to.
func (l *looker) tunnelled(w Way) bool {
	return l.Plan.Guard != nil && !w.Bound && !l.usedUnbound(w.From) && w.NoRoute == "" && w.Route.Link == l.Plan.Guard.Link
}

// specific tells whether main leads to the probe destination by more than a
// default route, so that the answer says nothing of other destinations.
func (l *looker) specific(dst netip.Addr) bool {
	return slices.ContainsFunc(l.Snapshot.Routes, func(r netstate.Route) bool {
		return r.Table == netstate.TableMain && !r.Default() && r.Dst.Contains(dst)
	})
}

func (l *looker) startOrReconcile() string {
	if l.Daemon == nil {
		return "systemctl enable --now subflowd"
	}
	return "subflowctl reconcile"
}

// right tells whether the way leads over the path.
func (w Way) right() bool {
	return w.NoRoute == "" && w.Route.Link == w.Path.Link && (len(w.Path.Gateways) == 0 || slices.Contains(w.Path.Gateways, w.Route.Gateway))
}

// usedUnbound tells whether the path manager sends from the address by sockets
// that are bound to no link: those of endpoints without one, and the answers to
// joins on an announced address.
func (l *looker) usedUnbound(ip netip.Addr) bool {
	return slices.ContainsFunc(l.Snapshot.Endpoints, func(e netstate.Endpoint) bool {
		return e.Addr == ip && e.Flags&netstate.ImplicitFlag == 0 && (e.Link == 0 || e.Flags&netstate.SignalFlag != 0)
	})
}

func (w Way) question(n netstate.Names) string {
	q := fmt.Sprintf("ip route get %s from %s", w.Dst, w.From)
	if w.Bound {
		q += " oif " + n.Name(w.Path.Link)
	}
	return q
}

func (l *looker) answer(w Way) string {
	if w.NoRoute != "" {
		return w.NoRoute
	}
	return l.wayOut(w.Route)
}

func (l *looker) wayOut(r netstate.Route) string {
	if r.Gateway.IsValid() {
		return "via " + r.Gateway.String() + " dev " + l.names.Name(r.Link)
	}
	return "dev " + l.names.Name(r.Link) + " without a gateway"
}

// culprit is the first rule of others that leads the traffic elsewhere, be it to
// main before ours have their turn; nil: none does, rules are missing.
func (l *looker) culprit(w Way) *netstate.Rule {
	family := netstate.FamilyOf(w.From)
	for i, r := range l.Snapshot.Rules {
		if r.Family != family || r.Table == netstate.TableLocal || r.Others != "" || r.Suppress >= 0 || r.From.IsValid() && !r.From.Contains(w.From) {
			continue
		}
		if netstate.OwnsRule(l.Config.Routing.Protocol, r) || r.Table == netstate.TableMain && r.Priority > l.Config.Routing.Priority {
			return nil
		}
		if l.ends(r) {
			return &l.Snapshot.Rules[i]
		}
	}
	return nil
}

// ofTCP is the selector of rules for TCP alone, as netstate.Rule has it.
const ofTCP = "ipproto 6"

// ofProtocol looks for a rule of others that takes TCP from an address before
// ours have their turn. The kernel was asked about traffic of no protocol, and
// where the rule's table leads is not read.
func (l *looker) ofProtocol(w Way) {
	for _, r := range l.Snapshot.Rules {
		switch {
		case r.Family != netstate.FamilyOf(w.From) || r.From.IsValid() && !r.From.Contains(w.From):
			continue
		case netstate.OwnsRule(l.Config.Routing.Protocol, r):
			return
		case r.Others != ofTCP || r.Suppress >= 0 || r.Table == netstate.TableLocal:
			continue
		case w.Bound && r.Action == netstate.ActLookup:
			continue // the routes of other links do not count for a bound socket
		}
		change := netstate.Change{Op: netstate.RuleDelete, Rule: r}
		severity := plan.Warning
		if w.Bound || l.usedUnbound(w.From) {
			severity = plan.Error
		}
		l.find(severity, "rules-overruled", w.From.String(), "is "+w.Path.Name+"'s, and its TCP traffic goes by the rule \""+r.Text()+"\"",
			change.Text(l.names), "ip "+r.Family.Flag()+" rule: "+r.Text())
		return
	}
}

// ends tells whether nothing behind the rule is asked about traffic to the
// outside.
func (l *looker) ends(r netstate.Rule) bool {
	if r.Action != netstate.ActLookup {
		return r.Action == netstate.ActBlackhole || r.Action == netstate.ActUnreachable || r.Action == netstate.ActProhibit
	}
	return r.Suppress < 0 && slices.ContainsFunc(l.Snapshot.Routes, func(o netstate.Route) bool {
		return o.Family == r.Family && o.Table == r.Table && o.Default() && o.TOS == 0 && !o.SrcPrefix.IsValid() && o.Type != netstate.Throw && !o.Expired()
	})
}

// rules looks for rules that are there twice, and for rules of others that are
// never asked.
func (l *looker) rules() {
	for i, r := range l.Snapshot.Rules {
		for _, before := range l.Snapshot.Rules[:i] {
			if before.Family != r.Family || before.From != r.From || before.Others != r.Others {
				continue
			}
			del := netstate.Change{Op: netstate.RuleDelete, Rule: r}
			if before == r {
				l.find(plan.Warning, "duplicate-rule", r.Family.String(), "has the rule \""+r.Text()+"\" twice", del.Text(l.names), "ip "+r.Family.Flag()+" rule: "+r.Text())
				break
			}
			if (r.From.IsValid() || r.Others != "") && r.Table != before.Table && !netstate.OwnsRule(l.Config.Routing.Protocol, r) && l.ends(before) {
				l.find(plan.Warning, "shadowed-rule", r.Family.String(), fmt.Sprintf("has the rule %q, which %q leaves nothing to decide", r.Text(), before.Text()),
					del.Text(l.names), "ip "+r.Family.Flag()+" rule: "+before.Text())
				break
			}
		}
	}
}
