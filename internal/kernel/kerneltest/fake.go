// Package kerneltest has a kernel in memory for tests of the loop. It changes a
// snapshot with the kernel's own semantics, fails on demand, and lets a test act
// as everybody else on the host.
//
// The files: fake (reading, and what a test asks of the fake), apply (changes),
// routing and endpoints (the kernel's semantics), others (what happens without
// us), watch (events).
package kerneltest

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/subflowd/subflowd/internal/netstate"
)

// Fake is a kernel in memory. All methods may be called from any goroutine.
type Fake struct {
	mu sync.Mutex

	now   netstate.Snapshot  // what the kernel holds
	seen  *netstate.Snapshot // what was last read of it
	conns []netstate.Connection

	nextID   uint8 // of the next endpoint without one
	requests int
	applied  []netstate.Change // that succeeded
	reads    []netstate.Hints
	cut      []uint32
	// What was closed by DestroySubflows, how often it was called, and what it
	// fails with.
	destroyed   []netstate.Subflow
	dumps       int
	failDestroy error
	fail        func(n int, c netstate.Change) error
	failRead    func(h netstate.Hints) error
	after       func(c netstate.Change)

	watchers     map[int]*queue
	connWatchers map[int]*queue
	nextWatcher  int
	holding      bool // events wait in held
	held         []netstate.Hints
}

// New makes a kernel that holds what the snapshot says. The standing rules must
// be part of it; package iptext puts them in. Where the snapshot has no MPTCP
// maximum the kernel takes 8 endpoints and limits up to 8.
func New(s *netstate.Snapshot) *Fake {
	f := &Fake{now: clone(s), watchers: map[int]*queue{}, connWatchers: map[int]*queue{}}
	if f.now.MPTCP == (netstate.MPTCP{}) {
		f.now.MPTCP = netstate.MPTCP{Present: true, Enabled: true}
	}
	if f.now.MPTCP.MaxEndpoints == 0 {
		f.now.MPTCP.MaxEndpoints = 8
	}
	if f.now.MPTCP.MaxLimit == 0 {
		f.now.MPTCP.MaxLimit = 8
	}
	for _, e := range f.now.Endpoints {
		f.nextID = max(f.nextID, e.ID)
	}
	f.sortRules()
	return f
}

func clone(s *netstate.Snapshot) netstate.Snapshot {
	c := *s
	c.Links, c.Addrs, c.Routes = slices.Clone(s.Links), slices.Clone(s.Addrs), slices.Clone(s.Routes)
	c.Rules, c.Endpoints = slices.Clone(s.Rules), slices.Clone(s.Endpoints)
	c.Preferred, c.LeaseGateways, c.Outbound, c.Unbound = maps.Clone(s.Preferred), maps.Clone(s.LeaseGateways), maps.Clone(s.Outbound), maps.Clone(s.Unbound)
	return c
}

// Snapshot is what the kernel holds now, whatever was read of it.
func (f *Fake) Snapshot() *netstate.Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.current()
	return &s
}

// Refresh reads again what the hints name, and only that: what changed without
// a hint stays hidden until somebody asks, as in the real kernel's reader.
func (f *Fake) Refresh(h netstate.Hints) (*netstate.Snapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads = append(f.reads, h)
	if f.failRead != nil {
		if err := f.failRead(h); err != nil {
			return nil, err
		}
	}
	now := f.current()
	if f.seen == nil || h.Full {
		f.seen = &now
	} else {
		next := merge(*f.seen, now, h)
		f.seen = &next
	}
	s := clone(f.seen)
	return &s, nil
}

// merge takes what the hints name from now.
func merge(seen, now netstate.Snapshot, h netstate.Hints) netstate.Snapshot {
	kinds := h.Kinds
	if kinds&netstate.KindLinks != 0 {
		seen.Links = now.Links
		kinds |= netstate.KindAddrs
	}
	if kinds&netstate.KindAddrs != 0 {
		seen.Addrs = now.Addrs
		kinds |= netstate.KindRoutes
	}
	if kinds&netstate.KindRules != 0 {
		seen.Rules = now.Rules
	}
	if kinds&netstate.KindRoutes != 0 {
		seen.Routes = now.Routes
	}
	if kinds&^netstate.KindEndpoints != 0 {
		seen.Preferred, seen.Outbound, seen.Unbound = now.Preferred, now.Outbound, now.Unbound
	}
	if kinds&netstate.KindEndpoints != 0 {
		seen.Endpoints, seen.Limits, seen.MPTCP = now.Endpoints, now.Limits, now.MPTCP
	}
	seen.LeaseGateways = now.LeaseGateways
	return seen
}

// current is a copy of the state with the source that the kernel would pick for
// every link: what the test said, while the link has the address, else the
// first that is usable and not deprecated. Outbound is what the test said.
func (f *Fake) current() netstate.Snapshot {
	s := clone(&f.now)
	s.Preferred = map[netstate.LinkFamily]netip.Addr{}
	for _, a := range s.Addrs {
		lf := netstate.LinkFamily{Link: a.Link, Family: a.Family()}
		l, ok := s.LinkByIndex(a.Link)
		if !ok || !l.Up() || l.Loopback() || !a.Outward() {
			continue
		}
		if said, ok := f.now.Preferred[lf]; ok && hasAddr(&s, a.Link, said) {
			s.Preferred[lf] = said
		} else if _, ok := s.Preferred[lf]; !ok && !a.Deprecated() {
			s.Preferred[lf] = a.IP()
		}
	}
	return s
}

func hasAddr(s *netstate.Snapshot, link int, ip netip.Addr) bool {
	return slices.ContainsFunc(s.Addrs, func(a netstate.Addr) bool {
		return a.Link == link && a.IP() == ip && a.Usable()
	})
}

// Connections lists what SetConnections said, less what was cut since.
func (f *Fake) Connections() ([]netstate.Connection, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return cloneConnections(f.conns), nil
}

// SetConnections says which connections exist and tells the watchers.
func (f *Fake) SetConnections(list ...netstate.Connection) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns = cloneConnections(list)
	f.emitConnections()
}

func cloneConnections(list []netstate.Connection) []netstate.Connection {
	out := slices.Clone(list)
	for i := range out {
		out[i].Subflows = slices.Clone(out[i].Subflows)
	}
	return out
}

// Cut names, by token, the connections that lost their last subflow because an
// endpoint was deleted.
func (f *Fake) Cut() []uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.cut)
}

// Applied lists the changes that succeeded, in order, and forgets them.
func (f *Fake) Applied() []netstate.Change {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := f.applied
	f.applied = nil
	return list
}

// AppliedText is Applied in ip(8) words.
func (f *Fake) AppliedText() []string {
	f.mu.Lock()
	names := f.now.Names()
	f.mu.Unlock()
	var out []string
	for _, c := range f.Applied() {
		out = append(out, c.Text(names))
	}
	return out
}

// Reads lists the hints of every Refresh, and forgets them.
func (f *Fake) Reads() []netstate.Hints {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := f.reads
	f.reads = nil
	return list
}

// Requests counts the changes that were asked for so far.
func (f *Fake) Requests() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests
}

// ErrIgnored has, returned by what FailWith asks, a change succeed and do
// nothing: what a reader makes of a refusal that means "gone already".
var ErrIgnored = errors.New("ignored")

// LostAnswer has, returned by what FailWith asks, a change carried out and fail
// all the same: the answer to the request never came.
type LostAnswer struct{ Err error }

func (l LostAnswer) Error() string { return l.Err.Error() }
func (l LostAnswer) Unwrap() error { return l.Err }

// FailWith asks decide about every change before it is carried out; n counts
// from 1 over the life of the fake. An error that decide returns is the change's
// result, and nothing is changed; but see ErrIgnored and LostAnswer. Nil ends it.
func (f *Fake) FailWith(decide func(n int, c netstate.Change) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = decide
}

// FailOp makes the next times changes of a kind fail with err.
func (f *Fake) FailOp(op netstate.Op, times int, err error) {
	f.FailWith(func(_ int, c netstate.Change) error {
		if c.Op != op || times <= 0 {
			return nil
		}
		times--
		return err
	})
}

// FailAt makes the n-th change from now on fail with err, whatever it is.
func (f *Fake) FailAt(n int, err error) {
	n += f.Requests()
	f.FailWith(func(i int, _ netstate.Change) error {
		if i == n {
			return err
		}
		return nil
	})
}

// FailRefresh asks decide about every Refresh; an error is its result.
func (f *Fake) FailRefresh(decide func(h netstate.Hints) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failRead = decide
}

// After calls do behind every change that succeeded, outside all locks: what
// others do in the middle of a batch.
func (f *Fake) After(do func(c netstate.Change)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.after = do
}
