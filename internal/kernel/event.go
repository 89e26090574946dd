package kernel

import (
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
)

// decoder turns notifications into hints: what kind of thing changed, and on
// which links. Their content is passed on where it adds something, and is read
// again whatever it says.
type decoder struct {
	options Options
	names   func() *netstate.Names
	busy    func() *linkSet
	main    *mainTable
	ours    []uint8          // protocols of the options, once they were needed
	last    map[int]struct{} // see only
}

// hint decodes one notification; ok is false for what changes nothing that is
// read. The echoes of our own changes do not come here (eventFilter).
func (d *decoder) hint(h header, b []byte) (hints netstate.Hints, ok bool) {
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

// only is one link, as a map that nobody changes: events come in rows about one.
func (d *decoder) only(link int) map[int]struct{} {
	if _, ok := d.last[link]; !ok {
		d.last = map[int]struct{}{link: {}}
	}
	return d.last
}

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
		Kinds: netstate.KindLinks | netstate.KindAddrs | netstate.KindRoutes, Links: d.only(index), Lazy: d.idle(d.only(index)),
		Reason: "link " + name + " changed: " + state,
	}, index > 0
}

func (d *decoder) addr(typ uint16, b []byte) (netstate.Hints, bool) {
	a, ok := decodeAddr(b)
	if !ok {
		return netstate.Hints{}, false
	}
	hints := netstate.Hints{
		Kinds: netstate.KindAddrs, Links: d.only(a.Link), Family: a.Family(), Lazy: a.IP().IsLinkLocalUnicast() && d.idle(d.only(a.Link)),
	}
	if typ == unix.RTM_NEWADDR {
		told := a // a copy, so that what is not told allocates nothing
		hints.Added, hints.Told, hints.News = true, true, []netstate.News{{Addr: &told}}
		return hints, true
	}
	// The last address of a link takes its IPv4 routes along, in every table,
	// and no route event is sent.
	hints.Kinds |= netstate.KindRoutes
	if !a.IP().Is4() || !d.main.patches.lose(a.Link, a.IP()) {
		d.main.touch(a.Family())
	}
	d.main.flushes.Store(true)
	hints.Reason = "address " + a.IP().String() + " removed from " + d.names().Name(a.Link)
	return hints, true
}

func (d *decoder) route(h header, b []byte) (netstate.Hints, bool) {
	if len(b) < rtmsgLen || nl.DeserializeRtMsg(b).Flags&unix.RTM_F_CLONED != 0 {
		return netstate.Hints{}, false
	}
	r, multipath, ok := decodeRoute(b)
	if !ok || r.Table == netstate.TableLocal {
		return netstate.Hints{}, false
	}
	// Whatever lies in a path table concerns the link whose table it is.
	path := int64(r.Table) - int64(d.options.TableBase)
	inPath := path > 0 && path < 1<<31
	if !inPath && !d.main.patches.note(h, r, multipath != nil) {
		d.main.touch(r.Family)
	}
	if d.ours == nil {
		d.ours = d.options.protocols()
	}
	if slices.Contains(d.ours, r.Protocol) {
		d.main.stray(tableID{r.Family, r.Table})
	}
	hints := netstate.Hints{Kinds: netstate.KindRoutes, Family: r.Family, Added: h.typ == unix.RTM_NEWROUTE && r.Table == netstate.TableMain}
	switch {
	case r.Link > 0 && !inPath && multipath == nil:
		hints.Links = d.only(r.Link)
	default:
		hints.Links = linksOf(r, multipath)
		if inPath {
			hints.Links[int(path)] = struct{}{}
		}
		if len(hints.Links) == 0 {
			hints.Links = nil // an error route: any link
		}
	}
	hints.Lazy = hints.Links != nil && linkLocal(r) && d.idle(hints.Links)
	// What a replacement took the place of, no event says.
	if hints.Added && multipath == nil && r.NexthopID == 0 && r.Link > 0 && h.flags&unix.NLM_F_REPLACE == 0 {
		told := r // as above
		hints.Told, hints.News = true, []netstate.News{{Route: &told}}
	} else {
		hints.Reason = "route " + verb(h.typ == unix.RTM_DELROUTE) + ": " + r.Brief(*d.names())
	}
	return hints, true
}

// linksOf are the links by which a route leads.
func linksOf(r netstate.Route, multipath []byte) map[int]struct{} {
	links := map[int]struct{}{}
	if r.Link > 0 {
		links[r.Link] = struct{}{}
	}
	for _, hop := range appendNexthops(nil, netstate.Route{}, multipath) {
		if hop.Link > 0 {
			links[hop.Link] = struct{}{}
		}
	}
	return links
}
