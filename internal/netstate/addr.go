package netstate

import (
	"net/netip"
	"strings"
)

// Address flags that decide something (linux/if_addr.h).
const (
	AddrTemporary  = 0x01 // IFA_F_TEMPORARY on IPv6; IFA_F_SECONDARY on IPv4
	AddrDADFailed  = 0x08
	AddrDeprecated = 0x20
	AddrTentative  = 0x40
	AddrPermanent  = 0x80
)

// Scopes of addresses and routes (linux/rtnetlink.h).
const (
	ScopeGlobal = 0
	ScopeSite   = 200
	ScopeLink   = 253
	ScopeHost   = 254
)

// Addr is one address on one link. Lifetimes are left out on purpose: every
// router advertisement renews them and nothing depends on them.
type Addr struct {
	Link  int          // ifindex
	Local netip.Prefix // the host's own address (IFA_LOCAL) and its prefix length
	Peer  netip.Addr   // the other end of a point-to-point link; zero: none
	Flags uint32       // IFA_F_ bits
	Scope uint8
}

// IP is the address without its prefix length.
func (a Addr) IP() netip.Addr { return a.Local.Addr() }

// Family is the family of the address.
func (a Addr) Family() Family { return FamilyOf(a.Local.Addr()) }

// Usable tells whether the kernel lets sockets bind to the address and hear
// from it: duplicate address detection (RFC 4862, section 5.4) is over and
// passed. A deprecated address is usable.
func (a Addr) Usable() bool { return a.Flags&(AddrTentative|AddrDADFailed) == 0 }

// Outward tells whether the address can be the source of what is routed beyond
// its link: it is usable and routable, and no scope keeps it to the link or the
// host. The kernel passes such an IPv4 address over and borrows another link's
// (inet_select_addr, net/ipv4/devinet.c); of an IPv6 address, scope is another
// word for its prefix.
func (a Addr) Outward() bool {
	return a.Usable() && Routable(a.IP()) && !a.Kept()
}

// Kept tells whether the scope of an address keeps it to its link or host.
func (a Addr) Kept() bool { return a.Family() == IPv4 && a.Scope != ScopeGlobal }

// Deprecated tells whether the preferred lifetime of the address is over.
func (a Addr) Deprecated() bool { return a.Flags&AddrDeprecated != 0 }

// Temporary tells whether the address is one that the kernel made to be changed
// soon (RFC 8981). IPv4 has none; the same bit means secondary there.
func (a Addr) Temporary() bool { return a.Family() == IPv6 && a.Flags&AddrTemporary != 0 }

var (
	linkLocal4 = netip.MustParsePrefix("169.254.0.0/16")
	thisNet4   = netip.MustParsePrefix("0.0.0.0/8")
	uniqueULA6 = netip.MustParsePrefix("fc00::/7")
	siteLocal6 = netip.MustParsePrefix("fec0::/10")
	shared4    = netip.MustParsePrefix("100.64.0.0/10")
)

// Routable tells whether an address can be used beyond its link at all: it is
// global, private or unique-local, and not loopback, link-local (169.254/16
// and fe80::/10), multicast or unspecified.
func Routable(ip netip.Addr) bool {
	if !ip.IsValid() || ip.IsUnspecified() || ip.IsLoopback() || ip.IsMulticast() || ip.IsLinkLocalUnicast() {
		return false
	}
	return !linkLocal4.Contains(ip) && !thisNet4.Contains(ip)
}

// Private tells whether an address means nothing outside its own site:
// RFC 1918, RFC 6598, unique-local (RFC 4193) and old site-local addresses.
func Private(ip netip.Addr) bool {
	return ip.IsPrivate() || uniqueULA6.Contains(ip) || siteLocal6.Contains(ip) || shared4.Contains(ip)
}

// Text is the address as the arguments of `ip address add`.
func (a Addr) Text(n Names) string {
	var b strings.Builder
	if a.Peer.IsValid() {
		b.WriteString(a.Local.Addr().String() + " peer " + a.Peer.String())
	} else {
		b.WriteString(a.Local.String())
	}
	b.WriteString(" dev " + n.Name(a.Link))
	for _, f := range []struct {
		bit  uint32
		name string
	}{{AddrTentative, "tentative"}, {AddrDADFailed, "dadfailed"}, {AddrDeprecated, "deprecated"}} {
		if a.Flags&f.bit != 0 {
			b.WriteString(" " + f.name)
		}
	}
	if a.Flags&AddrTemporary != 0 {
		if a.Family() == IPv6 {
			b.WriteString(" temporary")
		} else {
			b.WriteString(" secondary")
		}
	}
	return b.String()
}

// String is Text with numbers for links.
func (a Addr) String() string { return a.Text(nil) }
