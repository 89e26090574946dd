package kernel

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/subflowd/subflowd/internal/netstate"
)

// Lookup asks the kernel for the route to a destination, as a socket bound to
// the address from would get it (zero: unbound), by RTM_GETROUTE in the calling
// thread's namespace. Nothing is sent. An error of the route itself, such as
// ENETUNREACH, is wrapped. It needs no privilege, and may be called by any
// goroutine.
func Lookup(dst, from netip.Addr) (netstate.Route, error) {
	o := &netlink.RouteGetOptions{}
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
