package kerneltest

import (
	"fmt"
	"slices"
	"syscall"

	"github.com/subflowd/subflowd/internal/netstate"
)

func (f *Fake) setLimits(l netstate.Limits) error {
	if maximum := f.now.MPTCP.MaxLimit; l.Subflows > maximum || l.AddAddrAccepted > maximum {
		return fmt.Errorf("limit greater than maximum (%d): %w", maximum, syscall.EINVAL)
	}
	f.now.Limits = l
	return nil
}

func (f *Fake) addEndpoint(e netstate.Endpoint) error {
	switch {
	case !e.Addr.IsValid(),
		e.Flags&netstate.SignalFlag != 0 && e.Flags&netstate.FullmeshFlag != 0,
		e.Port != 0 && e.Flags&netstate.SignalFlag == 0:
		return syscall.EINVAL
	}
	e.Addr = e.Addr.Unmap()
	i := slices.IndexFunc(f.now.Endpoints, func(o netstate.Endpoint) bool {
		return o.Addr == e.Addr && (o.Port == e.Port || o.Port == 0 || e.Port == 0)
	})
	switch {
	case i >= 0 && f.now.Endpoints[i].Flags&netstate.ImplicitFlag == 0:
		return syscall.EEXIST
	case i >= 0 && e.ID != 0:
		return syscall.EINVAL
	case i >= 0: // an implicit endpoint becomes this one and keeps its id
		e.ID = f.now.Endpoints[i].ID
		f.now.Endpoints[i] = e
		return nil
	case len(f.now.Endpoints) >= f.now.MPTCP.MaxEndpoints:
		return syscall.ERANGE
	case e.ID != 0 && f.endpointByID(e.ID) >= 0:
		return syscall.EBUSY
	}
	if e.ID == 0 {
		e.ID = f.freeID()
	}
	f.nextID = e.ID
	f.now.Endpoints = append(f.now.Endpoints, e)
	slices.SortStableFunc(f.now.Endpoints, func(a, b netstate.Endpoint) int { return int(a.ID) - int(b.ID) })
	return nil
}

// freeID goes on from the last id that was given out.
func (f *Fake) freeID() uint8 {
	id := f.nextID
	for {
		if id++; id == 0 {
			id = 1
		}
		if f.endpointByID(id) < 0 {
			return id
		}
	}
}

func (f *Fake) endpointByID(id uint8) int {
	return slices.IndexFunc(f.now.Endpoints, func(e netstate.Endpoint) bool { return e.ID == id })
}

// currentEndpoint finds the endpoint with the id if it still has address and link.
func (f *Fake) currentEndpoint(e netstate.Endpoint) int {
	i := f.endpointByID(e.ID)
	if i < 0 || f.now.Endpoints[i].Addr != e.Addr || f.now.Endpoints[i].Link != e.Link {
		return -1
	}
	return i
}

func (f *Fake) setEndpoint(e netstate.Endpoint) error {
	const inPlace = netstate.BackupFlag | netstate.FullmeshFlag
	i := f.currentEndpoint(e)
	if i < 0 {
		return syscall.ENOENT
	}
	have := &f.now.Endpoints[i]
	have.Flags = have.Flags&^inPlace | e.Flags&inPlace
	return nil
}

// deleteEndpoint closes every subflow from the address, the initial one too. A
// connection that has no other is cut.
func (f *Fake) deleteEndpoint(e netstate.Endpoint) error {
	i := f.currentEndpoint(e)
	if i < 0 {
		return nil
	}
	f.now.Endpoints = slices.Delete(f.now.Endpoints, i, i+1)
	closed := false
	for k := range f.conns {
		c := &f.conns[k]
		before := len(c.Subflows)
		if c.Fallback || before == 0 {
			continue
		}
		c.Subflows = slices.DeleteFunc(c.Subflows, func(s netstate.Subflow) bool { return s.Local.Addr().Unmap() == e.Addr })
		closed = closed || len(c.Subflows) < before
		if len(c.Subflows) == 0 {
			f.cut = append(f.cut, c.Token)
		}
	}
	if closed {
		f.emitConnections()
	}
	return nil
}
