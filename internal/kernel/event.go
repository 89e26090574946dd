package kernel

import (
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
)

// decoder turns notifications into hints: what kind of thing changed, and on
// which links. Their content is not believed; it is read again.
type decoder struct {
	options Options
	own     uint32 // port of the socket that applies our changes
	names   func() *netstate.Names
	busy    func() *linkSet
	main    *mainTable
}

// hint decodes one notification; ok is false for what changes nothing that is
// read, and for the echo of our own changes.
func (d *decoder) hint(h header, b []byte) (hints netstate.Hints, ok bool) {
	if h.pid == d.own && d.own != 0 {
		return hints, false
	}
	switch h.typ {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return d.link(h.typ, b)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return d.addr(h.typ, b)
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return d.route(h, b)
	case unix.RTM_NEWRULE, unix.RTM_DELRULE:
		r, ok := decodeRule(b)
		return netstate.Hints{Kinds: netstate.KindRules, Family: r.Family, Reason: "rule " + verb(h.typ == unix.RTM_DELRULE) + ": " + r.Text()}, ok
	case unix.RTM_NEWNEXTHOP, unix.RTM_DELNEXTHOP:
		// Its IPv4 routes go with a nexthop object, and no route event is sent.
		d.main.touch(0)
		d.main.flushes.Store(true)
		return netstate.Hints{Kinds: netstate.KindRoutes, Reason: "nexthop " + verb(h.typ == unix.RTM_DELNEXTHOP)}, true
	}
	return hints, false
}

func verb(removed bool) string {
	if removed {
		return "removed"
	}
	return "added"
}

// idle tells whether nothing depends on any of the links, as was last read.
func (d *decoder) idle(links map[int]struct{}) bool {
	busy := *d.busy()
	for i := range links {
		if _, ok := busy[i]; ok {
			return false
		}
	}
	return true
}

func only(link int) map[int]struct{} { return map[int]struct{}{link: {}} }

func (d *decoder) link(typ uint16, b []byte) (netstate.Hints, bool) {
	if len(b) < ifinfoLen {
		return netstate.Hints{}, false
	}
	// Wireless extensions report every scan this way (net/wireless/wext-core.c).
	h := nl.DeserializeIfInfomsg(b)
	if find(attrsAfter(b, ifinfoLen), unix.IFLA_WIRELESS) != nil && h.Change == 0 {
		return netstate.Hints{}, false
	}
	index, flags := int(h.Index), h.Flags
	name := text(find(attrsAfter(b, ifinfoLen), unix.IFLA_IFNAME))
	if name == "" {
		name = d.names().Name(index)
	}
	state := "up"
	switch {
	case typ == unix.RTM_DELLINK:
		state = "removed"
	case flags&netstate.FlagUp == 0:
		state = "down"
	case flags&netstate.FlagLowerUp == 0:
		state = "no carrier"
	}
	d.main.touch(0)
	d.main.flushes.Store(true)
	return netstate.Hints{
		Kinds: netstate.KindLinks | netstate.KindAddrs | netstate.KindRoutes, Links: only(index), Lazy: d.idle(only(index)),
		Reason: "link " + name + " changed: " + state,
	}, index > 0
}

func (d *decoder) addr(typ uint16, b []byte) (netstate.Hints, bool) {
	a, ok := decodeAddr(b)
	if !ok {
		return netstate.Hints{}, false
	}
	kinds, what := netstate.KindAddrs, " added on "
	if typ == unix.RTM_DELADDR {
		// The last address of a link takes its IPv4 routes along, in every table,
		// and no route event is sent.
		kinds |= netstate.KindRoutes
		what = " removed from "
		if !a.IP().Is4() || !d.main.patches.lose(a.Link, a.IP()) {
			d.main.touch(a.Family())
		}
		d.main.flushes.Store(true)
	}
	return netstate.Hints{
		Kinds: kinds, Links: only(a.Link), Family: a.Family(), Added: typ == unix.RTM_NEWADDR, Lazy: a.IP().IsLinkLocalUnicast() && d.idle(only(a.Link)),
		Reason: "address " + a.IP().String() + what + d.names().Name(a.Link),
	}, true
}

func (d *decoder) route(h header, b []byte) (netstate.Hints, bool) {
	if len(b) < rtmsgLen || nl.DeserializeRtMsg(b).Flags&unix.RTM_F_CLONED != 0 {
		return netstate.Hints{}, false
	}
	r, multipath, ok := decodeRoute(b)
	if !ok || r.Table == netstate.TableLocal {
		return netstate.Hints{}, false
	}
	links := map[int]struct{}{}
	if r.Link > 0 {
		links[r.Link] = struct{}{}
	}
	for _, hop := range appendNexthops(nil, netstate.Route{}, multipath) {
		if hop.Link > 0 {
			links[hop.Link] = struct{}{}
		}
	}
	// Whatever lies in a path table concerns the link whose table it is.
	if path := int64(r.Table) - int64(d.options.TableBase); path > 0 && path < 1<<31 {
		links[int(path)] = struct{}{}
	} else if !d.main.patches.note(h, r, multipath != nil) {
		d.main.touch(r.Family)
	}
	if slices.Contains(d.options.protocols(), r.Protocol) {
		d.main.stray(tableID{r.Family, r.Table})
	}
	if len(links) == 0 {
		links = nil // an error route: any link
	}
	return netstate.Hints{
		Kinds: netstate.KindRoutes, Links: links, Family: r.Family,
		Added: h.typ == unix.RTM_NEWROUTE && r.Table == netstate.TableMain, Lazy: links != nil && linkLocal(r) && d.idle(links),
		Reason: "route " + verb(h.typ == unix.RTM_DELROUTE) + ": " + describeRoute(r, *d.names()),
	}, true
}

// describeRoute is short: attributes beyond the gateway are no reason.
func describeRoute(r netstate.Route, n netstate.Names) string {
	r.MTU, r.AdvMSS, r.InitCwnd, r.Metrics, r.PrefSrc, r.Pref = 0, 0, 0, "", netip.Addr{}, 0
	return r.Text(n)
}
