package diff

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
)

// place is one key of the kernel's tables, whoever uses it. Insertion ignores
// the protocol, so routes of different owners meet here.
type place struct {
	key     netstate.RouteKey // without a protocol
	want    *plan.Route
	ours    []netstate.Route // in the kernel's order
	foreign []netstate.Route
}

func placeOf(r netstate.Route) netstate.RouteKey {
	k := r.Key()
	k.Protocol = 0
	return k
}

func (b *builder) routes() {
	places := b.places()
	tables := map[netstate.LinkFamily]bool{} // tables that have a wanted route, as Link
	for _, p := range places {
		if p.want != nil {
			tables[netstate.LinkFamily{Link: int(p.key.Table), Family: p.key.Family}] = true
		}
	}
	for _, p := range places {
		switch {
		case p.want == nil:
			reason := "no path needs it"
			if !tables[netstate.LinkFamily{Link: int(p.key.Table), Family: p.key.Family}] {
				reason = fmt.Sprintf("table %d belongs to no %s path", p.key.Table, p.key.Family)
			}
			b.deleteRoutes(p, reason)
		case len(p.foreign) > 0:
			b.besideForeign(p)
		default:
			b.settleRoute(p)
		}
	}
	slices.SortStableFunc(b.downRoutes, func(x, y netstate.Change) int {
		return cmp.Or(cmp.Compare(x.Route.Family, y.Route.Family), cmp.Compare(stage(y.Route), stage(x.Route)))
	})
}

// places groups the routes that matter, in the order in which they must come:
// a throw before the prefix that it cuts a hole into, and an on-link route
// before the gateway that it reaches (fib_check_nh, net/ipv4/fib_semantics.c).
func (b *builder) places() []*place {
	byKey := map[netstate.RouteKey]*place{}
	tables := map[uint32]bool{}
	all := make([]*place, 0, len(b.Plan.Routes))
	at := func(k netstate.RouteKey) *place {
		p := byKey[k]
		if p == nil {
			p = &place{key: k}
			byKey[k] = p
			all = append(all, p)
		}
		return p
	}
	for i := range b.Plan.Routes {
		w := &b.Plan.Routes[i]
		if w.Family == netstate.IPv6 && w.Metric == 0 {
			made := *w
			made.Metric = 1024 // IP6_RT_PRIO_USER, which the kernel makes of none
			w = &made
		}
		if p := at(placeOf(w.Route)); p.want == nil || lessRoute(w.Route, p.want.Route) {
			p.want = w
		}
		tables[w.Table] = true
	}
	for i := range b.Snapshot.Routes {
		r := &b.Snapshot.Routes[i]
		if b.Owned.OwnsRoute(b.Routing.Protocol, *r) {
			p := at(placeOf(*r))
			p.ours = append(p.ours, *r)
		} else if tables[r.Table] {
			if p := byKey[placeOf(*r)]; p != nil && p.want != nil {
				p.foreign = append(p.foreign, *r)
			}
		}
	}
	slices.SortFunc(all, func(x, y *place) int {
		return cmp.Or(cmp.Compare(x.key.Family, y.key.Family), cmp.Compare(x.stage(), y.stage()), comparePlaces(x.key, y.key))
	})
	return all
}

func (p *place) stage() int {
	if p.want != nil {
		return stage(p.want.Route)
	}
	return stage(p.ours[0])
}

func stage(r netstate.Route) int {
	switch {
	case r.Type != netstate.Unicast:
		return 0
	case !r.Gateway.IsValid():
		return 1
	}
	return 2
}

func comparePlaces(x, y netstate.RouteKey) int {
	return cmp.Or(cmp.Compare(x.Table, y.Table), x.Dst.Addr().Compare(y.Dst.Addr()), cmp.Compare(x.Dst.Bits(), y.Dst.Bits()),
		cmp.Compare(x.Metric, y.Metric), cmp.Compare(x.TOS, y.TOS), cmp.Compare(x.SrcFrom.String(), y.SrcFrom.String()))
}

// lessRoute makes the choice between two wanted routes of one key, which a
// plan should not have, independent of their order.
func lessRoute(x, y netstate.Route) bool {
	return cmp.Or(x.Gateway.Compare(y.Gateway), cmp.Compare(x.Link, y.Link), cmp.Compare(x.Type, y.Type)) < 0
}

// settleRoute leads a key that only we use to the wanted route. REPLACE leaves
// no gap, also between unicast and throw and between on-link and gatewayed, in
// both families; an add would double an IPv4 route and merge an IPv6 one into
// a multipath route.
func (b *builder) settleRoute(p *place) {
	want := netstate.Change{Op: netstate.RouteAdd, Route: p.want.Route, Reason: p.want.Reason}
	if len(p.ours) == 0 {
		b.up(want)
		return
	}
	if p.multipath4() {
		want.Op = netstate.RouteReplace
		b.up(want)
		return
	}
	keep := max(0, slices.IndexFunc(p.ours, p.want.Same))
	for i, r := range p.ours {
		if i != keep {
			b.up(netstate.Change{Op: netstate.RouteDelete, Route: r, Reason: "it doubles a route of the same destination and metric"})
		}
	}
	if !p.ours[keep].Same(p.want.Route) {
		want.Op = netstate.RouteReplace
		b.up(want)
	}
}

// multipath4 tells whether ours is one IPv4 route with several nexthops: a
// delete that names one of them takes the whole (fib_nh_match).
func (p *place) multipath4() bool {
	return p.key.Family == netstate.IPv4 && slices.ContainsFunc(p.ours, func(r netstate.Route) bool { return r.Multipath })
}

func (b *builder) deleteRoutes(p *place, reason string) {
	ours := p.ours
	if p.multipath4() {
		ours = ours[:1]
	}
	for _, r := range ours {
		b.downRoutes = append(b.downRoutes, netstate.Change{Op: netstate.RouteDelete, Route: r, Reason: reason})
	}
}

// besideForeign handles a key that somebody else uses too. Neither an add nor
// a replace can be told from his route by the kernel, so only a route of ours
// that is there already can stay.
func (b *builder) besideForeign(p *place) {
	const reason = "another program has a route of the same destination and metric there"
	kept := false
	rest := *p
	rest.ours = nil
	for _, r := range p.ours {
		if !kept && r.Same(p.want.Route) {
			kept = true
			continue
		}
		rest.ours = append(rest.ours, r)
	}
	if !kept || !p.multipath4() {
		b.deleteRoutes(&rest, reason)
	}
	other := p.foreign[0]
	f := plan.Finding{Code: "foreign-route", Severity: plan.Warning, Object: fmt.Sprintf("table %d", p.key.Table)}
	his := other
	his.Protocol = p.want.Protocol
	if kept || his.Same(p.want.Route) {
		f.Severity = plan.Info
		f.Text = fmt.Sprintf("Another program (protocol %s) has the route %q; it is left alone.",
			netstate.ProtocolName(other.Protocol), other.Text(b.names))
	} else {
		f.Text = fmt.Sprintf("Another program (protocol %s) has the route %q in the place of %q; it is left alone and ours is missing.",
			netstate.ProtocolName(other.Protocol), other.Text(b.names), p.want.Text(b.names))
		f.Remedy = "ip " + other.Family.Flag() + " route del " + other.Text(b.names)
	}
	b.find(f)
}
