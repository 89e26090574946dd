package kerneltest

import (
	"net/netip"
	"slices"

	"github.com/subflowd/subflowd/internal/netstate"
)

// Update changes the state by hand and sends no event.
func (f *Fake) Update(change func(s *netstate.Snapshot)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.now)
	f.sortRules()
}

func on(link int, kinds netstate.Kinds, reason string) netstate.Hints {
	return netstate.Hints{Kinds: kinds, Links: map[int]struct{}{link: {}}, Reason: reason}
}

func (f *Fake) name(link int) string { return f.now.Names().Name(link) }

// SetLink adds a link, or changes the one with the same index, with an event.
func (f *Fake) SetLink(l netstate.Link) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.now.Links, func(o netstate.Link) bool { return o.Index >= l.Index })
	switch {
	case i >= 0 && f.now.Links[i].Index == l.Index:
		f.now.Links[i] = l
	case i >= 0:
		f.now.Links = slices.Insert(f.now.Links, i, l)
	default:
		f.now.Links = append(f.now.Links, l)
	}
	f.emit(on(l.Index, netstate.KindLinks, "link changed: "+l.Name))
}

func (f *Fake) alter(link int, change func(l *netstate.Link)) {
	for i := range f.now.Links {
		if f.now.Links[i].Index == link {
			change(&f.now.Links[i])
		}
	}
}

// operUp and operDown are IF_OPER_ numbers (linux/if.h).
const (
	operDown = 2
	operUp   = 6
)

// Carrier plugs the cable in or pulls it. Routes stay and are marked; no route
// event is sent.
func (f *Fake) Carrier(link int, up bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.alter(link, func(l *netstate.Link) {
		if up {
			l.Flags |= netstate.FlagLowerUp
			l.OperState = operUp
		} else {
			l.Flags &^= netstate.FlagLowerUp
			l.OperState = operDown
		}
	})
	for i := range f.now.Routes {
		if f.now.Routes[i].Link == link {
			f.now.Routes[i].LinkDown = !up
		}
	}
	f.emit(on(link, netstate.KindLinks, "link changed: "+f.name(link)))
}

// LinkDown is `ip link set LINK down`: the link's IPv4 routes vanish from every
// table with no event of their own, its IPv6 addresses and routes with one.
func (f *Fake) LinkDown(link int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.alter(link, func(l *netstate.Link) {
		l.Flags &^= netstate.FlagUp | netstate.FlagLowerUp
		l.OperState = operDown
	})
	f.dropLink(link)
	f.emit(on(link, netstate.KindLinks, "link down: "+f.name(link)))
}

func (f *Fake) dropLink(link int) {
	f.flush(link, netstate.IPv4, nil)
	f.flush(link, netstate.IPv6, nil)
	f.now.Addrs = slices.DeleteFunc(f.now.Addrs, func(a netstate.Addr) bool {
		return a.Link == link && a.Family() == netstate.IPv6
	})
}

// LinkUp is `ip link set LINK up`, with carrier: only connected routes of the
// addresses that are left come back.
func (f *Fake) LinkUp(link int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.alter(link, func(l *netstate.Link) {
		l.Flags |= netstate.FlagUp | netstate.FlagLowerUp
		l.OperState = operUp
	})
	for _, a := range f.now.Addrs {
		if a.Link == link {
			f.addConnected(a)
		}
	}
	f.emit(on(link, netstate.KindLinks|netstate.KindRoutes, "link up: "+f.name(link)))
}

// DelLink removes a link with everything on it. Endpoints stay.
func (f *Fake) DelLink(link int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := f.name(link)
	f.dropLink(link)
	f.now.Addrs = slices.DeleteFunc(f.now.Addrs, func(a netstate.Addr) bool { return a.Link == link })
	f.now.Links = slices.DeleteFunc(f.now.Links, func(l netstate.Link) bool { return l.Index == link })
	f.emit(on(link, netstate.KindLinks, "link removed: "+name))
}

// AddAddr adds an address with its connected route, or changes its flags.
func (f *Fake) AddAddr(a netstate.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	same := func(o netstate.Addr) bool { return o.Link == a.Link && o.Local == a.Local }
	if i := slices.IndexFunc(f.now.Addrs, same); i >= 0 {
		f.now.Addrs[i] = a
	} else {
		f.now.Addrs = append(f.now.Addrs, a)
	}
	f.emit(told(netstate.KindAddrs, netstate.News{Addr: &a}))
	if r, ok := f.addConnected(a); ok {
		f.emit(told(netstate.KindRoutes, netstate.News{Route: &r}))
	}
}

// told is the hint of an event that says all.
func told(kind netstate.Kinds, n netstate.News) netstate.Hints {
	return netstate.Hints{
		Kinds: kind, Links: map[int]struct{}{n.Link(): {}}, Family: n.Family(), Added: true, Told: true, News: []netstate.News{n},
	}
}

func (f *Fake) addConnected(a netstate.Addr) (netstate.Route, bool) {
	r := connected(a)
	if r.Dst.IsSingleIP() || slices.ContainsFunc(f.now.Routes, func(o netstate.Route) bool {
		return sameKey(o, r) && o.Link == r.Link
	}) {
		return r, false
	}
	f.now.Routes = append(f.now.Routes, r)
	return r, true
}

// Lease is what a DHCP client does: an address and a default route at once.
func (f *Fake) Lease(a netstate.Addr, r netstate.Route) error {
	f.hold(true)
	defer f.hold(false)
	f.AddAddr(a)
	return f.AddRoute(r)
}

// DelAddr removes an address. With the last IPv4 address of a link all IPv4
// routes by it vanish from every table with no event of their own.
func (f *Fake) DelAddr(link int, ip netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	family := netstate.FamilyOf(ip)
	var gone []netstate.Addr
	left := map[netip.Prefix]bool{}
	f.now.Addrs = slices.DeleteFunc(f.now.Addrs, func(a netstate.Addr) bool {
		if a.Link != link || a.Family() != family {
			return false
		}
		if a.IP() != ip {
			left[connected(a).Dst] = true
			return false
		}
		gone = append(gone, a)
		return true
	})
	if len(left) == 0 && family == netstate.IPv4 {
		f.flush(link, family, nil)
	}
	for _, a := range gone {
		if r := connected(a); !left[r.Dst] {
			f.now.Routes = slices.DeleteFunc(f.now.Routes, func(o netstate.Route) bool {
				return sameKey(o, r) && o.Link == link && o.Protocol == netstate.ProtoKernel
			})
		}
	}
	f.emit(on(link, netstate.KindAddrs, "address removed from "+f.name(link)))
}

// AddRoute adds a route as somebody else would, with an event.
func (f *Fake) AddRoute(r netstate.Route) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.addRoute(r, false)
	switch {
	case err == nil && r.Table == netstate.TableMain && r.Link > 0 && !r.Multipath && r.NexthopID == 0:
		f.emit(told(netstate.KindRoutes, netstate.News{Route: &r}))
	case err == nil:
		f.emit(on(r.Link, netstate.KindRoutes, "route added: "+r.Text(f.now.Names())))
	}
	return err
}

// DelRoute removes a route as somebody else would, with an event.
func (f *Fake) DelRoute(r netstate.Route) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = f.deleteRoute(r)
	f.emit(on(r.Link, netstate.KindRoutes, "route removed: "+r.Text(f.now.Names())))
}

// AddRule adds a rule as somebody else would, with an event.
func (f *Fake) AddRule(r netstate.Rule) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.appendRule(r)
	f.emit(netstate.Hints{Kinds: netstate.KindRules, Reason: "rule added: " + r.Text()})
	return err
}

// DelRule removes the first rule that matches, with an event.
func (f *Fake) DelRule(r netstate.Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = f.deleteRule(r)
	f.emit(netstate.Hints{Kinds: netstate.KindRules, Reason: "rule removed: " + r.Text()})
}

// AddEndpoint adds an endpoint as somebody else would. No event is ever sent for
// what is done to the path manager.
func (f *Fake) AddEndpoint(e netstate.Endpoint) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.addEndpoint(e)
}

// DelEndpoint removes the endpoint with an address; see AddEndpoint.
func (f *Fake) DelEndpoint(ip netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range slices.Clone(f.now.Endpoints) {
		if e.Addr == ip {
			_ = f.deleteEndpoint(e)
		}
	}
}

// SetLimits sets the limits; see AddEndpoint.
func (f *Fake) SetLimits(l netstate.Limits) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.setLimits(l)
}
