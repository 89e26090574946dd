package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/pkg/mptcp"
)

// Options are the numbers that tell what is ours.
type Options struct {
	Protocol  uint8  // of our routes and rules; the first rule of a set has the next one
	TableBase uint32 // a link's path table is TableBase + ifindex
	// Former are protocols that our routes and rules had before: those of them
	// that are left are read too.
	Former []uint8
}

func (o *Options) equal(p Options) bool {
	return o.Protocol == p.Protocol && o.TableBase == p.TableBase && slices.Equal(o.Former, p.Former)
}

// protocols are all that our routes and rules may have.
func (o *Options) protocols() []uint8 {
	return append(slices.DeleteFunc(slices.Clone(o.Former), func(p uint8) bool { return p == o.Protocol }), o.Protocol)
}

// Kernel is the state of one network namespace with what was last read of it.
// Refresh, Connections and Apply are for one goroutine at a time.
type Kernel struct {
	// Leases returns the routers that DHCP leases name for links that no default
	// route uses; nil: none are looked for. Refresh calls it when one of what it is
	// given changed or addresses are looked at again. Set it before the first call.
	Leases func([]netstate.Link, []netstate.Addr, []netstate.Route) map[netstate.LinkFamily]netip.Addr

	options  atomic.Pointer[Options]
	rt       *socket
	pm       pathManager
	families []netstate.Family // that the kernel was booted with
	cookie   uint64            // of the namespace; 0: the kernel cannot tell

	due     netstate.Hints // asked for and not read yet, because a read failed
	changed netstate.Kinds // since the last snapshot was made

	links     []netstate.Link
	hardware  map[linkID]hardware
	addrs     []netstate.Addr
	before    []netstate.Addr // addrs at the refresh before this
	rules     []netstate.Rule
	tables    map[tableID][]netstate.Route
	stale     map[tableID]struct{} // those of tables that hold nothing but what is ours
	routes    []netstate.Route     // of all tables
	scratch   []netstate.Route     // memory that dumps use again
	preferred map[netstate.LinkFamily]netip.Addr
	leased    map[netstate.LinkFamily]netip.Addr
	outbound  map[netstate.Family][2]int
	unbound   map[netstate.Family]netstate.Way
	endpoints []netstate.Endpoint
	limits    netstate.Limits
	mptcp     netstate.MPTCP

	names atomic.Pointer[netstate.Names] // for the watcher's words
	busy  atomic.Pointer[linkSet]        // see markBusy
	main  mainTable
	watch atomic.Pointer[subscription]
}

// Open opens the network namespace of the calling thread: call it at the start
// of the process or with the thread locked (runtime.LockOSThread). What is
// opened belongs to that namespace for good; Refresh, Connections and Apply may
// be called from any thread. A kernel without Multipath TCP is no error: the
// snapshot says so.
func Open(o Options) (*Kernel, error) {
	rt, err := openSocket()
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	k := &Kernel{rt: rt, families: families(), hardware: map[linkID]hardware{}, due: netstate.Hints{Full: true, Kinds: netstate.KindAll}}
	if k.cookie, err = cookieOf(rt.fd); err != nil && !errors.Is(err, unix.ENOPROTOOPT) {
		rt.close()
		return nil, err
	}
	k.options.Store(&o)
	k.main.init()
	if err := k.pm.open(); err != nil {
		rt.close()
		return nil, err
	}
	k.names.Store(&netstate.Names{})
	k.busy.Store(&linkSet{})
	return k, nil
}

// families leaves IPv6 out where the kernel was booted with ipv6.disable=1: it
// would answer IPv6 dumps with what IPv4 has (rtnl_dump_all).
func families() []netstate.Family {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return netstate.Families[:1]
	}
	if err == nil {
		unix.Close(fd)
	}
	return netstate.Families[:]
}

// Close closes all sockets.
func (k *Kernel) Close() error { return errors.Join(k.rt.close(), k.pm.close()) }

// Configure changes the numbers that tell what is ours, after a reload. The
// next Refresh reads everything, and a watcher subscribes anew, because its
// filter lets the old protocol pass.
func (k *Kernel) Configure(o Options) {
	if k.options.Load().equal(o) {
		return
	}
	k.options.Store(&o)
	k.due = netstate.Hints{Full: true, Kinds: netstate.KindAll}
	if s := k.watch.Load(); s != nil {
		s.interrupt()
	}
}

// Refresh reads again what the hints name and returns the whole snapshot; parts
// that did not change are shared with earlier snapshots, and none is changed
// later. After an error what could not be read is still due: the next call
// reads it too.
func (k *Kernel) Refresh(h netstate.Hints) (*netstate.Snapshot, error) {
	k.due.Merge(h)
	h = k.due
	if h.Full {
		h.Kinds, h.Links, h.Family = netstate.KindAll, nil, 0
	}
	if err := k.read(h); err != nil {
		k.due.Merge(h)
		return nil, err
	}
	k.due = netstate.Hints{}
	if k.Leases != nil && (h.Kinds&netstate.KindAddrs != 0 || k.changed&(netstate.KindLinks|netstate.KindAddrs|netstate.KindRoutes) != 0) {
		k.leased = k.Leases(k.links, k.addrs, k.routes)
	}
	k.markBusy()
	k.changed = 0
	k.before = k.addrs
	return &netstate.Snapshot{
		Links: k.links, Addrs: k.addrs, Routes: k.routes, Rules: k.rules,
		Endpoints: k.endpoints, Limits: k.limits, Preferred: k.preferred, Outbound: k.outbound, Unbound: k.unbound,
		LeaseGateways: k.leased, MPTCP: k.mptcp, Named: *k.names.Load(), Unsure: k.main.unsure,
	}, nil
}

// read follows the order in which one kind decides what of the next is read.
func (k *Kernel) read(h netstate.Hints) error {
	// A link that goes down loses its addresses and routes, and the last address
	// takes IPv4 routes of every table along, without an event for them.
	if h.Kinds&netstate.KindLinks != 0 {
		h.Kinds |= netstate.KindAddrs
		h.Family = 0
	}
	if err := k.awaitFlush(h.Full); err != nil {
		return fmt.Errorf("wait for a change to end: %w", err)
	}
	for _, step := range []struct {
		kind netstate.Kinds
		name string
		read func() error
	}{
		{netstate.KindLinks, "links", func() error { return k.readLinks(h.Links) }},
		{netstate.KindAddrs, "addresses", func() error { return k.readAddrs(h.Links, h.Family) }},
		{netstate.KindRules, "rules", func() error { return k.readRules(h.Family) }},
		{netstate.KindLinks | netstate.KindAddrs | netstate.KindRoutes | netstate.KindRules, "routes", func() error { return k.readRoutes(h) }},
		{netstate.KindAll, "preferred sources", func() error { return k.readPreferred(h) }},
		{netstate.KindAll, "outbound links", func() error { return k.readOutbound(h) }},
		{netstate.KindEndpoints, "endpoints", func() error { return k.readPathManager(h.Full) }},
	} {
		if h.Kinds&step.kind == 0 {
			continue
		}
		if err := step.read(); err != nil {
			return fmt.Errorf("read %s: %w", step.name, err)
		}
	}
	return nil
}

type linkSet map[int]struct{}

// markBusy publishes on which links a decision may depend: those with an address
// that an uplink can have, and those to which a route leads. Of the others an
// event may wait, see netstate.Hints.
func (k *Kernel) markBusy() {
	if k.changed&(netstate.KindAddrs|netstate.KindRoutes) == 0 {
		return
	}
	busy := linkSet{}
	for _, a := range k.addrs {
		if netstate.Routable(a.IP()) {
			busy[a.Link] = struct{}{}
		}
	}
	for i := range k.routes {
		if r := &k.routes[i]; !linkLocal(*r) {
			busy[r.Link] = struct{}{}
		}
	}
	k.busy.Store(&busy)
}

// linkLocal tells whether a route is one that every IPv6 link has.
func linkLocal(r netstate.Route) bool {
	return r.Dst.Addr().IsLinkLocalUnicast() && !r.Gateway.IsValid()
}

func (k *Kernel) publishNames() {
	n := make(netstate.Names, len(k.links))
	for _, l := range k.links {
		n[l.Index] = l.Name
	}
	k.names.Store(&n)
}

// pathManager is the Multipath TCP side, absent where the kernel has none.
type pathManager struct {
	client *mptcp.Client
	probed bool
	files  sysctls
}

func (p *pathManager) open() error {
	c, err := mptcp.Dial()
	switch {
	case err == nil:
		p.client = c
	case !errors.Is(err, mptcp.ErrUnsupported):
		return err
	}
	p.files.open()
	return nil
}

func (p *pathManager) close() error {
	p.files.close()
	if p.client == nil {
		return nil
	}
	return p.client.Close()
}

// readPathManager reads endpoints, limits and the sysctls around them.
func (k *Kernel) readPathManager(full bool) error {
	c := k.pm.client
	if c == nil {
		k.mptcp = netstate.MPTCP{}
		return nil
	}
	list, err := c.Endpoints()
	if err != nil {
		return err
	}
	endpoints := make([]netstate.Endpoint, len(list))
	for i, e := range list {
		endpoints[i] = fromEndpoint(e)
	}
	if !slices.Equal(endpoints, k.endpoints) {
		k.endpoints = endpoints
	}
	limits, err := c.Limits()
	if err != nil {
		return err
	}
	k.limits = netstate.Limits(limits)
	if full || !k.pm.probed {
		k.probe()
	}
	k.mptcp.Enabled, k.mptcp.UserspacePM = k.pm.files.read()
	return nil
}

// probe asks once for what a running kernel never changes.
func (k *Kernel) probe() {
	if k.pm.probed {
		return
	}
	// Without CAP_NET_ADMIN the answer is the smallest maximum of all kernels.
	f, err := mptcp.Probe(k.pm.client)
	k.pm.probed = err == nil
	k.mptcp.Present = true
	k.mptcp.MaxEndpoints, k.mptcp.MaxLimit = f.MaxEndpoints, f.MaxLimit
}

func fromEndpoint(e mptcp.Endpoint) netstate.Endpoint {
	return netstate.Endpoint{
		ID: e.ID, Addr: e.Addr.Unmap(), Link: int(e.IfIndex), Port: e.Port, Flags: netstate.EndpointFlags(e.Flags),
	}
}
