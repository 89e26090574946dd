package netstate

import (
	"net/netip"
	"strconv"
)

// Family is an address family with the kernel's own number (AF_INET, AF_INET6).
type Family uint8

// The two families that carry paths.
const (
	IPv4 Family = 2
	IPv6 Family = 10
)

// Families lists both families in the order in which everything is done.
var Families = [2]Family{IPv4, IPv6}

// String is the name that people use: "IPv4" or "IPv6".
func (f Family) String() string {
	switch f {
	case IPv4:
		return "IPv4"
	case IPv6:
		return "IPv6"
	}
	return "family " + strconv.Itoa(int(f))
}

// Flag is the option of ip(8) that selects the family: "-4" or "-6".
func (f Family) Flag() string {
	if f == IPv6 {
		return "-6"
	}
	return "-4"
}

// Bits is the length of an address of the family in bits.
func (f Family) Bits() int {
	if f == IPv6 {
		return 128
	}
	return 32
}

// Default is the prefix of the family's default route: 0.0.0.0/0 or ::/0.
func (f Family) Default() netip.Prefix {
	if f == IPv6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

// FamilyOf is the family of an address; a v4-mapped IPv6 address is IPv4,
// because the path manager takes both forms for one key (net/mptcp/pm_kernel.c).
func FamilyOf(a netip.Addr) Family {
	if a.Is4() || a.Is4In6() {
		return IPv4
	}
	return IPv6
}

// LinkFamily names one family on one link: what a path is keyed by.
type LinkFamily struct {
	Link   int // ifindex
	Family Family
}

// Names maps an ifindex to the name of its link, for text.
type Names map[int]string

// Name is the name of the link, or "if3" as ip(8) prints a link that is gone.
func (n Names) Name(ifindex int) string {
	if s, ok := n[ifindex]; ok {
		return s
	}
	return "if" + strconv.Itoa(ifindex)
}
