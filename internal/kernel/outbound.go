package kernel

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
)

type half struct {
	family netstate.Family
	dst    netip.Addr
}

// halves are two destinations for each family that a full tunnel must carry.
// IPv4: one in each half. IPv6: one in each half of 2000::/3, the global space,
// because OpenVPN's redirect-gateway covers that and leaves 8000::/1 out. They
// lie beside the addresses of public resolvers, which often have routes of
// their own.
var halves = []half{
	{netstate.IPv4, netip.AddrFrom4([4]byte{2, 16, 0, 1})},
	{netstate.IPv4, netip.AddrFrom4([4]byte{193, 0, 0, 1})},
	{netstate.IPv6, netip.MustParseAddr("2600::1")},
	{netstate.IPv6, netip.MustParseAddr("3800::1")},
}

// readOutbound asks by which links unbound traffic leaves, and with which
// source. The answer matters only beside a tunnel, and where a default route
// leads to a link without address, whose traffic has that of another.
func (k *Kernel) readOutbound(h netstate.Hints) error {
	if k.changed == 0 && !h.Full {
		return nil
	}
	if !slices.ContainsFunc(k.links, netstate.Link.Tunnel) && !slices.ContainsFunc(k.routes, k.unnumbered) {
		k.outbound, k.unbound = nil, nil
		return nil
	}
	k.rt.reset()
	first := uint32(0)
	for i, q := range halves {
		seq := k.rt.beginLookup(q.family, q.dst)
		if i == 0 {
			first = seq
		}
		k.rt.end()
	}
	found, ways := map[netstate.Family][2]int{}, map[netstate.Family]netstate.Way{}
	err := k.rt.exchange(first, k.rt.seq, true, func(h header, b []byte) {
		attrs := attrsAfter(b, rtmsgLen)
		oif := find(attrs, unix.RTA_OIF)
		if h.typ != unix.RTM_NEWROUTE || len(oif) != 4 {
			return
		}
		i := int(h.seq - first)
		pair := found[halves[i].family]
		pair[i%2] = int(binary.NativeEndian.Uint32(oif))
		found[halves[i].family] = pair
		if src := ipOf(find(attrs, unix.RTA_PREFSRC)); i%2 == 0 && src.IsValid() {
			ways[halves[i].family] = netstate.Way{Link: pair[0], Source: src.Unmap()}
		}
	}, nil) // no route: 0
	if err != nil {
		return err
	}
	if !maps.Equal(found, k.outbound) {
		k.outbound = found
	}
	if !maps.Equal(ways, k.unbound) {
		k.unbound = ways
	}
	return nil
}

// unnumbered tells whether a route is main's default by a link that has no
// address of the family for it.
func (k *Kernel) unnumbered(r netstate.Route) bool {
	return r.Table == netstate.TableMain && r.Default() && r.Type == netstate.Unicast &&
		!slices.ContainsFunc(k.addrs, func(a netstate.Addr) bool {
			return a.Link == r.Link && a.Family() == r.Family && a.Outward()
		})
}
