package observe

import (
	"net/netip"
	"time"

	"github.com/subflowd/subflowd/internal/kernel"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/pkg/mptcp"
)

// lookAgain is the least time between two looks at links and addresses for
// something that is not known: events come by the thousand.
const lookAgain = 200 * time.Millisecond

// Directory gives names to what events say: the link of an address, the ends of
// a connection. It is for one goroutine at a time.
type Directory struct {
	viewer *kernel.Viewer
	looked time.Time
	names  netstate.Names
	homes  map[netip.Addr]int
	conns  map[uint32]Ends
}

// Ends are the two ends of a connection.
type Ends struct{ Local, Remote netip.AddrPort }

// OpenDirectory opens the network namespace of the calling thread and learns the
// connections that there are; known may be nil.
func OpenDirectory(known []mptcp.Connection) (*Directory, error) {
	v, err := kernel.OpenViewer()
	if err != nil {
		return nil, err
	}
	d := &Directory{viewer: v, conns: make(map[uint32]Ends, len(known))}
	for i := range known {
		d.conns[known[i].Token] = Ends{known[i].Local, known[i].Remote}
	}
	return d, nil
}

// Close closes the socket.
func (d *Directory) Close() error { return d.viewer.Close() }

// Connection gives the ends of the connection with a token; false: not known.
func (d *Directory) Connection(token uint32) (Ends, bool) {
	e, ok := d.conns[token]
	return e, ok
}

// Link is the name of the link that a socket is bound to, or else of the one
// that has its address; empty: none has it. Another namespace's ifindex is
// "if9".
func (d *Directory) Link(ifindex int, local netip.Addr) (index int, name string) {
	if d.find(ifindex, local) == 0 && time.Since(d.looked) > lookAgain {
		d.look()
	}
	if index = d.find(ifindex, local); index != 0 {
		return index, d.names.Name(index)
	}
	if ifindex != 0 {
		return ifindex, d.names.Name(ifindex)
	}
	return 0, ""
}

func (d *Directory) find(ifindex int, local netip.Addr) int {
	if _, ok := d.names[ifindex]; ok {
		return ifindex
	}
	if ifindex != 0 {
		return 0
	}
	return d.homes[local.Unmap()]
}

// look reads links and addresses. What cannot be read keeps the names of before;
// an address that is gone keeps its link, so that the end of a subflow can still
// be told.
func (d *Directory) look() {
	d.looked = time.Now()
	links, err := d.viewer.Links()
	if err != nil {
		return
	}
	addrs, err := d.viewer.Addrs()
	if err != nil {
		return
	}
	if d.names == nil {
		d.names, d.homes = netstate.Names{}, map[netip.Addr]int{}
	}
	for _, l := range links {
		d.names[l.Index] = l.Name
	}
	for _, a := range addrs {
		d.homes[a.IP()] = a.Link
	}
}

// learn keeps the ends of connections while they live.
func (d *Directory) learn(e *mptcp.Event) {
	switch e.Type {
	case mptcp.EventCreated, mptcp.EventEstablished:
		d.conns[e.Token] = Ends{e.Local, e.Remote}
	}
}

func (d *Directory) forget(e *mptcp.Event) {
	if e.Type == mptcp.EventClosed {
		delete(d.conns, e.Token)
	}
}

// Places are the names of the links of the calling thread's network namespace
// and the addresses on them, the loopback's left out.
func Places() (links, addrs []string, err error) {
	v, err := kernel.OpenViewer()
	if err != nil {
		return nil, nil, err
	}
	defer v.Close()
	counters, err := v.Links()
	if err != nil {
		return nil, nil, err
	}
	list, err := v.Addrs()
	if err != nil {
		return nil, nil, err
	}
	for _, l := range counters {
		if !l.Loopback {
			links = append(links, l.Name)
		}
	}
	for _, a := range list {
		if a.IP().IsGlobalUnicast() {
			addrs = append(addrs, a.IP().String())
		}
	}
	return links, addrs, nil
}
