package plan

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"

	"github.com/subflowd/subflowd/internal/netstate"
)

// maxGatewayed is how many routes with a gateway, beside the defaults, one path
// table takes over from main.
const maxGatewayed = 64

// maxThrows bounds the throw routes of one table where main's default is an
// error and everything specific in main needs one.
const maxThrows = 4096

// buildTable decides the routes of the path table.
func (b *builder) buildTable(u *uplink) {
	t := &tableBuilder{
		b: b, u: u, routes: make([]Route, 0, 2), // on-link and default
		seen: map[netip.Prefix][]netstate.Route{}, thrown: map[netip.Prefix]bool{},
	}
	t.onLink()
	t.gatewayed()
	for _, d := range u.defaults {
		reason := defaultOf(u.Name, d.Table)
		if u.synthetic {
			reason = u.Source
		}
		t.add(d, reason)
	}
	t.flagOnLink()
	u.Shared = b.sharedPrefixes(u)
	t.throws()
	b.plan.Routes = append(b.plan.Routes, t.routes...)
	b.reportForeign(u)
}

func onLinkOn(name string) string { return "on-link on " + name }

func defaultOf(name string, table uint32) string {
	return "default route of " + name + " in " + tableName(table)
}

// tableBuilder collects the routes of one path table.
type tableBuilder struct {
	b      *builder
	u      *uplink
	routes []Route
	seen   map[netip.Prefix][]netstate.Route
	thrown map[netip.Prefix]bool
}

// add copies a route into the path table. IPv6 merges routes of one metric into
// one multipath route and IPv4 keeps only one of a metric, so equal metrics
// become consecutive ones.
func (t *tableBuilder) add(r netstate.Route, reason string) {
	metric := r.Metric
	for _, o := range t.seen[r.Dst] {
		if o.Gateway == r.Gateway {
			return // main and a table that counts often say the same
		}
		if metric <= o.Metric {
			metric = o.Metric + 1
		}
	}
	n := copied(&r, t.u.Table, t.u.Link, t.b.in.Config.Routing.Protocol)
	n.Metric = metric
	t.seen[r.Dst] = append(t.seen[r.Dst], n)
	t.routes = append(t.routes, Route{Route: n, Reason: reason})
}

// copied is a route as it is in a path table: without src, because the source is
// chosen already and a dead one would stay behind.
func copied(r *netstate.Route, table uint32, link int, protocol uint8) netstate.Route {
	n := netstate.Route{
		Family: r.Family, Table: table, Dst: r.Dst, Type: netstate.Unicast, Metric: r.Metric,
		Protocol: protocol, Link: link, Gateway: r.Gateway, OnLink: r.OnLink,
		MTU: r.MTU, MTULock: r.MTULock, AdvMSS: r.AdvMSS, InitCwnd: r.InitCwnd, Metrics: r.Metrics, Pref: r.Pref,
	}
	if n.Family == netstate.IPv4 && !n.Gateway.IsValid() {
		n.Scope = netstate.ScopeLink
	}
	return n
}

// candidates are the routes of the link, in the order in which the kernel
// prefers them, that a path table can take over.
func (t *tableBuilder) candidates(keep func(*netstate.Route) bool) []netstate.Route {
	var out []netstate.Route
	for _, table := range t.u.tables {
		for i := range t.b.snap.Routes {
			r := &t.b.snap.Routes[i]
			if r.Table == table && r.Family == t.u.Family && r.Link == t.u.Link && r.Type == netstate.Unicast &&
				!r.Default() && !r.Expired() && r.TOS == 0 && !r.Encap && !r.SrcPrefix.IsValid() &&
				keep(r) && !t.b.in.Owned.OwnsRoute(t.b.in.Config.Routing.Protocol, *r) {
				out = append(out, *r)
			}
		}
	}
	slices.SortStableFunc(out, func(x, y netstate.Route) int {
		return cmp.Or(x.Dst.Addr().Compare(y.Dst.Addr()), cmp.Compare(x.Dst.Bits(), y.Dst.Bits()),
			cmp.Compare(x.Metric, y.Metric), cmp.Compare(x.Pref.Rank(), y.Pref.Rank()))
	})
	return out
}

func (t *tableBuilder) onLink() {
	for _, r := range t.candidates(func(r *netstate.Route) bool { return !r.Gateway.IsValid() }) {
		t.add(r, onLinkOn(t.u.Name))
	}
}

// gatewayed takes over the routes that a person, a lease or a router gave; those
// of routing daemons are theirs to move.
func (t *tableBuilder) gatewayed() {
	routes := t.candidates(func(r *netstate.Route) bool {
		switch r.Protocol {
		case netstate.ProtoDHCP, netstate.ProtoRA, netstate.ProtoStatic, netstate.ProtoBoot:
			return r.Gateway.IsValid()
		}
		return false
	})
	if len(routes) > maxGatewayed {
		t.b.find(Warning, "too-many-routes", t.u.Name,
			"has "+strconv.Itoa(len(routes))+" "+t.u.Family.String()+" routes with a gateway; its path table takes the first "+strconv.Itoa(maxGatewayed), "")
		routes = routes[:maxGatewayed]
	}
	for _, r := range routes {
		t.add(r, "route of "+t.u.Name+" in "+tableName(r.Table))
	}
}

// flagOnLink marks gateways that no on-link route of the table covers: the
// kernel refuses them otherwise.
func (t *tableBuilder) flagOnLink() {
	for i := range t.routes {
		r := &t.routes[i]
		gw := r.Gateway
		if !gw.IsValid() || r.OnLink || gw.IsLinkLocalUnicast() && gw.Is6() {
			continue
		}
		covered := slices.ContainsFunc(t.routes, func(o Route) bool {
			return !o.Gateway.IsValid() && !o.Default() && o.Dst.Contains(gw)
		})
		r.OnLink = !covered
	}
}

// sharedPrefixes are the on-link prefixes of the link that another link has
// too: two links in one subnet, where main knows only the better one. Every
// link has fe80::/64; it is no subnet.
func (b *builder) sharedPrefixes(u *uplink) []netip.Prefix {
	var shared []netip.Prefix
	subnet := func(r *netstate.Route) bool {
		return r.Type == netstate.Unicast && !r.Gateway.IsValid() && !r.Default() && !r.Dst.Addr().IsLinkLocalUnicast()
	}
	list := b.main[u.Family]
	for i := range list {
		r := &list[i]
		if r.Link != u.Link || !subnet(r) || slices.Contains(shared, r.Dst) {
			continue
		}
		for k := range list {
			if o := &list[k]; o.Link != u.Link && o.Dst == r.Dst && subnet(o) {
				shared = append(shared, r.Dst)
				break
			}
		}
	}
	return shared
}

// throws keeps longest match across both tables where the path table is asked
// before main: what main knows better is thrown back to it. Where main's own
// rule is left out, because its default would end the lookup, all that is
// specific in main is thrown back, or containers would be sent to the gateway;
// likewise what is specific in a table behind main that has the link's default.
func (t *tableBuilder) throws() {
	if all := t.b.in.Config.Routing.MainFirst && t.b.errorDefault(t.u.Family); all || len(t.u.Shared) > 0 {
		t.throwMain(all)
	}
	if table := t.u.tables[len(t.u.tables)-1]; t.b.behindOurs(t.u.Family, table) {
		for _, r := range t.b.snap.Routes {
			if r.Table == table && r.Family == t.u.Family {
				t.throw(r)
			}
		}
	}
}

func (t *tableBuilder) throwMain(all bool) {
	var own []netip.Prefix
	for dst := range t.seen {
		if dst.Bits() > 0 && !dst.Addr().IsLinkLocalUnicast() {
			own = append(own, dst)
		}
	}
	for _, r := range t.b.main[t.u.Family] {
		if all || slices.ContainsFunc(own, func(p netip.Prefix) bool {
			return p.Bits() < r.Dst.Bits() && p.Contains(r.Dst.Addr())
		}) {
			t.throw(r)
		}
	}
}

// throw returns traffic to the destination of a specific route to the rules
// behind, unless the path table knows it itself.
func (t *tableBuilder) throw(r netstate.Route) {
	if r.Default() || r.TOS != 0 || t.thrown[r.Dst] || len(t.seen[r.Dst]) > 0 || len(t.thrown) == maxThrows {
		return
	}
	t.thrown[r.Dst] = true
	n := netstate.Route{Family: r.Family, Table: t.u.Table, Dst: r.Dst, Type: netstate.Throw, Protocol: t.b.in.Config.Routing.Protocol}
	if n.Family == netstate.IPv6 {
		n.Metric = syntheticMetric // what the kernel makes of none
	}
	t.routes = append(t.routes, Route{Route: n, Reason: tableName(r.Table) + " knows " + r.Dst.String() + " better"})
}

// errorDefault tells whether main's best default route is an error route, which
// suppress_prefixlength does not suppress.
func (b *builder) errorDefault(f netstate.Family) bool {
	best := b.bestDefault(f)
	return best != nil && best.Type.Error()
}

// bestDefault is main's default route for traffic of every kind, nil if it has
// none.
func (b *builder) bestDefault(f netstate.Family) *netstate.Route {
	var best *netstate.Route
	list := b.main[f]
	for i := range list {
		r := &list[i]
		if r.Default() && r.TOS == 0 && !r.SrcPrefix.IsValid() && !r.Expired() && (best == nil || r.Metric < best.Metric) {
			best = r
		}
	}
	return best
}

// reportForeign names routes of others in our table: they stay, and may
// override ours.
func (b *builder) reportForeign(u *uplink) {
	for i := range b.snap.Routes {
		r := &b.snap.Routes[i]
		if r.Table == u.Table && r.Family == u.Family && !b.in.Owned.OwnsRoute(b.in.Config.Routing.Protocol, *r) {
			b.find(Warning, "table-in-use", u.Name,
				"the path table "+strconv.FormatUint(uint64(u.Table), 10)+" holds a route that is not ours: "+r.Text(b.names),
				"remove the route, or set routing.table_base to a free range")
			return
		}
	}
}
