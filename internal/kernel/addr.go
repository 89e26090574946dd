package kernel

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
)

const ifaddrmsgLen = unix.SizeofIfAddrmsg

// readAddrs reads all addresses, or those of only where it names few links, and
// of one family where it is not 0.
func (k *Kernel) readAddrs(only map[int]struct{}, family netstate.Family) error {
	var addrs []netstate.Addr
	if only == nil || len(only) > fewLinks {
		if err := k.dumpAddrs(&addrs, 0, 0); err != nil {
			return err
		}
	} else {
		for _, a := range k.addrs {
			if _, named := only[a.Link]; !named || family != 0 && a.Family() != family {
				addrs = append(addrs, a)
			}
		}
		for i := range only {
			if i <= 0 {
				continue // to the kernel this means all
			}
			if err := k.dumpAddrs(&addrs, i, family); err != nil {
				return err
			}
		}
	}
	// Stable: within a link and a family the kernel's order is kept.
	slices.SortStableFunc(addrs, func(a, b netstate.Addr) int {
		return cmp.Or(a.Link-b.Link, int(a.Family())-int(b.Family()))
	})
	if !slices.Equal(addrs, k.addrs) {
		k.changed |= netstate.KindAddrs
		k.addrs = addrs
	}
	return nil
}

// dumpAddrs appends the addresses of one link, or of all for 0, and of one
// family, or of both for 0.
func (k *Kernel) dumpAddrs(addrs *[]netstate.Addr, ifindex int, family netstate.Family) error {
	for _, f := range k.families {
		if family != 0 && f != family {
			continue
		}
		k.rt.reset()
		k.rt.begin(unix.RTM_GETADDR, unix.NLM_F_DUMP, k.rt.nextSeq())
		h := nl.DeserializeIfAddrmsg(k.rt.zero(ifaddrmsgLen))
		h.Family, h.Index = byte(f), uint32(ifindex)
		k.rt.end()
		before := len(*addrs)
		err := k.rt.dump(func() { *addrs = (*addrs)[:before] }, func(h header, b []byte) {
			if a, ok := decodeAddr(b); ok && h.typ == unix.RTM_NEWADDR && (ifindex == 0 || a.Link == ifindex) {
				*addrs = append(*addrs, a)
			}
		})
		if err != nil && !(ifindex != 0 && gone(err)) {
			return err
		}
	}
	return nil
}

// decodeAddr reads a message of struct ifaddrmsg and its attributes.
func decodeAddr(b []byte) (netstate.Addr, bool) {
	if len(b) < ifaddrmsgLen {
		return netstate.Addr{}, false
	}
	h := nl.DeserializeIfAddrmsg(b)
	a := netstate.Addr{Flags: uint32(h.Flags), Scope: h.Scope, Link: int(int32(h.Index))}
	var local, address netip.Addr
	at := attrsAfter(b, ifaddrmsgLen)
	for typ, v, ok := at.next(); ok; typ, v, ok = at.next() {
		switch typ {
		case unix.IFA_LOCAL:
			local = ipOf(v)
		case unix.IFA_ADDRESS:
			address = ipOf(v)
		case unix.IFA_FLAGS:
			a.Flags = u32At(v, 0)
		}
	}
	// IFA_ADDRESS is the peer where IFA_LOCAL differs from it, else the address
	// itself; IPv6 sends IFA_LOCAL only with a peer (net/ipv6/addrconf.c).
	switch {
	case !local.IsValid():
		local = address
	case address.IsValid() && address != local:
		a.Peer = address
	}
	a.Local = netip.PrefixFrom(local, int(h.Prefixlen))
	// ::ffff:10.0.0.1 on a link is of neither family.
	return a, a.Local.IsValid() && a.Link > 0 && !local.Is4In6() && (h.Family == unix.AF_INET) == local.Is4()
}
