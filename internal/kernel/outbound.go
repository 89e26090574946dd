package kernel

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
)

// halves are two destinations for each family that a full tunnel must carry.
// IPv4: one in each half. IPv6: one in each half of 2000::/3, the global space,
// because OpenVPN's redirect-gateway covers that and leaves 8000::/1 out. They
// lie beside the addresses of public resolvers, which often have routes of
// their own.
var halves = []struct {
	family netstate.Family
	dst    netip.Addr
}{
	{netstate.IPv4, netip.AddrFrom4([4]byte{2, 16, 0, 1})},
	{netstate.IPv4, netip.AddrFrom4([4]byte{193, 0, 0, 1})},
	{netstate.IPv6, netip.MustParseAddr("2600::1")},
	{netstate.IPv6, netip.MustParseAddr("3800::1")},
}

// readOutbound asks by which links unbound traffic leaves. Only a tunnel makes
// the answer matter, so without one nothing is asked.
func (k *Kernel) readOutbound(h netstate.Hints) error {
	if k.changed == 0 && !h.Full {
		return nil
	}
	if !slices.ContainsFunc(k.links, netstate.Link.Tunnel) {
		k.outbound = nil
		return nil
	}
	k.rt.reset()
	first := uint32(0)
	for i, q := range halves {
		seq := k.rt.nextSeq()
		if i == 0 {
			first = seq
		}
		k.rt.begin(unix.RTM_GETROUTE, 0, seq)
		h := nl.DeserializeRtMsg(k.rt.zero(rtmsgLen))
		h.Family, h.Dst_len = byte(q.family), byte(q.family.Bits())
		k.rt.ip(unix.RTA_DST, q.dst)
		k.rt.end()
	}
	found := map[netstate.Family][2]int{}
	err := k.rt.exchange(first, k.rt.seq, true, func(h header, b []byte) {
		oif := find(attrsAfter(b, rtmsgLen), unix.RTA_OIF)
		if h.typ != unix.RTM_NEWROUTE || len(oif) != 4 {
			return
		}
		i := int(h.seq - first)
		pair := found[halves[i].family]
		pair[i%2] = int(binary.NativeEndian.Uint32(oif))
		found[halves[i].family] = pair
	}, nil) // no route: 0
	if err == nil && !maps.Equal(found, k.outbound) {
		k.outbound = found
	}
	return err
}
