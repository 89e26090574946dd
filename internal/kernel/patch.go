package kernel

import (
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
)

// maxPatches is how many events of a large table are taken one by one; more of
// them are a reason to walk it.
const maxPatches = 256

// patches are the events of tables with more than manyRoutes routes. A walk of a
// million takes the kernel 0.1 s, in which nothing is decided: what such a
// table's events say is believed until it is walked, soon after.
type patches struct {
	mu    sync.Mutex
	large map[tableID]struct{}
	list  map[tableID][]patch
	n     int
}

// patch is an event of a route, or of an IPv4 address that was removed.
type patch struct {
	route   netstate.Route
	removed bool
	link    int // of the address
	lost    netip.Addr
}

// note takes an event of a route outside the path tables, and tells whether that
// is enough: the table is large, and the event says all. One that replaces does
// not say what.
func (p *patches) note(h header, r netstate.Route, multipath bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := tableID{r.Family, r.Table}
	if _, large := p.large[id]; !large || multipath || r.NexthopID != 0 || h.flags&unix.NLM_F_REPLACE != 0 || p.n == maxPatches {
		return false
	}
	p.add(id, patch{route: r, removed: h.typ == unix.RTM_DELROUTE})
	return true
}

func (p *patches) add(id tableID, x patch) {
	if p.list == nil {
		p.list = map[tableID][]patch{}
	}
	p.list[id] = append(p.list[id], x)
	p.n++
}

// lose notes that an IPv4 address was removed, and tells whether a table is large.
func (p *patches) lose(link int, addr netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.large) == 0 || p.n+len(p.large) > maxPatches {
		return false
	}
	for id := range p.large {
		p.add(id, patch{link: link, lost: addr})
	}
	return true
}

// take gives what was noted since the last call.
func (p *patches) take() map[tableID][]patch {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.list
	p.list, p.n = nil, 0
	return list
}

// setLarge says which tables are large, by how many routes they had when they were walked.
func (p *patches) setLarge(seen map[tableID]int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(seen) == 0 && len(p.large) == 0 {
		return
	}
	p.large = map[tableID]struct{}{}
	for id, n := range seen {
		if n > manyRoutes {
			p.large[id] = struct{}{}
		}
	}
}

// patched applies events to what is known of a table; ok is false where it has to
// be walked. An event may be older than that: applied once more it changes
// nothing in the end, because those after it follow.
func (k *Kernel) patched(family netstate.Family, routes []netstate.Route, list []patch) (_ []netstate.Route, ok bool) {
	routes = slices.Clone(routes)
	for _, p := range list {
		if p.lost.IsValid() {
			if routes, ok = k.flushed(family, routes, p); !ok {
				return nil, false
			}
			continue
		}
		routes = slices.DeleteFunc(routes, p.route.Still)
		if p.removed {
			continue
		}
		// Where the kernel lists it: behind those of the same destination that count more.
		at := slices.IndexFunc(routes, func(r netstate.Route) bool { return r.Dst == p.route.Dst && r.Metric > p.route.Metric })
		if at < 0 {
			at = len(routes)
		}
		routes = slices.Insert(routes, at, p.route)
	}
	return routes, true
}

// flushed is without what the kernel removes with an address and tells in no
// event: the routes that have it as source (fib_sync_down_addr), and with the
// last address of a link all that lead there (fib_disable_ip). Where it is not
// sure that the address was the last one, or what became of a route with several
// nexthops, ok is false.
func (k *Kernel) flushed(family netstate.Family, routes []netstate.Route, p patch) (_ []netstate.Route, ok bool) {
	if family != netstate.IPv4 {
		return routes, true
	}
	last := true
	for _, a := range k.addrs {
		if a.Link != p.link || !a.IP().Is4() {
			continue
		}
		if last = false; a.IP() == p.lost || !slices.ContainsFunc(k.before, func(b netstate.Addr) bool { return b.Link == a.Link && b.IP() == a.IP() }) {
			return nil, false
		}
	}
	several := func(r netstate.Route) bool {
		return (r.Multipath || r.NexthopID != 0) && (r.Link == p.link || r.Link == 0)
	}
	if slices.ContainsFunc(routes, several) {
		return nil, false
	}
	return slices.DeleteFunc(routes, func(r netstate.Route) bool {
		return r.PrefSrc == p.lost || last && r.Link == p.link
	}), true
}
