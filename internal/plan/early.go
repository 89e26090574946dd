package plan

import (
	"net/netip"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/netstate"
)

// Path4 is what the first IPv4 path of a link adds to a plan.
type Path4 struct {
	Link     int     // ifindex
	OnLink   Route   // to its subnet
	Way      Route   // the default route
	Rules    RuleSet // of its address
	Endpoint Endpoint
}

// Early finds the path that news bring to a link that had none, where it is
// nothing but new: an address with its subnet and its router, beside which
// nothing of the plan changes. Whatever else speaks in the matter, and be it
// only that it could, makes it nil, and Desired decides. What is found is part
// of what Desired wants of a snapshot with the news in it.
//
// now is the plan that in.Snapshot matches.
func Early(in Input, now *Plan, news []netstate.News) *Path4 {
	e := early{in: &in, now: now, news: news}
	if !e.hasWay() || !e.findLink() || !e.undisturbed() || !e.findAddr() || !e.findRoutes() || !e.unruled() || !e.hasRoom() {
		return nil
	}
	return e.path()
}

type early struct {
	in       *Input
	now      *Plan
	news     []netstate.News
	link     *netstate.Link
	settings config.LinkSettings
	addr     *netstate.Addr
	subnet   netip.Prefix // of the address
	onLink   *netstate.Route
	way      *netstate.Route
}

// hasWay tells whether a default route came. An address that has one before it
// comes is rare.
func (e *early) hasWay() bool {
	for i := len(e.news) - 1; i >= 0; i-- { // it comes last
		if r := e.news[i].Route; r != nil && r.Default() {
			return true
		}
	}
	return false
}

// findLink finds the one link that all news are about.
func (e *early) findLink() bool {
	index := e.news[0].Link()
	for _, n := range e.news {
		if n.Link() != index || n.Family() != netstate.IPv4 {
			return false
		}
	}
	for i := range e.in.Snapshot.Links {
		if l := &e.in.Snapshot.Links[i]; l.Index == index {
			e.link = l
			e.settings = e.in.Config.For(*l)
			return !l.Loopback() && l.Master == 0 && l.Up() && l.Carrier() && !l.Tunnel() &&
				e.in.Hold[index] == "" && e.plain()
		}
	}
	return false
}

// plain tells whether the configuration has the link connect, and no more.
func (e *early) plain() bool {
	s := &e.settings
	return (s.Uplink == nil || *s.Uplink) && s.Endpoints && !s.Fullmesh && s.Role.EndpointFlags() == netstate.SubflowFlag
}

// undisturbed tells whether nothing else of the plan concerns the link, or is
// concerned by an on-link prefix more.
func (e *early) undisturbed() bool {
	if e.now == nil || e.now.Guard != nil || len(e.now.Waning) > 0 {
		return false
	}
	if _, probed := e.in.Reach[netstate.LinkFamily{Link: e.link.Index, Family: netstate.IPv4}]; probed {
		return false
	}
	for i := range e.now.Paths {
		if p := &e.now.Paths[i]; p.Family == netstate.IPv4 && (p.Link == e.link.Index || len(p.Shared) > 0) {
			return false
		}
	}
	return true
}

// findAddr finds the only address of the link, which no other has.
func (e *early) findAddr() bool {
	for i := range e.in.Snapshot.Addrs {
		a := &e.in.Snapshot.Addrs[i]
		if a.Link == e.link.Index && a.IP().Is4() {
			if e.addr != nil {
				return false
			}
			e.addr = a
		}
	}
	for _, n := range e.news {
		if n.Addr == nil {
			continue
		}
		if e.addr != nil && (e.addr.Local != n.Addr.Local || e.addr.Peer != n.Addr.Peer) {
			return false
		}
		e.addr = n.Addr
	}
	if a := e.addr; a == nil || !a.Outward() || a.Peer.IsValid() {
		return false
	}
	for i := range e.in.Snapshot.Addrs {
		if a := &e.in.Snapshot.Addrs[i]; a.IP() == e.addr.IP() && a.Link != e.link.Index {
			return false
		}
	}
	return true
}

// findRoutes finds the two routes of the link in main, and that there are no
// more, and none of others in main that matters for them.
func (e *early) findRoutes() bool {
	e.subnet = e.addr.Local.Masked()
	for i := range e.in.Snapshot.Routes {
		if r := &e.in.Snapshot.Routes[i]; r.Family == netstate.IPv4 && !e.agrees(r) {
			return false
		}
	}
	for _, n := range e.news {
		if n.Route != nil && !e.agrees(n.Route) {
			return false
		}
	}
	return e.onLink != nil && e.way != nil && e.onLink.Dst.Contains(e.way.Gateway)
}

// agrees takes a route for one of the two, or tells whether it changes nothing.
func (e *early) agrees(r *netstate.Route) bool {
	switch {
	case r.Table == e.in.Config.Routing.TableBase+uint32(e.link.Index):
		return false // its path table is to be empty
	case r.Table != netstate.TableMain:
		return true
	case r.Link != e.link.Index:
		// In one subnet with another link it has to be thrown back to main.
		return r.Dst != e.subnet && r.PrefSrc != e.addr.IP() && (!r.Default() || e.ordinary(r))
	case r.Type != netstate.Unicast || r.TOS != 0 || r.Expired() || r.Encap || r.Multipath || r.NexthopID != 0 || r.SrcPrefix.IsValid():
		return false
	case r.PrefSrc.IsValid() && r.PrefSrc != e.addr.IP() || e.in.Owned.OwnsRoute(e.in.Config.Routing.Protocol, *r):
		return false
	case r.Default():
		return r.Gateway.Is4() && only(&e.way, r)
	}
	return r.Dst == e.subnet && !r.Gateway.IsValid() && only(&e.onLink, r)
}

// ordinary tells whether a default route of another link leaves the choice of the
// source to that link. From an error everything has to be thrown back to main,
// several gateways are main's to choose from, and a link without an address
// borrows one, which may be this.
func (e *early) ordinary(r *netstate.Route) bool {
	if r.Type != netstate.Unicast || r.Multipath || r.SrcPrefix.IsValid() {
		return false
	}
	for i := range e.in.Snapshot.Addrs {
		if a := &e.in.Snapshot.Addrs[i]; a.Link == r.Link && a.IP().Is4() && a.Outward() {
			return true
		}
	}
	return false
}

// only keeps a route in its place, and tells whether no other was there. One may
// be in the snapshot already of which the news tell.
func only(place **netstate.Route, r *netstate.Route) bool {
	if p := *place; p != nil && !p.Still(*r) {
		return false
	}
	*place = r
	return true
}

// unruled tells whether no rule speaks about the address, and the host's own
// addresses are looked up before ours. Nor may there be a doubt about which source
// unbound traffic has, as with a tunnel: main decides about that one.
func (e *early) unruled() bool {
	localFirst := false
	for i := range e.in.Snapshot.Rules {
		r := &e.in.Snapshot.Rules[i]
		switch {
		case r.Family != netstate.IPv4:
		case r.From.IsValid():
			if r.From.IsSingleIP() && r.From.Addr() == e.addr.IP() {
				return false
			}
		case r.Table == netstate.TableLocal && r.Action == netstate.ActLookup && r.Others == "":
			localFirst = localFirst || r.Priority <= e.in.Config.Routing.Priority
		}
	}
	_, doubt := e.in.Snapshot.Unbound[netstate.IPv4]
	return localFirst && !doubt
}

// hasRoom tells whether the endpoint has a slot and the limits are as they would
// have to be with it.
func (e *early) hasRoom() bool {
	s := e.in.Snapshot
	// Not the last one: a better path may be about to want it.
	if !s.MPTCP.Present || !e.in.Owned.Known || len(s.Endpoints)+1 >= s.MPTCP.Slots() {
		return false
	}
	var need uint32 = 1
	for _, o := range s.Endpoints {
		if o.Addr == e.addr.IP() {
			return false
		}
		need++
	}
	for _, w := range e.now.Endpoints {
		if w.Flags&netstate.FullmeshFlag != 0 {
			return false
		}
	}
	if e.in.Config.Limits.Mode != config.LimitsAuto {
		return true
	}
	most := s.MPTCP.HighestLimit()
	return s.Limits.Subflows >= min(max(minSubflows, need), most) && s.Limits.AddAddrAccepted >= min(minAddAddrAccepted, most)
}

// path is what the plan would say.
func (e *early) path() *Path4 {
	rt, name, ip := e.in.Config.Routing, e.link.Name, e.addr.IP()
	table := rt.TableBase + uint32(e.link.Index)
	route := func(r *netstate.Route, reason string) Route {
		return Route{Route: copied(r, table, e.link.Index, rt.Protocol), Reason: reason}
	}
	flags := netstate.SubflowFlag
	if isBackup(e.link, &e.settings) {
		flags |= netstate.BackupFlag
	}
	return &Path4{
		Link:   e.link.Index,
		OnLink: route(e.onLink, onLinkOn(name)),
		Way:    route(e.way, defaultOf(name, netstate.TableMain)),
		Rules:  RuleSet{Family: netstate.IPv4, Addr: ip, Link: e.link.Index, Rules: ruleSet(rt, ip, table, false), Reason: addressOf(ip, name)},
		Endpoint: Endpoint{
			Endpoint: netstate.Endpoint{Addr: ip, Link: e.link.Index, Flags: flags},
			Reason:   onlyAddressOf(name),
		},
	}
}
