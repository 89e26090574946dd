package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/pkg/mptcp"
)

// Options of level SOL_MPTCP (include/uapi/linux/mptcp.h).
const (
	solMPTCP          = 284
	optInfo           = 1
	optTCPInfo        = 2
	optSubflowAddrs   = 3
	sizeSubflowData   = 16  // struct mptcp_subflow_data
	sizeSubflowAddrs  = 256 // struct mptcp_subflow_addrs
	sizeTCPInfo       = 72  // struct tcp_info up to tcpi_rtt
	offsetRemoteAddr  = 128 // in struct mptcp_subflow_addrs
	offsetRTT         = 68  // tcpi_rtt, in microseconds
	mostSubflows      = 80  // of one connection: 64 joins from Linux 7.2 on, and the first
	protocolMPTCP     = 262 // IPPROTO_MPTCP
	infoFallback      = 1   // MPTCP_INFO_FLAG_FALLBACK
	stateEstablished  = 1   // TCP_ESTABLISHED
	offsetSubflowsMax = 3   // mptcpi_subflows_max
	offsetFlags       = 8   // mptcpi_flags
	offsetToken       = 12  // mptcpi_token
)

// socket is a connection as the kernel has it: package net hides whether it is
// Multipath TCP, and falls back without a word.
type socket struct {
	fd int
}

// via is what a socket is bound to; the zero value is nothing.
type via struct {
	link string
	from netip.Addr
}

// dial connects with a protocol (unix.IPPROTO_TCP, protocolMPTCP) until a
// time. The error wraps the errno; ETIMEDOUT is also that of the time.
func dial(protocol int, to netip.AddrPort, v via, until time.Time) (*socket, error) {
	domain := unix.AF_INET
	if to.Addr().Is6() {
		domain = unix.AF_INET6
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	s := &socket{fd}
	if err := s.connect(to, v, until); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *socket) connect(to netip.AddrPort, v via, until time.Time) error {
	if v.link != "" {
		if err := unix.BindToDevice(s.fd, v.link); err != nil {
			return fmt.Errorf("bind to %s: %w", v.link, err)
		}
	}
	if v.from.IsValid() {
		if err := unix.Bind(s.fd, sockaddr(netip.AddrPortFrom(v.from, 0))); err != nil {
			return fmt.Errorf("bind to %s: %w", v.from, err)
		}
	}
	err := unix.Connect(s.fd, sockaddr(to))
	if errors.Is(err, unix.EINPROGRESS) {
		if err = s.poll(unix.POLLOUT, until); err == nil {
			var soerr int
			if soerr, err = unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && soerr != 0 {
				err = unix.Errno(soerr)
			}
		}
	}
	if err != nil {
		return os.NewSyscallError("connect", err)
	}
	return nil
}

// poll waits for events; ETIMEDOUT: none came.
func (s *socket) poll(events int16, until time.Time) error {
	for {
		left := time.Until(until)
		if left <= 0 {
			return unix.ETIMEDOUT
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: events}}, int(left.Milliseconds())+1)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case n > 0:
			return nil
		}
	}
}

func (s *socket) close() { unix.Close(s.fd) }

// local is the address of this end; invalid: it has none.
func (s *socket) local() netip.AddrPort {
	sa, err := unix.Getsockname(s.fd)
	if err != nil {
		return netip.AddrPort{}
	}
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// unacknowledged is how many bytes the peer has not acknowledged; -1: the
// kernel does not say (before 5.18).
func (s *socket) unacknowledged() int {
	n, err := unix.IoctlGetInt(s.fd, unix.SIOCOUTQ)
	if err != nil {
		return -1
	}
	return n
}

// info is part of struct mptcp_info.
type info struct {
	mptcp       bool // false: the connection fell back to TCP
	token       uint32
	subflowsMax int // limit of further subflows
}

// info reads MPTCP_INFO, which fails on a connection that fell back.
func (s *socket) info() info {
	b := make([]byte, 64)
	n, err := s.getsockopt(optInfo, b)
	if err != nil {
		return info{}
	}
	return decodeInfo(b[:min(n, len(b))])
}

// decodeInfo reads struct mptcp_info as far as the kernel has it.
func decodeInfo(b []byte) info {
	if len(b) < offsetToken+4 || binary.NativeEndian.Uint32(b[offsetFlags:])&infoFallback != 0 {
		return info{}
	}
	return info{mptcp: true, token: binary.NativeEndian.Uint32(b[offsetToken:]), subflowsMax: int(b[offsetSubflowsMax])}
}

// subflow is one TCP connection of a socket.
type subflow struct {
	local, remote netip.AddrPort
	established   bool
	rtt           time.Duration
}

// subflows lists those that the kernel holds, in any state; none when they
// changed while they were read. It needs no privilege; the error is EOPNOTSUPP
// after a fallback, and before Linux 5.16.
func (s *socket) subflows() ([]subflow, error) {
	before, err := s.array(optSubflowAddrs, sizeSubflowAddrs)
	if err != nil {
		return nil, err
	}
	tcp, err := s.array(optTCPInfo, sizeTCPInfo)
	if err != nil {
		return nil, err
	}
	addrs, err := s.array(optSubflowAddrs, sizeSubflowAddrs)
	if err != nil || len(addrs) != len(tcp) || string(flat(before)) != string(flat(addrs)) {
		return nil, err
	}
	out := make([]subflow, len(addrs))
	for i := range addrs {
		out[i] = decodeSubflow(addrs[i], tcp[i])
	}
	return out, nil
}

// decodeSubflow reads struct mptcp_subflow_addrs and the beginning of struct
// tcp_info.
func decodeSubflow(addrs, tcp []byte) subflow {
	return subflow{
		local: addrPort(addrs), remote: addrPort(addrs[offsetRemoteAddr:]),
		established: tcp[0] == stateEstablished,
		rtt:         time.Duration(binary.NativeEndian.Uint32(tcp[offsetRTT:])) * time.Microsecond,
	}
}

// diagSubflows is the same by sock_diag, for kernels whose sockets do not say.
// It needs CAP_NET_ADMIN.
func diagSubflows(c *mptcp.Client, token uint32) ([]subflow, error) {
	if c == nil {
		return nil, unix.EOPNOTSUPP
	}
	conns, err := c.Connections(mptcp.ConnectionOptions{})
	if err != nil {
		return nil, err
	}
	var out []subflow
	for i := range conns {
		for _, f := range conns[i].Subflows {
			if conns[i].Token == token {
				out = append(out, subflow{f.Local, f.Remote, f.State == mptcp.StateEstablished, f.RTT})
			}
		}
	}
	return out, nil
}

func flat(parts [][]byte) (all []byte) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// array reads an option that has one element for each subflow.
func (s *socket) array(opt, size int) ([][]byte, error) {
	b := make([]byte, sizeSubflowData+mostSubflows*size)
	binary.NativeEndian.PutUint32(b[0:], sizeSubflowData)
	binary.NativeEndian.PutUint32(b[12:], uint32(size))
	if _, err := s.getsockopt(opt, b); err != nil {
		return nil, err
	}
	return elements(b, size), nil
}

// elements are the parts of an array behind struct mptcp_subflow_data, which
// counts all subflows, those for which there was no room too.
func elements(b []byte, size int) [][]byte {
	n := min(binary.NativeEndian.Uint32(b[4:]), uint32(len(b)-sizeSubflowData)/uint32(size))
	out := make([][]byte, n)
	for i := range out {
		at := sizeSubflowData + i*size
		out[i] = b[at : at+size]
	}
	return out
}

func (s *socket) getsockopt(opt int, b []byte) (int, error) {
	n := uint32(len(b))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), solMPTCP, uintptr(opt),
		uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return 0, os.NewSyscallError("getsockopt", errno)
	}
	return int(n), nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// addrPort reads a struct sockaddr_in or sockaddr_in6.
func addrPort(b []byte) netip.AddrPort {
	port := binary.BigEndian.Uint16(b[2:])
	if binary.NativeEndian.Uint16(b) == unix.AF_INET6 {
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])).Unmap(), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), port)
}
