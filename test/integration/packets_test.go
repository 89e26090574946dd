package integration

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/test/lab"
)

// discard is the port of datagrams that nobody reads.
const discard = 9

// sink takes datagrams and never reads them, so that no ICMP error answers them.
func sink(h *lab.Host, addr string) {
	h.Lab.T.Helper()
	fd := datagram(h, addr, discard)
	h.Lab.T.Cleanup(func() { unix.Close(fd) })
}

func datagram(h *lab.Host, addr string, port int) int {
	h.Lab.T.Helper()
	var fd int
	var err error
	h.Do(func() {
		family, sa := sockaddr(addr, port)
		if fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err == nil {
			err = unix.Bind(fd, sa)
		}
	})
	if err != nil {
		h.Lab.T.Fatalf("[%s] datagram socket on %s: %v", h.Name, addr, err)
	}
	return fd
}

func sockaddr(addr string, port int) (int, unix.Sockaddr) {
	a := netip.MustParseAddr(addr)
	if a.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: port, Addr: a.As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: port, Addr: a.As16()}
}

// flood sends datagrams from an address, thousands in a second, each with a route lookup of its own, until the returned
// function is called; that tells how many were sent, and the first error.
func flood(h *lab.Host, src, dst string) (stop func() (int, error)) {
	h.Lab.T.Helper()
	fd := datagram(h, src, 0)
	_, to := sockaddr(dst, discard)
	var quit atomic.Bool
	done := make(chan struct{})
	var sent int
	var failed error
	go func() {
		defer close(done)
		defer unix.Close(fd)
		for ; !quit.Load(); time.Sleep(50 * time.Microsecond) {
			switch err := unix.Sendto(fd, []byte("datagram"), 0, to); err {
			case nil:
				sent++
			case unix.EAGAIN, unix.ENOBUFS:
			default:
				if failed == nil {
					failed = fmt.Errorf("send from %s to %s after %d: %w", src, dst, sent, err)
				}
			}
		}
	}()
	return func() (int, error) {
		quit.Store(true)
		<-done
		return sent, failed
	}
}

var packetCount = regexp.MustCompile(`packets (\d+)`)

// packets reads a counter of table watch.
func packets(h *lab.Host, counter string) uint64 {
	h.Lab.T.Helper()
	out := h.Run("nft", "list", "counter", "inet", "watch", counter)
	m := packetCount.FindStringSubmatch(out)
	if m == nil {
		h.Lab.T.Fatalf("nft list counter: %s", out)
	}
	v, _ := strconv.ParseUint(m[1], 10, 64)
	return v
}

// wayOut is where the kernel sends a packet, "dev eth0 via 10.1.1.1", "dev eth0", or "none": the answer of
// ip route get without the table and the source.
func wayOut(h *lab.Host, dst, selector string) string {
	family := "-4"
	if strings.Contains(dst, ":") {
		family = "-6"
	}
	out, err := h.Try("ip", append([]string{family, "route", "get", dst}, strings.Fields(selector)...)...)
	w := strings.Fields(out)
	if err != nil || len(w) == 0 || w[0] == "unreachable" || w[0] == "blackhole" || w[0] == "prohibit" {
		return "none"
	}
	r := map[string]string{}
	for i := 0; i+1 < len(w); i++ {
		if w[i] == "dev" || w[i] == "via" {
			r[w[i]] = w[i+1]
		}
	}
	if r["via"] == "" {
		return "dev " + r["dev"]
	}
	return "dev " + r["dev"] + " via " + r["via"]
}

// way is a lookup and where it leads.
type way struct{ dst, selector, want string }

// checkWays compares all of them.
func checkWays(h *lab.Host, ways []way) error {
	for _, w := range ways {
		if found := wayOut(h, w.dst, w.selector); found != w.want {
			return fmt.Errorf("[%s] ip route get %s %s\n  wanted: %s\n  found:  %s", h.Name, w.dst, w.selector, w.want, found)
		}
	}
	return nil
}

func wantWays(h *lab.Host, ways []way) {
	h.Lab.T.Helper()
	if err := checkWays(h, ways); err != nil {
		h.Lab.Dump()
		h.Lab.T.Fatal(err)
	}
}
