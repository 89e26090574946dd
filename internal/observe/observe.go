// Package observe gathers what people look at: the Multipath TCP connections of a
// network namespace with their subflows, the link that carries each, and how
// fast bytes move. It asks the kernel alone, with no daemon and mostly without a
// privilege, and decides nothing.
//
// Two samples make a document with rates:
//
//	o, err := observe.Open()
//	before, err := o.Sample()
//	time.Sleep(time.Second)
//	now, err := o.Sample()
//	doc := observe.Document(now, before)
//
// The files: observe (samples), document (their public form), format (bytes and
// rates in words), counters and meaning (the kernel's counters and what they
// tell).
package observe

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/subflowd/subflowd/internal/kernel"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/pkg/mptcp"
)

// waysLive is how long an answer about a route is used again: a screen that is
// drawn every second does not ask for thousands of routes each time.
const waysLive = 2 * time.Second

// Observer looks at one network namespace. It is for one goroutine at a time.
type Observer struct {
	pm     *mptcp.Client // nil: the kernel has no Multipath TCP
	viewer *kernel.Viewer

	ways  map[kernel.Flow]int
	asked time.Time // when ways were begun
}

// Open opens the network namespace of the calling thread; Sample may be called
// from any. A kernel without Multipath TCP is no error: it has no connections.
func Open() (*Observer, error) {
	pm, err := mptcp.Dial()
	if err != nil && !errors.Is(err, mptcp.ErrUnsupported) {
		return nil, err
	}
	v, err := kernel.OpenViewer()
	if err != nil {
		if pm != nil {
			pm.Close()
		}
		return nil, err
	}
	return &Observer{pm: pm, viewer: v, ways: map[kernel.Flow]int{}}, nil
}

// Close closes the sockets.
func (o *Observer) Close() error {
	if o.pm == nil {
		return o.viewer.Close()
	}
	return errors.Join(o.pm.Close(), o.viewer.Close())
}

// Client is the path manager's client of the namespace; nil where the kernel has
// no Multipath TCP.
func (o *Observer) Client() *mptcp.Client { return o.pm }

// Sample is one look. It is never changed.
type Sample struct {
	Time time.Time
	// MPTCP: the kernel has Multipath TCP. Hidden: it shows subflows to
	// CAP_NET_ADMIN alone, and there are none here.
	MPTCP, Hidden bool
	// Connections have only subflows that are still theirs, see Detached.
	Connections []mptcp.Connection
	Links       []kernel.LinkCounters

	names    netstate.Names
	loopback map[int]bool
	homes    map[netip.Addr][]int // the links that have an address
	ways     map[kernel.Flow]int
}

// Sample looks once.
func (o *Observer) Sample() (*Sample, error) {
	s := &Sample{Time: time.Now(), MPTCP: o.pm != nil}
	if o.pm != nil {
		var err error
		s.Connections, err = o.pm.Connections(mptcp.ConnectionOptions{})
		if s.Hidden = errors.Is(err, mptcp.ErrPermission) && s.Connections != nil; err != nil && !s.Hidden {
			return nil, err
		}
	}
	if err := o.readLinks(s); err != nil {
		return nil, err
	}
	for i := range s.Connections {
		attach(&s.Connections[i])
	}
	return s, o.readWays(s)
}

func (o *Observer) readLinks(s *Sample) error {
	var err error
	if s.Links, err = o.viewer.Links(); err != nil {
		return err
	}
	addrs, err := o.viewer.Addrs()
	if err != nil {
		return err
	}
	s.names = make(netstate.Names, len(s.Links))
	s.loopback = map[int]bool{}
	for _, l := range s.Links {
		s.names[l.Index] = l.Name
		if l.Loopback {
			s.loopback[l.Index] = true
		}
	}
	s.homes = make(map[netip.Addr][]int, len(addrs))
	for _, a := range addrs {
		s.homes[a.IP()] = append(s.homes[a.IP()], a.Link)
	}
	return nil
}

// readWays asks for the routes of subflows that are bound to no link.
func (o *Observer) readWays(s *Sample) error {
	if s.Time.Sub(o.asked) > waysLive {
		// A new map: samples keep the old one.
		o.ways, o.asked = map[kernel.Flow]int{}, s.Time
	}
	var missing []kernel.Flow
	ways := make(map[kernel.Flow]int, len(o.ways))
	for i := range s.Connections {
		for k := range s.Connections[i].Subflows {
			f := &s.Connections[i].Subflows[k]
			if f.IfIndex != 0 {
				continue
			}
			flow := flowOf(f)
			if _, ok := ways[flow]; ok {
				continue
			}
			way, known := o.ways[flow]
			if !known {
				missing = append(missing, flow)
			}
			ways[flow] = way
		}
	}
	found, err := o.viewer.Ways(missing)
	if err != nil {
		return err
	}
	for i, flow := range missing {
		ways[flow] = found[i]
	}
	o.ways, s.ways = ways, ways
	return nil
}

func flowOf(f *mptcp.Subflow) kernel.Flow {
	return kernel.Flow{Local: f.Local.Addr(), Remote: f.Remote.Addr()}
}

// attach leaves the subflows that are the connection's.
func attach(c *mptcp.Connection) {
	kept := c.Subflows[:0]
	for i := range c.Subflows {
		if !Detached(c, &c.Subflows[i]) {
			kept = append(kept, c.Subflows[i])
		}
	}
	c.Subflows = kept
}

// Detached tells whether a subflow is none of its connection's any more. When
// one was closed alone, with its endpoint or by the peer, its TCP socket lives
// on until it has sent what it had, for minutes on a dark path; sock_diag shows
// it under the connection's token all the same.
func Detached(c *mptcp.Connection, f *mptcp.Subflow) bool {
	switch f.State {
	case mptcp.StateFinWait1, mptcp.StateFinWait2, mptcp.StateClosing, mptcp.StateLastAck:
		return c.State == mptcp.StateEstablished && !c.Fallback
	case mptcp.StateListen, mptcp.StateClose, mptcp.StateTimeWait:
		return true
	}
	return false
}

// LinkName is the name of a link, "if9" for one that is gone, and empty for 0.
func (s *Sample) LinkName(ifindex int) string {
	if ifindex == 0 {
		return ""
	}
	return s.names.Name(ifindex)
}

// Way is the link that carries a subflow: what its socket is bound to, or else
// the kernel's route. It is 0 where there is no route.
func (s *Sample) Way(f *mptcp.Subflow) int {
	if f.IfIndex != 0 {
		return int(f.IfIndex)
	}
	return s.ways[flowOf(f)]
}

// Home is the link that has an address; 0: none has it. Of several it is the
// first in the kernel's order.
func (s *Sample) Home(a netip.Addr) int {
	if list := s.homes[a.Unmap()]; len(list) > 0 {
		return list[0]
	}
	return 0
}

// astray is the link that has the subflow's address while another one carries
// it, or 0. What stays within the host leaves by the loopback, and an address of
// the loopback may leave by any link.
func (s *Sample) astray(f *mptcp.Subflow) int {
	way := s.Way(f)
	homes := s.homes[f.Local.Addr()]
	if way == 0 || len(homes) == 0 || slices.Contains(homes, way) || s.loopback[way] || s.loopback[homes[0]] {
		return 0
	}
	return homes[0]
}
