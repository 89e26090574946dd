package lease

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/subflowd/subflowd/internal/netstate"
)

// looks are the pauses, from the moment at which a link is first seen with an
// address and without a gateway, after which the files are looked at again.
// dhclient writes its lease when its script has ended, hooks included: 10 ms
// after the address on an idle machine with Debian's script, seconds where a
// hook is slow.
var looks = [...]time.Duration{50 * time.Millisecond, 250 * time.Millisecond, time.Second, 5 * time.Second}

// fresh is how old a file has to be before its time tells whether it has been
// written to since it was read, and before a lease that it lacks is gone:
// dhclient empties its file now and then to write it anew.
const fresh = 2 * time.Second

// Reader finds gateways in the files of DHCP clients. What has not changed is
// not read again. The zero value reads those of the host.
type Reader struct {
	// Root is the directory in which /run and /var are; empty: "/".
	Root string
	// Again is called, from a goroutine of its own, when a link without a
	// gateway is to be looked at again; nil: that is left to the caller. Set it
	// before the first call.
	Again func()

	mu      sync.Mutex
	files   files
	found   map[netstate.LinkFamily]found
	gateway map[netstate.LinkFamily]netip.Addr // of found; replaced, never changed
	waiting map[address4]time.Time             // since when
	timer   *time.Timer
}

// found is a gateway, the address that it was given with, and the file.
type found struct {
	gateway, addr netip.Addr
	source        string
}

type address4 struct {
	link int
	ip   netip.Addr
}

// Find returns the gateways of those links that have no IPv4 default route in
// main, as Gateways does.
func (r *Reader) Find(links []netstate.Link, addrs []netstate.Addr, routes []netstate.Route) map[netstate.LinkFamily]netip.Addr {
	var list []netstate.Link
	last := 0
	for i := range addrs { // sorted by link
		a := &addrs[i]
		if a.Link == last || !counts(a) {
			continue
		}
		last = a.Link
		at, ok := slices.BinarySearchFunc(links, a.Link, func(l netstate.Link, index int) int { return l.Index - index })
		if ok {
			list = append(list, links[at])
		}
	}
	return r.Gateways(WithoutDefault(list, routes), addrs, time.Now())
}

// WithoutDefault returns the links that no IPv4 default route of main uses.
func WithoutDefault(links []netstate.Link, routes []netstate.Route) []netstate.Link {
	has := map[int]bool{}
	for i := range routes {
		r := &routes[i]
		if r.Family == netstate.IPv4 && r.Table == netstate.TableMain && r.Type == netstate.Unicast && r.Default() {
			has[r.Link] = true
		}
	}
	var list []netstate.Link
	for _, l := range links {
		if !has[l.Index] {
			list = append(list, l)
		}
	}
	return list
}

// Gateways returns, for each of the links that has a lease for one of its usable
// addresses, the router that the lease names; all of them are IPv4. addrs are
// the addresses of all links of the host. Files that are absent, unreadable,
// torn or about something else say nothing. The map is not changed later.
func (r *Reader) Gateways(links []netstate.Link, addrs []netstate.Addr, now time.Time) map[netstate.LinkFamily]netip.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(links) == 0 && len(r.found) == 0 && len(r.waiting) == 0 {
		return r.gateway
	}
	before, waited := r.found, r.waiting
	r.found, r.waiting = map[netstate.LinkFamily]found{}, map[address4]time.Time{}
	r.files.begin(r.Root)
	candidates := byLink(addrs)
	for _, l := range links {
		own := candidates[l.Index]
		if len(own) == 0 || !l.Up() || l.Loopback() || l.Master != 0 {
			continue
		}
		key := netstate.LinkFamily{Link: l.Index, Family: netstate.IPv4}
		f, recent := r.search(l, own, addrs, now)
		settled := f.gateway.IsValid()
		if old := before[key]; !settled && recent && has(own, old.addr) {
			f = old // the file is being written
		}
		if f.gateway.IsValid() {
			r.found[key] = f
		}
		if settled {
			continue
		}
		for _, a := range own {
			k := address4{l.Index, a.IP()}
			since, ok := waited[k]
			if !ok {
				since = now
			}
			r.waiting[k] = since
		}
	}
	r.files.end()
	r.lookAgain(now)
	r.publish()
	return r.gateway
}

// publish keeps the map when nothing in it changed.
func (r *Reader) publish() {
	var gateways map[netstate.LinkFamily]netip.Addr
	for key, f := range r.found {
		if gateways == nil {
			gateways = map[netstate.LinkFamily]netip.Addr{}
		}
		gateways[key] = f.gateway
	}
	if !maps.Equal(gateways, r.gateway) {
		r.gateway = gateways
	}
}

// Sources names, for each gateway that the last call found, the client and the
// file that name it: "dhclient, /var/lib/dhcp/dhclient.leases". It may be
// called at any time.
func (r *Reader) Sources() map[netstate.LinkFamily]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	sources := make(map[netstate.LinkFamily]string, len(r.found))
	for key, f := range r.found {
		sources[key] = f.source
	}
	return sources
}

// byLink groups the usable global IPv4 addresses. Hosts of containers have
// thousands of links, and link-local addresses on all of them.
func byLink(addrs []netstate.Addr) map[int][]netstate.Addr {
	m := map[int][]netstate.Addr{}
	for i := range addrs {
		if a := &addrs[i]; counts(a) {
			m[a.Link] = append(m[a.Link], *a)
		}
	}
	return m
}

// counts tells whether a lease could have brought the address.
func counts(a *netstate.Addr) bool {
	return a.Family() == netstate.IPv4 && a.Usable() && netstate.Routable(a.IP())
}

// search asks the clients in turn. recent tells whether a file that may be about
// the link was written just now.
func (r *Reader) search(l netstate.Link, own, all []netstate.Addr, now time.Time) (f found, recent bool) {
	for i := range clients {
		c := &clients[i]
		for _, file := range r.files.of(c, l, now) {
			recent = recent || file.fresh
			if gw, addr := choose(file.leases, own, all, now); gw.IsValid() {
				return found{gw, addr, c.name + ", " + file.path}, recent
			}
		}
	}
	return found{}, recent
}

// lookAgain sets the timer to the next look at a link that has no gateway.
func (r *Reader) lookAgain(now time.Time) {
	if r.Again == nil {
		return
	}
	var next time.Time
	for _, since := range r.waiting {
		for _, pause := range looks {
			if at := since.Add(pause); at.After(now) && (next.IsZero() || at.Before(next)) {
				next = at
			}
		}
	}
	if r.timer != nil {
		r.timer.Stop()
		r.timer = nil
	}
	if !next.IsZero() {
		r.timer = time.AfterFunc(next.Sub(now), r.Again)
	}
}
