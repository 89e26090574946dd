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

	// getSockTCP is TCPDIAG_GETSOCK, the request from before SOCK_DIAG_BY_FAMILY, with struct inet_diag_req.
	getSockTCP       = 18
	getSockTCPLen    = 60
	getSockTCPStates = 52
)

// SubflowsFrom lists the subflows whose local address is a, without their connections. The kernel picks them, so
// it is the cheap question whether anything uses an address. It needs CAP_NET_ADMIN as [Client.Connections] does.
func (c *Client) SubflowsFrom(a netip.Addr) ([]Subflow, error) {
	object := "subflows from " + a.String()
	if !a.IsValid() {
		return nil, &Error{Op: opList, Object: object, Errno: unix.EINVAL, Msg: "no address", Offset: -1}
	}
	c.diag.Lock()
	defer c.diag.Unlock()
	var list []Subflow
	err := c.diag.dump(subflowRequest(a.Unmap()), func() { list = list[:0] }, eachSubflow(func(f *Subflow) { list = append(list, *f) }))
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

var families = [...]uint8{unix.AF_INET, unix.AF_INET6}

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

// subflowRequest dumps the TCP sockets, those with the local address from if that is given. It is the old request,
// which shows both families in one walk (inet_diag_dump_compat makes it AF_UNSPEC; the new one refuses that): the
// kernel's table of sockets is large, it is shared by all namespaces, and a second walk would cost a fifth more.
func subflowRequest(from netip.Addr) *nl.NetlinkRequest {
	h := make(fixed, getSockTCPLen)
	h[3] = 1 << (diagInfo - 1)
	binary.NativeEndian.PutUint32(h[getSockTCPStates:], uint32(AllStates))
	r := diagRequest(getSockTCP, unix.NLM_F_DUMP, h)
	if from.IsValid() {
		r.AddData(nl.NewRtAttr(diagReqBytecode, localAddress(from)))
	}
	return r
}

// eachSubflow decodes the answers of that dump and gives what is a subflow to take, in memory that is used again.
func eachSubflow(take func(*Subflow)) func([]byte) error {
	var f Subflow
	return func(b []byte) error {
		s, ok := parseDiag(b)
		if !ok {
			return errShort
		}
		if decodeSubflow(&f, &s) {
			take(&f)
		}
		return nil
	}
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
