// Package lease finds the router that a DHCPv4 client was told of, in the files
// that the client leaves behind: for links that have a lease and no default
// route. ISC dhclient makes none for the second link, because its script adds
// every default route without a metric and the second one exists already.
//
// The files are only read. They are written by other programs, at any time, and
// may be torn, stale, or of another network namespace or boot; what they say
// counts only for an address that the link really has.
package lease

import (
	"net/netip"
	"time"

	"github.com/subflowd/subflowd/internal/netstate"
)

// lease is what one file, or one block of a file, says.
type lease struct {
	addr    netip.Addr
	routers []netip.Addr // option 3 (RFC 2132, section 3.5), best first
	// classless says that there is an option 121 (RFC 3442): then option 3 counts
	// for nothing, whether or not the option has a default route.
	classless bool
	route     netip.Addr // the router of its default route; zero: it has none
	expires   time.Time  // zero: never, or not known
}

// writePause is added to every end of a lease: dhclient writes a renewed lease
// down only when it has written none for 15 s (MIN_LEASE_WRITE), so that a short
// one is renewed and looks expired.
const writePause = 16 * time.Second

// expired tells whether the lease is over.
func (l lease) expired(now time.Time) bool {
	return !l.expires.IsZero() && now.After(l.expires.Add(writePause))
}

// gateway is the router of the default route that the server wished.
func (l lease) gateway(valid func(netip.Addr) bool) netip.Addr {
	if l.classless {
		if valid(l.route) {
			return l.route
		}
		return netip.Addr{}
	}
	for _, r := range l.routers {
		if valid(r) {
			return r
		}
	}
	return netip.Addr{}
}

// choose returns the gateway of the last lease that has not expired and whose
// address the link has now; zero if there is none. own are the addresses of the
// link, all those of the host.
func choose(leases []lease, own, all []netstate.Addr, now time.Time) (gateway, addr netip.Addr) {
	for i := len(leases) - 1; i >= 0; i-- {
		l := leases[i]
		if l.expired(now) || !has(own, l.addr) {
			continue
		}
		gateway := l.gateway(func(ip netip.Addr) bool { return canRoute(ip, own, all) })
		if !gateway.IsValid() {
			return netip.Addr{}, netip.Addr{} // the newest word about this address
		}
		return gateway, l.addr
	}
	return netip.Addr{}, netip.Addr{}
}

func has(addrs []netstate.Addr, ip netip.Addr) bool {
	for _, a := range addrs {
		if a.IP() == ip && a.Usable() {
			return true
		}
	}
	return false
}

var reserved4 = netip.MustParsePrefix("240.0.0.0/4") // and the broadcast address (RFC 1112, section 4)

// canRoute tells whether an address can be that of a router beyond the link. A
// router of 169.254/16 can: clouds have them.
func canRoute(ip netip.Addr, own, all []netstate.Addr) bool {
	if !ip.Is4() || ip.IsMulticast() || ip.IsLoopback() || reserved4.Contains(ip) || ip.As4()[0] == 0 {
		return false
	}
	for _, a := range all {
		if a.IP() == ip {
			return false
		}
	}
	for _, a := range own {
		if a.Family() == netstate.IPv4 && ip == broadcast(a.Local) {
			return false
		}
	}
	return true
}

// broadcast is the last address of a prefix that has one; else zero.
func broadcast(p netip.Prefix) netip.Addr {
	if p.Bits() >= 31 {
		return netip.Addr{}
	}
	b := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(b)
}
