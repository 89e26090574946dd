package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Tunnel joins two hosts by a tun device on each, as a VPN does, but without packets on the network between them. The
// devices have a carrier as long as the test runs.
type Tunnel struct {
	A, B       *Host
	DevA, DevB string

	ends    [2]*os.File
	mu      sync.Mutex
	packets []string
}

// NewTunnel makes a tunnel with both devices up and without addresses.
func NewTunnel(a *Host, devA string, b *Host, devB string) *Tunnel {
	a.Lab.T.Helper()
	t := &Tunnel{A: a, B: b, DevA: devA, DevB: devB}
	fa, fb := a.openTun(devA), b.openTun(devB)
	t.ends = [2]*os.File{fa, fb}
	a.Lab.onClose(t.Close)
	go pump(fa, fb, t.note)
	go pump(fb, fa, func([]byte) {})
	return t
}

// Close ends the tunnel: both devices are gone, with their addresses and routes.
func (t *Tunnel) Close() {
	for _, f := range t.ends {
		f.Close()
	}
}

// VPN joins client and router by tun0: 10.88.0.2/24 and 2001:db8:88::2/64 on the client, ::1 and .1 on the router. It adds
// no routes: what goes through the tunnel is for the test to say, by ip.
func (n *Net) VPN() *Tunnel {
	n.T.Helper()
	t := NewTunnel(n.Client, "tun0", n.Router, "tun0")
	n.Client.IP("addr add 10.88.0.2/24 dev tun0", "addr add 2001:db8:88::2/64 dev tun0 nodad")
	n.Router.IP("addr add 10.88.0.1/24 dev tun0", "addr add 2001:db8:88::1/64 dev tun0 nodad")
	return t
}

// Packets lists what A has sent through the tunnel, as "10.88.0.2 > 10.9.0.2"; the last thousand.
func (t *Tunnel) Packets() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.packets...)
}

func (t *Tunnel) note(p []byte) {
	var src, dst netip.Addr
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		src, dst = netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20]))
	case len(p) >= 40 && p[0]>>4 == 6:
		src, dst = netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40]))
	default:
		return
	}
	if dst.IsMulticast() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.packets = append(t.packets, fmt.Sprintf("%s > %s", src, dst))
	if len(t.packets) > 1000 {
		t.packets = t.packets[1:]
	}
}

func pump(from, to *os.File, see func([]byte)) {
	b := make([]byte, 65536)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		see(b[:n])
		_, _ = to.Write(b[:n]) // a device that is down refuses packets
	}
}

func (h *Host) openTun(dev string) *os.File {
	h.Lab.T.Helper()
	var f *os.File
	h.Do(func() {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			h.Lab.T.Fatalf("open /dev/net/tun: %v", err)
		}
		req, err := unix.NewIfreq(dev)
		if err == nil {
			req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
			// A program that is being started holds the file of a tunnel that was closed until it is executed.
			for late := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
				if err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req); !errors.Is(err, unix.EBUSY) || time.Now().After(late) {
					break
				}
			}
		}
		if err != nil {
			unix.Close(fd)
			h.Lab.T.Fatalf("[%s] make tun device %s: %v", h.Name, dev, err)
		}
		// Only after TUNSETIFF can the file be polled.
		f = os.NewFile(uintptr(fd), "/dev/net/tun")
	})
	h.IP("link set " + dev + " up")
	return f
}
