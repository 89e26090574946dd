package kernel

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/pkg/mptcp"
)

// inPlace are the flags that can be changed in an endpoint; see ip-mptcp(8).
const inPlace = netstate.BackupFlag | netstate.FullmeshFlag

func (k *Kernel) applyPathManager(c netstate.Change) error {
	client := k.pm.client
	if client == nil {
		return mptcp.ErrUnsupported
	}
	faultpoint()
	defer faultpoint()
	switch c.Op {
	case netstate.LimitsSet:
		return k.setLimits(c)
	case netstate.EndpointAdd:
		return cause(client.AddEndpoint(toEndpoint(c.Endpoint)))
	case netstate.EndpointSet:
		return k.setEndpoint(c.Endpoint)
	case netstate.EndpointDelete:
		return k.deleteEndpoint(c.Endpoint)
	}
	return fmt.Errorf("unknown kind of change: %w", unix.EINVAL)
}

// setLimits looks right before it sets: no event tells of a change of limits, the
// kernel knows no compare-and-set, and what somebody else has set would be lost
// for good.
func (k *Kernel) setLimits(c netstate.Change) error {
	if c.Checked {
		now, err := k.pm.client.Limits()
		if err != nil {
			return cause(err)
		}
		if now := netstate.Limits(now); now != c.Found {
			return fmt.Errorf("another program has set %s meanwhile: %w", now.Text(), unix.EAGAIN)
		}
	}
	return cause(k.pm.client.SetLimits(mptcp.Limits(c.Limits)))
}

// current finds the endpoint with e's id, if it still has e's address and link:
// an id is given out again, a link index too.
func (k *Kernel) current(e netstate.Endpoint) (mptcp.Endpoint, bool, error) {
	list, err := k.pm.client.Endpoints()
	if err != nil {
		return mptcp.Endpoint{}, false, cause(err)
	}
	for _, have := range list {
		if have.ID == e.ID && have.Addr.Unmap() == e.Addr.Unmap() && int(have.IfIndex) == e.Link && have.Port == e.Port {
			return have, true, nil
		}
	}
	return mptcp.Endpoint{}, false, nil
}

func (k *Kernel) setEndpoint(e netstate.Endpoint) error {
	have, ok, err := k.current(e)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("no such endpoint: %w", unix.ENOENT)
	}
	if netstate.EndpointFlags(have.Flags)&inPlace == e.Flags&inPlace {
		return nil
	}
	// Both flags are always given: the kernel clears what is left out.
	return cause(k.pm.client.SetFlags(have, mptcp.Flags(e.Flags&inPlace)))
}

// deleteEndpoint deletes by an id that was read a moment ago. A delete by the
// address alone would close the initial subflow of every connection.
func (k *Kernel) deleteEndpoint(e netstate.Endpoint) error {
	have, ok, err := k.current(e)
	if err != nil || !ok {
		return err
	}
	if err := k.pm.client.DeleteEndpoint(have); !errors.Is(err, mptcp.ErrAbsent) {
		return cause(err)
	}
	return nil
}

// cause takes the description off an error of the path manager: the change is
// described already.
func cause(err error) error {
	var e *mptcp.Error
	if !errors.As(err, &e) {
		return err
	}
	return &refused{reply{errno: e.Errno, msg: e.Msg}, e}
}

// refused reads like other refusals and still answers for the sentinels of
// package mptcp.
type refused struct {
	reply
	err *mptcp.Error
}

// Unwrap gives the error number and the error of package mptcp.
func (r *refused) Unwrap() []error { return []error{r.err, r.errno} }

func toEndpoint(e netstate.Endpoint) mptcp.Endpoint {
	return mptcp.Endpoint{ID: e.ID, Addr: e.Addr, Port: e.Port, Flags: mptcp.Flags(e.Flags), IfIndex: int32(e.Link)}
}

// Connections lists the Multipath TCP connections with their subflows, those
// that have fallen back too. A kernel without Multipath TCP has none.
func (k *Kernel) Connections() ([]netstate.Connection, error) {
	if k.pm.client == nil {
		return nil, nil
	}
	var list []netstate.Connection
	err := k.pm.client.Walk(mptcp.ConnectionOptions{}, mptcp.Visitor{
		Begin:      func() { list = list[:0] },
		Connection: func(c *mptcp.Connection) { list = append(list, fromConnection(c)) },
		Subflow: func(n int, f *mptcp.Subflow) {
			list[n].Subflows = append(list[n].Subflows, fromSubflow(f))
		},
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

func fromConnection(c *mptcp.Connection) netstate.Connection {
	return netstate.Connection{
		Token: c.Token, State: netstate.SockState(c.State), Local: unmap(c.Local), Remote: unmap(c.Remote),
		Fallback: c.Fallback, Subflows: make([]netstate.Subflow, 0, c.SubflowCount()),
	}
}

func fromSubflow(f *mptcp.Subflow) netstate.Subflow {
	return netstate.Subflow{
		State: netstate.SockState(f.State), Local: unmap(f.Local), Remote: unmap(f.Remote), Link: int(f.IfIndex),
		FullyEstablished: f.FullyEstablished, JoinLocal: f.JoinLocal,
		Opened:     f.JoinLocal || f.Flags&mptcp.SubflowCapableLocal != 0,
		JoinRemote: f.JoinRemote && !f.JoinLocal, // the kernel sets both on a join that the peer has accepted
		Backup:     f.BackupLocal || f.BackupRemote, Backoff: f.Backoff, CAState: uint8(f.CAState),
		LastRecv: f.LastDataRecv, LastAck: f.LastAckRecv,
	}
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// DestroySubflows closes every subflow that match picks with a reset, as ss -K
// does (SOCK_DESTROY), and returns those that it closed. Their connections go on
// with what they have left and do not open them again. A subflow that is gone
// already counts as closed.
func (k *Kernel) DestroySubflows(match func(netstate.Subflow) bool) ([]netstate.Subflow, error) {
	if k.pm.client == nil {
		return nil, nil
	}
	list, err := k.pm.client.Connections(mptcp.ConnectionOptions{})
	if err != nil {
		return nil, err
	}
	var closed []netstate.Subflow
	var errs []error
	for i := range list {
		for n := range list[i].Subflows {
			f := &list[i].Subflows[n]
			s := fromSubflow(f)
			if !match(s) {
				continue
			}
			if err := k.pm.client.DestroySubflow(*f); err != nil && !errors.Is(err, mptcp.ErrAbsent) {
				errs = append(errs, err)
				continue
			}
			closed = append(closed, s)
		}
	}
	return closed, errors.Join(errs...)
}
