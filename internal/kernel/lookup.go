package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
)

// Lookup asks the kernel for the route to a destination, as a socket bound to
// the address from would get it (zero: unbound), by RTM_GETROUTE in the calling
// thread's namespace. Nothing is sent. An error of the route itself, such as
// ENETUNREACH, is wrapped. It needs no privilege, and may be called by any
// goroutine.
func Lookup(dst, from netip.Addr) (netstate.Route, error) { return LookupBound(dst, from, 0) }

// LookupBound is Lookup for a socket that is also bound to a link
// (SO_BINDTODEVICE in socket(7)); 0: to none.
func LookupBound(dst, from netip.Addr, link int) (netstate.Route, error) {
	o := &netlink.RouteGetOptions{OifIndex: link}
	if from.IsValid() {
		o.SrcAddr = from.AsSlice()
	}
	found, err := netlink.RouteGetWithOptions(dst.AsSlice(), o)
	if err != nil {
		return netstate.Route{}, fmt.Errorf("look up route to %s: %w", dst, err)
	}
	r := netstate.Route{Family: netstate.FamilyOf(dst), Dst: netip.PrefixFrom(dst, dst.BitLen()), Type: netstate.Unicast}
	if len(found) > 0 {
		f := found[0]
		r.Link, r.Table = f.LinkIndex, uint32(f.Table)
		r.Gateway, _ = netip.AddrFromSlice(f.Gw)
		if v, ok := f.Via.(*netlink.Via); ok {
			r.Gateway, _ = netip.AddrFromSlice(v.Addr)
		}
		r.PrefSrc, _ = netip.AddrFromSlice(f.Src)
		r.Gateway, r.PrefSrc = r.Gateway.Unmap(), r.PrefSrc.Unmap()
	}
	return r, nil
}

// Dropped is the kernel's answer to the question whether packets that come in
// by the link from the address from pass to the host's own address: nil, or the
// error with which reverse path filtering (net.ipv4.conf.*.rp_filter, RFC 3704)
// refuses their source: EXDEV in Linux 6.1, EINVAL in 6.18. Other errors are nil.
// Nothing is sent, but the kernel logs a line where net.ipv4.conf.*.log_martians
// is set.
func Dropped(own, from netip.Addr, link string) error {
	_, err := netlink.RouteGetWithOptions(own.AsSlice(), &netlink.RouteGetOptions{SrcAddr: from.AsSlice(), Iif: link})
	if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}

// Probe is an address outside for Lookup and Dropped, in the family: one of
// those of halves, which seldom have a route of their own.
func Probe(f netstate.Family) netip.Addr {
	i := slices.IndexFunc(halves, func(h half) bool { return h.family == f })
	return halves[max(i, 0)].dst
}
