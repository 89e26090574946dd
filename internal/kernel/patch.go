package kernel

import (
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

type patch struct {
	route   netstate.Route
	removed bool
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
	if p.list == nil {
		p.list = map[tableID][]patch{}
	}
	p.list[id] = append(p.list[id], patch{r, h.typ == unix.RTM_DELROUTE})
	p.n++
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
	p.large = map[tableID]struct{}{}
	for id, n := range seen {
		if n > manyRoutes {
			p.large[id] = struct{}{}
		}
	}
}

// patched applies events to what is known of a table. An event may be older than
// that: applied once more it changes nothing in the end, because those after it
// follow.
func patched(routes []netstate.Route, list []patch) []netstate.Route {
	routes = slices.Clone(routes)
	for _, p := range list {
		routes = slices.DeleteFunc(routes, func(r netstate.Route) bool {
			r.ExpiresIn, r.LinkDown = p.route.ExpiresIn, p.route.LinkDown
			return r == p.route
		})
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
	return routes
}
