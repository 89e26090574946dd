package lab

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Link is a veth pair between two hosts: A's end on the client's side, B's on the router's by custom.
type Link struct {
	A, B       *Host
	DevA, DevB string
}

// Veth joins two hosts by a veth pair, up on both ends. Options are words of ip(8) for A's end, such as
// "address 02:00:00:00:01:02" or "mtu 1400". The kernel may report the carrier up to a second later: WaitCarrier.
func Veth(a *Host, devA string, b *Host, devB string, options ...string) *Link {
	a.Lab.T.Helper()
	a.IP("link add " + devA + " " + strings.Join(options, " ") + " type veth peer name " + devB + " netns " + b.NS)
	b.IP("link set " + devB + " up")
	a.IP("link set " + devA + " up")
	return &Link{A: a, B: b, DevA: devA, DevB: devB}
}

// Cut pulls the cable: A's end stays up and loses its carrier.
func (l *Link) Cut() {
	l.A.Lab.T.Helper()
	l.B.IP("link set " + l.DevB + " down")
	l.A.WaitCarrier(l.DevA, false)
}

// Restore plugs the cable in again. IPv6 addresses of B's end vanish by Cut and are not restored, but for its
// link-local one and those of a Path.
func (l *Link) Restore() {
	l.A.Lab.T.Helper()
	l.B.IP("link set " + l.DevB + " up")
	l.A.WaitCarrier(l.DevA, true)
}

// WaitCarrier waits until the kernel says that the link has, or has not, a carrier. The kernel tells a second change
// within a second only after it.
func (h *Host) WaitCarrier(dev string, up bool) {
	h.Lab.T.Helper()
	Eventually(h.Lab.T, 20*time.Second, "carrier of "+dev, func() error {
		var v []struct{ Flags []string }
		h.JSON(&v, "link show dev "+dev)
		if slices.Contains(v[0].Flags, "LOWER_UP") != up || slices.Contains(v[0].Flags, "NO-CARRIER") == up {
			return fmt.Errorf("flags %v", v[0].Flags)
		}
		return nil
	})
}

// Rate limits both directions by a token bucket, such as "20mbit".
func (l *Link) Rate(rate string) {
	l.A.Lab.T.Helper()
	for _, e := range []struct {
		h   *Host
		dev string
	}{{l.A, l.DevA}, {l.B, l.DevB}} {
		e.h.Run("tc", strings.Fields("qdisc replace dev "+e.dev+" root tbf rate "+rate+" burst 32k latency 60ms")...)
	}
}
