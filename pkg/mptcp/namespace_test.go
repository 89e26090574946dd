package mptcp

import (
	"fmt"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is for conditions that come true at once on an idle machine.
const patience = 20 * time.Second

// newNamespace moves the test's goroutine and its thread into a network namespace of their own, with lo up. The
// thread is never unlocked: it ends with the test and takes the namespace along.
func newNamespace(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		if unix.Geteuid() != 0 {
			t.Skip("needs root for a network namespace")
		}
		t.Fatalf("unshare network namespace: %v", err)
	}
	ip(t, "link", "set", "lo", "up")
}

// ip runs ip(8) in the namespace of the test's thread.
func ip(t testing.TB, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("ip")
	if err != nil {
		t.Fatal("ip is missing: install the Debian package iproute2")
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// kernelAtLeast is for what older kernels cannot be held to.
func kernelAtLeast(t testing.TB, major, minor int) bool {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	var x, y int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &x, &y); err != nil {
		t.Fatal(err)
	}
	return x > major || (x == major && y >= minor)
}

func dial(t testing.TB) *Client {
	t.Helper()
	c, err := Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// eventually waits until the condition holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

func closeOnCleanup(t testing.TB, fd int) {
	t.Cleanup(func() { unix.Close(fd) })
}

func sockaddr(ap netip.AddrPort) (int, unix.Sockaddr) {
	if ap.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(ap.Port()), Addr: ap.Addr().As16()}
}

// socket makes an MPTCP socket in the thread's namespace; sockets of package net could be made on another thread.
func socket(t testing.TB, family int) int {
	t.Helper()
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, protocolMPTCP)
	if err != nil {
		t.Fatalf("socket: %v", err)
	}
	tv := unix.NsecToTimeval(int64(patience))
	for _, opt := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, opt, &tv); err != nil {
			t.Fatal(err)
		}
	}
	return fd
}

// listen gives a listening MPTCP socket and its address.
func listen(t testing.TB, at string) (int, netip.AddrPort) {
	t.Helper()
	family, sa := sockaddr(netip.MustParseAddrPort(at))
	fd := socket(t, family)
	closeOnCleanup(t, fd)
	if err := unix.Bind(fd, sa); err != nil {
		t.Fatalf("bind %s: %v", at, err)
	}
	if err := unix.Listen(fd, 1024); err != nil {
		t.Fatal(err)
	}
	return fd, sockName(t, fd)
}

func sockName(t testing.TB, fd int) netip.AddrPort {
	t.Helper()
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	t.Fatalf("unexpected address %T", sa)
	return netip.AddrPort{}
}

// pair is the two ends of one connection.
type pair struct{ client, server int }

func (p *pair) close() {
	for _, fd := range []*int{&p.client, &p.server} {
		if *fd >= 0 {
			unix.Close(*fd)
		}
		*fd = -1
	}
}

// connect opens a connection from an address (or from none in particular) to the listener.
func connect(t testing.TB, listener int, to netip.AddrPort, from string) *pair {
	t.Helper()
	family, sa := sockaddr(to)
	fd := socket(t, family)
	p := &pair{fd, -1}
	t.Cleanup(p.close)
	if from != "" {
		_, local := sockaddr(netip.AddrPortFrom(netip.MustParseAddr(from), 0))
		if err := unix.Bind(fd, local); err != nil {
			t.Fatalf("bind %s: %v", from, err)
		}
	}
	if err := unix.Connect(fd, sa); err != nil {
		t.Fatalf("connect %v: %v", to, err)
	}
	server, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatalf("accept: %v", err)
	}
	p.server = server
	p.exchange(t)
	return p
}

// exchange sends a byte each way: the connection is fully established after that.
func (p *pair) exchange(t testing.TB) {
	t.Helper()
	var b [1]byte
	for _, way := range [][2]int{{p.client, p.server}, {p.server, p.client}} {
		if _, err := unix.Write(way[0], b[:]); err != nil {
			t.Fatalf("write: %v", err)
		}
		for {
			_, err := unix.Read(way[1], b[:])
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				t.Fatalf("read: %v", err)
			}
			break
		}
	}
}
