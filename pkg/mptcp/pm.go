package mptcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Top-level attributes and those of an address (include/uapi/linux/mptcp_pm.h).
const (
	attrAddr        = 1
	attrRcvAddAddrs = 2
	attrSubflows    = 3

	addrFamily  = 1
	addrID      = 2
	addr4Attr   = 3
	addr6Attr   = 4
	addrPort    = 5
	addrFlags   = 6
	addrIfIndex = 7
)

// What was asked, in errors.
const (
	opList   = "list"
	opGet    = "get"
	opAdd    = "add"
	opDelete = "delete"
	opFlush  = "flush"
	opSet    = "set"
	opFlags  = "set flags of"
)

// request makes a request to the path manager.
func (c *Client) request(cmd uint8, flags int, attrs ...nl.NetlinkRequestData) *nl.NetlinkRequest {
	r := nl.NewNetlinkRequest(int(c.family.id), flags)
	r.AddData(fixed{cmd, pmVersion, 0, 0}) // struct genlmsghdr
	for _, a := range attrs {
		r.AddData(a)
	}
	return r
}

// fixed is the fixed header of a request. The library's Genlmsg serializes four bytes of a struct of two, and newer
// commands refuse what happens to lie behind.
type fixed []byte

// Len is part of nl.NetlinkRequestData.
func (f fixed) Len() int { return len(f) }

// Serialize is part of nl.NetlinkRequestData.
func (f fixed) Serialize() []byte { return f }

// addressNest is the nest that names an endpoint, as it is sent: the library's attributes are objects of their own, and
// every new path waits for the request.
type addressNest struct{ b []byte }

func newNest() *addressNest {
	n := &addressNest{b: make([]byte, unix.SizeofNlAttr, 64)}
	binary.NativeEndian.PutUint16(n.b[2:], attrAddr|unix.NLA_F_NESTED)
	return n
}

// Len is part of nl.NetlinkRequestData.
func (n *addressNest) Len() int { return len(n.b) }

// Serialize is part of nl.NetlinkRequestData.
func (n *addressNest) Serialize() []byte {
	binary.NativeEndian.PutUint16(n.b, uint16(len(n.b)))
	return n.b
}

// attr appends an attribute and returns the room for its value.
func (n *addressNest) attr(typ uint16, size int) []byte {
	at := len(n.b)
	n.b = append(n.b, make([]byte, unix.SizeofNlAttr+align4(size))...)
	binary.NativeEndian.PutUint16(n.b[at:], uint16(unix.SizeofNlAttr+size))
	binary.NativeEndian.PutUint16(n.b[at+2:], typ)
	return n.b[at+unix.SizeofNlAttr:][:size]
}

func (n *addressNest) address(a netip.Addr) {
	if a.Is4() {
		n.u16(addrFamily, unix.AF_INET)
		v := a.As4()
		copy(n.attr(addr4Attr, len(v)), v[:])
		return
	}
	n.u16(addrFamily, unix.AF_INET6)
	v := a.As16()
	copy(n.attr(addr6Attr, len(v)), v[:])
}

func (n *addressNest) u8(typ uint16, v uint8)   { n.attr(typ, 1)[0] = v }
func (n *addressNest) u16(typ uint16, v uint16) { binary.NativeEndian.PutUint16(n.attr(typ, 2), v) }
func (n *addressNest) u32(typ uint16, v uint32) { binary.NativeEndian.PutUint32(n.attr(typ, 4), v) }

// Endpoints lists the endpoints in the order of their ids. It needs no privilege on current kernels.
func (c *Client) Endpoints() ([]Endpoint, error) {
	c.genl.Lock()
	defer c.genl.Unlock()
	var list []Endpoint
	err := c.genl.dump(c.request(cmdGetAddr, unix.NLM_F_DUMP), func() { list = list[:0] }, func(b []byte) error {
		e, err := decodeEndpoint(b)
		if err == nil {
			list = append(list, e)
		}
		return err
	})
	if err != nil {
		return nil, fail(opList, "endpoints", err)
	}
	return list, nil
}

// Endpoint reads one endpoint by its id. The error is ErrAbsent where there is none.
func (c *Client) Endpoint(id uint8) (Endpoint, error) {
	c.genl.Lock()
	defer c.genl.Unlock()
	var e Endpoint
	nest := newNest()
	nest.u8(addrID, id)
	err := c.genl.run(c.request(cmdGetAddr, unix.NLM_F_ACK, nest), func(b []byte) (err error) {
		e, err = decodeEndpoint(b)
		return err
	})
	if err != nil {
		return Endpoint{}, fail(opGet, "endpoint id "+strconv.Itoa(int(id)), err)
	}
	return e, nil
}

// AddEndpoint adds an endpoint. With id 0 the kernel chooses one, which only a fresh [Client.Endpoints] tells;
// after an explicit id its own numbering goes on from there. The errors are ErrExist, ErrBusy for an id in use,
// ErrFull and ErrPermission. An implicit endpoint with the same address is replaced, and its id kept, if the id
// is 0, and makes the call fail with EINVAL otherwise. The call takes about 50 microseconds. Current connections
// that know the peer's address open their subflow at once, and try it only once.
func (c *Client) AddEndpoint(e Endpoint) error {
	if !e.Addr.IsValid() {
		return &Error{Op: opAdd, Object: "endpoint " + e.String(), Errno: unix.EINVAL, Msg: "no address", Offset: -1}
	}
	err := c.addEndpoint(e)
	if err == nil {
		return nil
	}
	err = fail(opAdd, "endpoint "+e.String(), err)
	if k := (*Error)(nil); errors.As(err, &k) && k.Errno == unix.EINVAL && strings.Contains(k.Msg, textDuplicate) {
		k.meaning = c.whyNotAdded(e)
	}
	return err
}

func (c *Client) addEndpoint(e Endpoint) error {
	c.genl.Lock()
	defer c.genl.Unlock()
	nest := newNest()
	nest.address(e.Addr)
	if e.ID != 0 {
		nest.u8(addrID, e.ID)
	}
	if e.Port != 0 {
		nest.u16(addrPort, e.Port)
	}
	nest.u32(addrFlags, uint32(e.Flags))
	if e.IfIndex != 0 {
		nest.u32(addrIfIndex, uint32(e.IfIndex))
	}
	return c.genl.run(c.request(cmdAddAddr, unix.NLM_F_ACK, nest), nil)
}

// whyNotAdded tells apart the three causes that kernels such as 6.1 report alike. An address that an implicit
// endpoint has, asked for with an id, is none of them.
func (c *Client) whyNotAdded(e Endpoint) error {
	list, unknown := c.Endpoints()
	var meaning error
	if unknown == nil {
		meaning = ErrFull
	}
	for _, x := range list {
		switch {
		case x.Addr.Unmap() == e.Addr.Unmap() && (x.Port == 0 || e.Port == 0 || x.Port == e.Port):
			if x.Flags&FlagImplicit != 0 {
				return nil
			}
			return ErrExist
		case e.ID != 0 && x.ID == e.ID:
			meaning = ErrBusy
		}
	}
	return meaning
}

// DeleteEndpoint deletes the endpoint with e's id and closes its subflows, in every connection; nothing else of e
// is looked at, so take it from a fresh [Client.Endpoints]. The call takes about 10 ms (the kernel waits for an
// RCU grace period), though the effect comes before. The error is ErrAbsent where the id is not in use.
//
// An id of 0 is refused with ErrNoID. To the kernel it does not mean "find the id by the address" but the id on
// the wire of every connection's initial subflow: the endpoint would stay, and the initial subflow of each
// connection from that address would be closed. [Client.CloseInitialSubflows] is the call for that.
func (c *Client) DeleteEndpoint(e Endpoint) error {
	if e.ID == 0 {
		return fmt.Errorf("%s endpoint %s: %w", opDelete, e, ErrNoID)
	}
	c.genl.Lock()
	defer c.genl.Unlock()
	nest := newNest()
	nest.u8(addrID, e.ID)
	if err := c.genl.run(c.request(cmdDelAddr, unix.NLM_F_ACK, nest), nil); err != nil {
		return fail(opDelete, "endpoint "+e.String(), err)
	}
	return nil
}

// CloseInitialSubflows closes, in every connection that was opened from or accepted on the address, the subflows
// whose local id on the wire is 0, and tells the peers that the address with id 0 is gone. On the side that opened
// the connection that is the initial subflow; on the side that accepted it, also every join to the same address. A
// connection without another subflow ends after net.mptcp.close_timeout. No endpoint is changed.
func (c *Client) CloseInitialSubflows(a netip.Addr) error {
	object := "initial subflows of " + a.String()
	if !a.IsValid() {
		return &Error{Op: "close", Object: object, Errno: unix.EINVAL, Msg: "no address", Offset: -1}
	}
	c.genl.Lock()
	defer c.genl.Unlock()
	nest := newNest()
	nest.address(a)
	nest.u8(addrID, 0)
	if err := c.genl.run(c.request(cmdDelAddr, unix.NLM_F_ACK, nest), nil); err != nil {
		return fail("close", object, err)
	}
	return nil
}

// FlushEndpoints deletes every endpoint, whoever added it, and closes their subflows.
func (c *Client) FlushEndpoints() error {
	c.genl.Lock()
	defer c.genl.Unlock()
	if err := c.genl.run(c.request(cmdFlushAddrs, unix.NLM_F_ACK), nil); err != nil {
		return fail(opFlush, "endpoints", err)
	}
	return nil
}

// SetFlags changes backup and fullmesh of an endpoint in place, and of its subflows: a flag of the two that is
// absent from flags is cleared, the other flags cannot be changed and are ignored. Changing fullmesh closes the
// endpoint's subflows and opens them anew.
//
// e names the endpoint: if it has an address the kernel goes by that and does not look at the id, so both is best.
// By the id alone works from 5.17 on (ErrUnsupported before). The error is ErrAbsent where there is none.
func (c *Client) SetFlags(e Endpoint, flags Flags) error {
	if e.ID == 0 && !e.Addr.IsValid() {
		return fmt.Errorf("%s endpoint: %w", opFlags, ErrNoID)
	}
	c.genl.Lock()
	defer c.genl.Unlock()
	nest := newNest()
	if e.Addr.IsValid() {
		nest.address(e.Addr)
		if e.Port != 0 {
			nest.u16(addrPort, e.Port)
		}
	}
	if e.ID != 0 {
		nest.u8(addrID, e.ID)
	}
	nest.u32(addrFlags, uint32(flags))
	if err := c.genl.run(c.request(cmdSetFlags, unix.NLM_F_ACK, nest), nil); err != nil {
		return fail(opFlags, "endpoint "+e.String(), err)
	}
	return nil
}

// Limits reads the limits. It needs no privilege on current kernels.
func (c *Client) Limits() (Limits, error) {
	c.genl.Lock()
	defer c.genl.Unlock()
	var l Limits
	err := c.genl.run(c.request(cmdGetLimits, unix.NLM_F_ACK), func(b []byte) error {
		l = decodeLimits(b)
		return nil
	})
	if err != nil {
		return Limits{}, fail(opGet, "limits", err)
	}
	return l, nil
}

// SetLimits sets both limits. A value above the kernel's maximum ([Features.MaxLimit]) is refused with EINVAL and
// nothing is changed.
func (c *Client) SetLimits(l Limits) error {
	if err := c.setLimits(l); err != nil {
		return fail(opSet, "limits "+l.String(), err)
	}
	return nil
}

func (c *Client) setLimits(l Limits) error {
	c.genl.Lock()
	defer c.genl.Unlock()
	return c.genl.run(c.request(cmdSetLimits, unix.NLM_F_ACK,
		nl.NewRtAttr(attrRcvAddAddrs, nl.Uint32Attr(l.AddAddrAccepted)), nl.NewRtAttr(attrSubflows, nl.Uint32Attr(l.Subflows))), nil)
}

var errShort = errors.New("the kernel's answer is cut short")

// decodeEndpoint reads an answer to GET_ADDR.
func decodeEndpoint(b []byte) (Endpoint, error) {
	var e Endpoint
	if len(b) < unix.GENL_HDRLEN {
		return e, errShort
	}
	top := attrs(b[unix.GENL_HDRLEN:])
	for typ, nest, ok := top.next(); ok; typ, nest, ok = top.next() {
		if typ != attrAddr {
			continue
		}
		a := attrs(nest)
		for typ, v, ok := a.next(); ok; typ, v, ok = a.next() {
			switch typ {
			case addrID:
				e.ID = u8At(v, 0)
			case addr4Attr:
				e.Addr = addr4(v)
			case addr6Attr:
				e.Addr = addr6(v)
			case addrPort:
				e.Port = u16At(v, 0)
			case addrFlags:
				e.Flags = Flags(u32At(v, 0))
			case addrIfIndex:
				e.IfIndex = int32(u32At(v, 0))
			}
		}
	}
	if e.ID == 0 || !e.Addr.IsValid() {
		return e, errShort
	}
	return e, nil
}

func decodeLimits(b []byte) Limits {
	var l Limits
	if len(b) < unix.GENL_HDRLEN {
		return l
	}
	a := attrs(b[unix.GENL_HDRLEN:])
	for typ, v, ok := a.next(); ok; typ, v, ok = a.next() {
		switch typ {
		case attrRcvAddAddrs:
			l.AddAddrAccepted = u32At(v, 0)
		case attrSubflows:
			l.Subflows = u32At(v, 0)
		}
	}
	return l
}
