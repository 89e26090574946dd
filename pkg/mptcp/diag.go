package mptcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// protocolMPTCP does not fit into the request's one byte and goes into INET_DIAG_REQ_PROTOCOL.
	protocolMPTCP   = 262
	diagReqProtocol = 3

	diagReqBytecode = 1
	diagRequestLen  = 56
	bytecodeLocal   = 7 // INET_DIAG_BC_S_COND
)

// ConnectionOptions choose what [Client.Connections] reads. The zero value reads everything that matters.
type ConnectionOptions struct {
	// States of the MPTCP sockets that are wanted; zero is AllStates.
	States StateSet
	// NoSubflows leaves out the walk over the TCP sockets, the larger part of the cost.
	NoSubflows bool
}

// joiner sorts subflows to their connections; its memory is used again.
type joiner struct {
	last     int
	subflows []Subflow
	index    map[uint32]int32
	counts   []int32
}

// Connections lists the MPTCP connections of the namespace with their subflows. Subflows are read after the
// connections, so a connection that began in between is missing whole, and one that ended can have none. The kernel
// shows subflows only to holders of CAP_NET_ADMIN; without it the list is returned with ErrPermission.
func (c *Client) Connections(opts ConnectionOptions) ([]Connection, error) {
	states := opts.States
	if states == 0 {
		states = AllStates
	}
	c.diag.Lock()
	defer c.diag.Unlock()
	list, err := c.dumpConnections(states)
	if err != nil {
		return nil, fail(opList, "connections", err)
	}
	if opts.NoSubflows || len(list) == 0 {
		return list, nil
	}
	j := &c.joiner
	if j.subflows, err = c.dumpSubflows(j.subflows[:0], netip.Addr{}); err != nil {
		return nil, fail(opList, "subflows", err)
	}
	if len(j.subflows) == 0 {
		if err := c.hidden(); err != nil {
			return list, err
		}
	}
	return j.join(list), nil
}

// SubflowsFrom lists the subflows whose local address is a, without their connections. The kernel picks them, so
// it is the cheap question whether anything uses an address. It needs CAP_NET_ADMIN as [Client.Connections] does.
func (c *Client) SubflowsFrom(a netip.Addr) ([]Subflow, error) {
	object := "subflows from " + a.String()
	if !a.IsValid() {
		return nil, &Error{Op: opList, Object: object, Errno: unix.EINVAL, Msg: "no address", Offset: -1}
	}
	c.diag.Lock()
	defer c.diag.Unlock()
	list, err := c.dumpSubflows(nil, a.Unmap())
	if err != nil {
		return nil, fail(opList, object, err)
	}
	if len(list) == 0 {
		return nil, c.hidden()
	}
	return list, nil
}

// hidden is asked when no subflow was seen: kernels differ in what of it they show to the unprivileged.
func (c *Client) hidden() error {
	_, err := c.probeSetFlagsByID()
	var r kernelReply
	if errors.As(err, &r) && (r.errno == unix.EPERM || r.errno == unix.EACCES) {
		return fail(opList, "subflows", err)
	}
	return nil
}

// ConnectionCounts counts without reading subflows.
func (c *Client) ConnectionCounts() (Counts, error) {
	list, err := c.Connections(ConnectionOptions{NoSubflows: true})
	if err != nil {
		return Counts{}, err
	}
	n := Counts{Connections: len(list)}
	for i := range list {
		if list[i].Fallback {
			n.Fallback++
		}
		if list[i].SubflowsTotal > 0 {
			n.Subflows += int(list[i].SubflowsTotal)
		} else {
			n.Subflows += 1 + int(list[i].ExtraSubflows)
		}
	}
	return n, nil
}

var families = [...]uint8{unix.AF_INET, unix.AF_INET6}

// dumpConnections reads the MPTCP sockets of both families.
func (c *Client) dumpConnections(states StateSet) ([]Connection, error) {
	// About as many as last time: growing the list would copy it several times.
	list := make([]Connection, 0, c.joiner.last)
	for _, family := range families {
		begin := len(list)
		r := diagRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP, diagHeader(family, states))
		r.AddData(nl.NewRtAttr(diagReqProtocol, nl.Uint32Attr(protocolMPTCP)))
		err := c.diag.dump(r, func() { list = list[:begin] }, func(b []byte) error {
			s, ok := parseDiag(b)
			if !ok {
				return errShort
			}
			list = append(list, Connection{})
			decodeConnection(&list[len(list)-1], &s)
			return nil
		})
		if err := withoutFamily(family, err); err != nil {
			return nil, err
		}
	}
	c.joiner.last = len(list) + len(list)/16
	return list, nil
}

// withoutFamily forgives a kernel that was built without IPv6. For IPv4 the same answer means that the MPTCP part
// of sock_diag is missing.
func withoutFamily(family uint8, err error) error {
	var r kernelReply
	if !errors.As(err, &r) || r.errno != unix.ENOENT {
		return err
	}
	if family == unix.AF_INET6 {
		return nil
	}
	return kernelReply{errno: unix.EOPNOTSUPP, msg: "no sock_diag for this protocol", offset: -1}
}

// dumpSubflows appends the TCP sockets of both families that are subflows, those with the local address from
// if that is given: an IPv6 socket's connection can have its first subflow in the IPv6 dump (with mapped
// addresses) and a join in the IPv4 one.
func (c *Client) dumpSubflows(list []Subflow, from netip.Addr) ([]Subflow, error) {
	for _, family := range families {
		begin := len(list)
		r := diagRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP, diagHeader(family, AllStates))
		if from.IsValid() {
			r.AddData(nl.NewRtAttr(diagReqBytecode, localAddress(from)))
		}
		err := c.diag.dump(r, func() { list = list[:begin] }, func(b []byte) error {
			s, ok := parseDiag(b)
			if !ok {
				return errShort
			}
			list = append(list, Subflow{})
			if !decodeSubflow(&list[len(list)-1], &s) {
				list = list[:len(list)-1]
			}
			return nil
		})
		if err := withoutFamily(family, err); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// localAddress is a filter of one condition (struct inet_diag_bc_op and inet_diag_hostcond). An IPv4 address
// matches mapped ones too. To jump beyond the end means no.
func localAddress(a netip.Addr) []byte {
	raw := a.AsSlice()
	family := uint8(unix.AF_INET)
	if a.Is6() {
		family = unix.AF_INET6
	}
	b := make([]byte, 12+len(raw))
	b[0], b[1] = bytecodeLocal, uint8(len(b))
	binary.NativeEndian.PutUint16(b[2:], uint16(len(b)+4))
	b[4], b[5] = family, uint8(8*len(raw))
	binary.NativeEndian.PutUint32(b[8:], ^uint32(0)) // any port
	copy(b[12:], raw)
	return b
}

// join hands each subflow to the connection with its token, all in one piece of memory. The kernel's walk goes by
// position and shows a connection twice when others come while it rests; the second is taken out of the list.
func (j *joiner) join(list []Connection) []Connection {
	if j.index == nil {
		j.index = make(map[uint32]int32, len(list))
	}
	clear(j.index)
	kept := list[:0]
	for i := range list {
		if _, twice := j.index[list[i].Token]; twice {
			continue
		}
		j.index[list[i].Token] = int32(len(kept))
		kept = append(kept, list[i])
	}
	list = kept
	j.counts = append(j.counts[:0], make([]int32, len(list))...)
	total := 0
	for k := range j.subflows {
		if i, ok := j.index[j.subflows[k].Token]; ok {
			j.counts[i]++
			total++
		}
	}
	all := make([]Subflow, total)
	for i, n := range j.counts {
		list[i].Subflows = all[:0:n]
		all = all[n:]
	}
	for k := range j.subflows {
		if i, ok := j.index[j.subflows[k].Token]; ok {
			list[i].Subflows = append(list[i].Subflows, j.subflows[k])
		}
	}
	return list
}

func diagRequest(typ, flags int, header fixed) *nl.NetlinkRequest {
	r := nl.NewNetlinkRequest(typ, flags)
	r.AddData(header)
	return r
}

// diagHeader is struct inet_diag_req_v2 with an empty socket id, which the library keeps to itself.
func diagHeader(family uint8, states StateSet) fixed {
	h := make(fixed, diagRequestLen)
	h[0], h[1], h[2] = family, unix.IPPROTO_TCP, 1<<(diagInfo-1)
	binary.NativeEndian.PutUint32(h[4:], uint32(states))
	return h
}

// DestroySubflow closes one subflow with a reset (SOCK_DESTROY), as ss -K does; no other socket is touched. The
// connection goes on with its other subflows and does not open this one again. The subflow must come from
// [Client.Connections]: the socket is named by its whole address and its cookie, so that no later socket with the
// same address can be meant. The error is ErrAbsent where it is gone, ErrUnsupported where the kernel was built
// without CONFIG_INET_DIAG_DESTROY.
//
// The library's SocketDestroy knows neither IPv6 nor cookie nor device.
func (c *Client) DestroySubflow(f Subflow) error {
	object := fmt.Sprintf("subflow %v -> %v", f.Local, f.Remote)
	v4 := f.Local.Addr().Is4() && f.Remote.Addr().Is4()
	if f.Cookie == 0 || !f.Local.IsValid() || !f.Remote.IsValid() || (f.Family == unix.AF_INET && !v4) {
		return &Error{Op: "destroy", Object: object, Errno: unix.EINVAL, Msg: "not a listed subflow", Offset: -1}
	}
	c.diag.Lock()
	defer c.diag.Unlock()
	header := diagHeader(f.Family, AllStates)
	id := header[8:]
	binary.BigEndian.PutUint16(id[0:], f.Local.Port())
	binary.BigEndian.PutUint16(id[2:], f.Remote.Port())
	putDiagAddr(id[4:20], f.Family, f.Local.Addr())
	putDiagAddr(id[20:36], f.Family, f.Remote.Addr())
	binary.NativeEndian.PutUint32(id[36:], uint32(f.IfIndex))
	binary.NativeEndian.PutUint32(id[40:], uint32(f.Cookie))
	binary.NativeEndian.PutUint32(id[44:], uint32(f.Cookie>>32))
	if err := c.diag.run(diagRequest(nl.SOCK_DESTROY, unix.NLM_F_ACK, header), nil); err != nil {
		return fail("destroy", object, err)
	}
	return nil
}

// putDiagAddr writes an address as the socket's own family has it: mapped on an IPv6 socket.
func putDiagAddr(b []byte, family uint8, a netip.Addr) {
	if family == unix.AF_INET {
		v := a.As4()
		copy(b, v[:])
		return
	}
	v := a.As16()
	copy(b, v[:])
}
