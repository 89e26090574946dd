package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// DialOption changes how Dial, TryDial and Listen make their socket.
type DialOption func(*dialOptions)

type dialOptions struct {
	proto   int
	from    netip.Addr
	dev     string
	timeout time.Duration
}

// From binds to a source address.
func From(addr string) DialOption {
	return func(o *dialOptions) { o.from = netip.MustParseAddr(addr) }
}

// Dev binds to a device by SO_BINDTODEVICE.
func Dev(dev string) DialOption { return func(o *dialOptions) { o.dev = dev } }

// TCP uses plain TCP in place of MPTCP.
func TCP() DialOption { return func(o *dialOptions) { o.proto = unix.IPPROTO_TCP } }

// Within limits the time that connecting may take; without it that is 10 s.
func Within(d time.Duration) DialOption { return func(o *dialOptions) { o.timeout = d } }

func dialOpts(opts []DialOption) *dialOptions {
	o := &dialOptions{proto: unix.IPPROTO_MPTCP, timeout: Patient(10 * time.Second)}
	for _, f := range opts {
		f(o)
	}
	return o
}

// open makes a non-blocking socket; it belongs to the namespace of the calling thread. Package net is not asked: it
// falls back to TCP without a word.
func (o *dialOptions) open(remote netip.AddrPort) (int, error) {
	domain := unix.AF_INET
	if remote.Addr().Is6() {
		domain = unix.AF_INET6
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, o.proto)
	if err != nil {
		return -1, fmt.Errorf("make socket of protocol %d: %w", o.proto, err)
	}
	if o.dev != "" {
		if err := unix.BindToDevice(fd, o.dev); err != nil {
			unix.Close(fd)
			return -1, fmt.Errorf("bind to device %s: %w", o.dev, err)
		}
	}
	return fd, nil
}

func (o *dialOptions) connect(remote netip.AddrPort) (net.Conn, error) {
	fd, err := o.open(remote)
	if err != nil {
		return nil, err
	}
	defer func() { unix.Close(fd) }()
	if o.from.IsValid() {
		if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(o.from, 0))); err != nil {
			return nil, fmt.Errorf("bind to %s: %w", o.from, err)
		}
	}
	err = unix.Connect(fd, sockaddr(remote))
	if errors.Is(err, unix.EINPROGRESS) {
		err = connected(fd, o.timeout)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", remote, err)
	}
	f := os.NewFile(uintptr(fd), "socket")
	c, err := net.FileConn(f)
	fd = -1
	f.Close()
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetKeepAlive(false)
	}
	return c, err
}

// connected waits for the end of a connect.
func connected(fd int, timeout time.Duration) error {
	late := time.Now().Add(timeout)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, int(time.Until(late).Milliseconds())+1)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case n == 0 && time.Now().After(late):
			return unix.ETIMEDOUT
		case n == 0:
			continue
		}
		soerr, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && soerr != 0 {
			err = unix.Errno(soerr)
		}
		return err
	}
}

func (o *dialOptions) listen(local netip.AddrPort) (net.Listener, error) {
	fd, err := o.open(local)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "listener")
	defer f.Close()
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err := unix.Bind(fd, sockaddr(local)); err != nil {
		return nil, fmt.Errorf("bind to %s: %w", local, err)
	}
	if err := unix.Listen(fd, 64); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", local, err)
	}
	return net.FileListener(f)
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
