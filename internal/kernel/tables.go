package kernel

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
)

type tableID struct {
	family netstate.Family
	table  uint32
}

// manyRoutes is from how many routes on a table is walked only when something
// in it may have changed: 1,000,000 routes of a routing protocol take 0.1 s.
const manyRoutes = 5000

// mainTable remembers what makes it needless to walk a full table for a change
// that cannot have touched it. The watcher writes touched and watched.
type mainTable struct {
	watched atomic.Bool    // a subscription stands: an untouched table is unchanged
	touched [2]atomic.Bool // by family: an event came that may mean a change outside the path tables
	flushes atomic.Bool    // an event came that is sent before the routes that go with it do
	seen    map[tableID]int
	patches patches
	unsure  bool // patches were applied since the last walk

	mu     sync.Mutex
	strays map[tableID]struct{} // tables in which an event showed a route of ours
}

func (m *mainTable) init() { m.seen = map[tableID]int{} }

// touch notes a change that may lie in any table of a family, or of both for 0.
func (m *mainTable) touch(family netstate.Family) {
	for i, f := range netstate.Families {
		if family == 0 || family == f {
			m.touched[i].Store(true)
		}
	}
}

// takeTouched tells for each family that the hints have read whether its tables
// may have changed, and takes that for read. What the hints leave out stays
// noted for those that come with the event.
func (m *mainTable) takeTouched(h netstate.Hints) touchedFamilies {
	unsure := !m.watched.Load() || h.Full || h.Walk
	var t touchedFamilies
	for i, f := range netstate.Families {
		if readsRoutes(h, f) {
			t[i] = m.touched[i].Swap(false) || unsure
		}
	}
	return t
}

// touchedFamilies is in the order of netstate.Families.
type touchedFamilies [2]bool

func (t touchedFamilies) has(f netstate.Family) bool { return t[slices.Index(netstate.Families[:], f)] }

// readsRoutes tells whether the hints are about routes of a family, or about
// what routes depend on.
func readsRoutes(h netstate.Hints, f netstate.Family) bool {
	return h.Kinds&^(netstate.KindRules|netstate.KindEndpoints) != 0 && (h.Family == 0 || h.Family == f)
}

// stray notes a table in which there may be routes of ours though neither a
// rule nor a link leads to it.
func (m *mainTable) stray(id tableID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.strays == nil {
		m.strays = map[tableID]struct{}{}
	}
	m.strays[id] = struct{}{}
}

// takeStrays gives what stray has noted since the last call.
func (m *mainTable) takeStrays() map[tableID]struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	ids := m.strays
	m.strays = nil
	return ids
}

// awaitFlush waits for the end of a change that was announced before it was
// complete: RTM_DELADDR, a link's going down and RTM_DELNEXTHOP are sent first,
// IPv4 routes are flushed without a word after it (__inet_del_ifa,
// __dev_notify_flags, remove_nexthop), and dumps of addresses and routes take no
// lock that would keep them from reading in between. Reading one link takes the
// lock (rtnl) that the change holds to its end.
func (k *Kernel) awaitFlush(full bool) error {
	if !k.main.flushes.Swap(false) && !full {
		return nil
	}
	_, _, err := k.readLink(1)
	if err != nil {
		k.main.flushes.Store(true)
	}
	return err
}

// readRoutes reads the tables that matter again, as far as the hints lead.
func (k *Kernel) readRoutes(h netstate.Hints) error {
	touched := k.main.takeTouched(h)
	strays := k.main.takeStrays()
	if err := k.readTables(h, touched, strays); err != nil {
		k.main.touch(0)
		for id := range strays {
			k.main.stray(id)
		}
		return err
	}
	total := 0
	for _, t := range k.tables {
		total += len(t)
	}
	ids := make([]tableID, 0, len(k.tables))
	for id := range k.tables {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b tableID) int {
		if a.family != b.family {
			return int(a.family) - int(b.family)
		}
		return int(int64(a.table) - int64(b.table))
	})
	k.routes = make([]netstate.Route, 0, total)
	for _, id := range ids {
		k.routes = append(k.routes, k.tables[id]...)
	}
	return nil
}

func (k *Kernel) readTables(h netstate.Hints, touched touchedFamilies, strays map[tableID]struct{}) error {
	wanted := k.wantedTables()
	tables := make(map[tableID][]netstate.Route, len(wanted))
	keep := k.keeper()
	events := k.main.patches.take()
	for id, path := range wanted {
		old, known := k.tables[id]
		if _, partly := k.stale[id]; partly {
			known = false
		}
		_, named := h.Links[path]
		again := readsRoutes(h, id.family) && (id.table == netstate.TableMain ||
			(!h.Added || revives(old)) && (path == 0 || h.Links == nil || named || dependsOn(old, path, h.Links)))
		if known && (!again || k.main.seen[id] > manyRoutes && !touched.has(id.family)) {
			list := events[id]
			if len(list) == 0 {
				tables[id] = old
				continue
			}
			if routes, ok := k.patched(id.family, old, list); ok {
				tables[id], k.main.unsure = routes, true
				continue
			}
		}
		routes, err := k.readTable(id, keep)
		if err != nil {
			return err
		}
		tables[id] = routes
	}
	if err := k.readStale(h.Full, wanted, strays, tables, keep); err != nil {
		return err
	}
	k.main.unsure = k.main.unsure && !h.Walk && !h.Full
	k.stale = map[tableID]struct{}{}
	for id := range tables {
		if _, ok := wanted[id]; !ok {
			k.stale[id] = struct{}{}
		}
	}
	k.replaceTables(tables)
	return nil
}

// revives tells whether an address that came may have changed a table: the first
// one of a link brings IPv4 nexthops back to life that were dead, and no event
// tells of it (fib_sync_up, net/ipv4/fib_semantics.c).
func revives(routes []netstate.Route) bool {
	return slices.ContainsFunc(routes, func(r netstate.Route) bool { return r.LinkDown || r.Multipath || r.NexthopID != 0 })
}

// dependsOn tells whether a change on the links may have touched the table of
// another one: the IPv4 routes by a link, and those whose source is an address of
// it, vanish from every table without an event.
func dependsOn(routes []netstate.Route, path int, links map[int]struct{}) bool {
	return slices.ContainsFunc(routes, func(r netstate.Route) bool {
		if r.Link == path || r.Link == 0 {
			return r.PrefSrc.IsValid()
		}
		_, named := links[r.Link]
		return named || r.PrefSrc.IsValid()
	})
}

// readStale adds the tables with routes of ours that nothing else leads to, such
// as the path tables of links that are gone, and of them only what is ours. A
// full read looks through all tables.
func (k *Kernel) readStale(full bool, wanted map[tableID]int, strays map[tableID]struct{}, tables map[tableID][]netstate.Route, keep keeper) error {
	if !full {
		for id := range k.tables {
			if _, ok := strays[id]; ok {
				continue
			}
			if err := k.readOurs(id, wanted, tables, keep); err != nil {
				return err
			}
		}
		for id := range strays {
			if err := k.readOurs(id, wanted, tables, keep); err != nil {
				return err
			}
		}
		return nil
	}
	for _, f := range k.families {
		for _, p := range k.options.Load().protocols() {
			routes, err := k.dumpRoutes(f, 0, p, nil)
			if err != nil {
				return err
			}
			for _, r := range routes {
				id := tableID{f, r.Table}
				if _, ok := wanted[id]; !ok && k.ours(r) {
					tables[id] = append(tables[id], r)
				}
			}
		}
	}
	return nil
}

// readOurs reads what is ours of a table that is not wanted.
func (k *Kernel) readOurs(id tableID, wanted map[tableID]int, tables map[tableID][]netstate.Route, keep keeper) error {
	if _, ok := wanted[id]; ok {
		return nil
	}
	routes, err := k.readTable(id, keep)
	if err != nil {
		return err
	}
	foreign := func(r netstate.Route) bool { return !k.ours(r) }
	if routes = slices.DeleteFunc(routes, foreign); len(routes) > 0 {
		tables[id] = routes
	}
	return nil
}

func (k *Kernel) ours(r netstate.Route) bool {
	o := k.options.Load()
	return netstate.Ownership{Protocols: o.Former}.OwnsRoute(o.Protocol, r)
}

// replaceTables notes whether anything but lifetimes changed.
func (k *Kernel) replaceTables(tables map[tableID][]netstate.Route) {
	for id, routes := range tables {
		if !slices.EqualFunc(routes, k.tables[id], sameButLifetime) {
			k.changed |= netstate.KindRoutes
		}
	}
	for id, routes := range k.tables {
		if _, ok := tables[id]; !ok && len(routes) > 0 {
			k.changed |= netstate.KindRoutes
		}
	}
	for id := range k.main.seen {
		if _, ok := tables[id]; !ok {
			delete(k.main.seen, id)
		}
	}
	k.tables = tables
	k.main.patches.setLarge(k.main.seen)
}

func sameButLifetime(a, b netstate.Route) bool {
	if a.Expired() != b.Expired() {
		return false
	}
	a.ExpiresIn, b.ExpiresIn = 0, 0
	return a == b
}

// readTable reads one table. A route inside an on-link prefix that only this
// reading shows is found by a second one.
func (k *Kernel) readTable(id tableID, keep keeper) ([]netstate.Route, error) {
	keep.onLink = &prefixes{below: keep.onLink}
	keep.onLink.addOnLink(k.tables[id])
	for {
		routes, err := k.dumpRoutes(id.family, id.table, 0, &keep)
		if err != nil {
			return nil, err
		}
		if keep.dropped == 0 {
			delete(k.main.seen, id)
			return k.resolveNexthops(routes)
		}
		k.main.seen[id] = keep.dropped + len(routes)
		if !keep.onLink.addOnLink(routes) {
			return k.resolveNexthops(routes)
		}
	}
}

// keeper is what decides about the routes of every table.
func (k *Kernel) keeper() keeper {
	var kept [256]bool
	for _, p := range k.watchedProtocols() {
		kept[p] = true
	}
	keep := keeper{protocols: &kept, onLink: &prefixes{}}
	for _, a := range k.addrs {
		keep.onLink.addUseful(a.Local.Masked())
	}
	return keep
}

// watchedProtocols are those by which hosts are configured, and ours.
func (k *Kernel) watchedProtocols() []uint8 {
	return append(configuring[:], k.options.Load().protocols()...)
}

// configuring are the protocols of routes by which a host is configured, as
// opposed to those that a routing daemon learns by the thousand. 0 is what
// routes carry whose maker did not say.
var configuring = [...]uint8{0, netstate.ProtoRedirect, netstate.ProtoKernel, netstate.ProtoBoot, netstate.ProtoStatic, netstate.ProtoRA, netstate.ProtoDHCP}

// dumpRoutes reads one table, or with 0 all, with a protocol, or with 0 any.
func (k *Kernel) dumpRoutes(f netstate.Family, table uint32, protocol uint8, keep *keeper) ([]netstate.Route, error) {
	k.rt.reset()
	k.rt.begin(unix.RTM_GETROUTE, unix.NLM_F_DUMP, k.rt.nextSeq())
	h := nl.DeserializeRtMsg(k.rt.zero(rtmsgLen))
	h.Family, h.Protocol = byte(f), protocol
	if table != 0 {
		k.rt.u32(unix.RTA_TABLE, table)
	}
	k.rt.end()
	routes := k.scratch[:0]
	err := k.rt.dump(func() {
		routes = routes[:0]
		if keep != nil {
			keep.dropped = 0
		}
	}, func(h header, b []byte) {
		if h.typ == unix.RTM_NEWROUTE {
			routes = appendRoutes(routes, b, keep)
		}
	})
	k.scratch = routes
	// A table that was never used does not exist.
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil || len(routes) == 0 {
		return nil, err
	}
	return slices.Clone(routes), nil
}
