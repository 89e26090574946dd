package kernel

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
)

// The destinations for which the kernel is asked what source it would pick; the
// question sends nothing.
var (
	probe4 = netip.AddrFrom4([4]byte{1, 1, 1, 1})
	probe6 = netip.MustParseAddr("2600::1")
)

// lookupBatch keeps the answers of one batch far below the receive buffer.
const lookupBatch = 32

// readPreferred asks for the preferred source of every link that has several
// usable addresses, if anything changed on which the answer depends.
func (k *Kernel) readPreferred(h netstate.Hints) error {
	if k.changed == 0 && !h.Full {
		return nil
	}
	asked := k.linksToAsk()
	if len(asked) == 0 && len(k.preferred) == 0 {
		return nil
	}
	found := make(map[netstate.LinkFamily]netip.Addr, len(asked))
	for len(asked) > 0 {
		n := min(len(asked), lookupBatch)
		if err := k.askSources(asked[:n], found); err != nil {
			return err
		}
		asked = asked[n:]
	}
	if !maps.Equal(found, k.preferred) {
		k.preferred = found
	}
	return nil
}

// linksToAsk leaves out where there is no choice: the answer counts only if it
// is a usable address of the link.
func (k *Kernel) linksToAsk() []netstate.LinkFamily {
	var asked []netstate.LinkFamily
	var last netstate.LinkFamily
	n := 0
	for i := range k.addrs { // sorted by link and family
		a := &k.addrs[i]
		if !a.Outward() {
			continue
		}
		if lf := (netstate.LinkFamily{Link: a.Link, Family: a.Family()}); lf != last {
			last, n = lf, 0
		}
		if n++; n != 2 {
			continue
		}
		if l, ok := k.link(a.Link); ok && l.Up() && !l.Loopback() {
			asked = append(asked, last)
		}
	}
	return asked
}

func (k *Kernel) link(ifindex int) (netstate.Link, bool) {
	i, ok := slices.BinarySearchFunc(k.links, ifindex, func(l netstate.Link, want int) int { return l.Index - want })
	if !ok {
		return netstate.Link{}, false
	}
	return k.links[i], true
}

// beginLookup begins the question which route leads to dst; more attributes may
// follow before it is ended.
func (s *socket) beginLookup(f netstate.Family, dst netip.Addr) (seq uint32) {
	seq = s.nextSeq()
	s.begin(unix.RTM_GETROUTE, 0, seq)
	h := nl.DeserializeRtMsg(s.zero(rtmsgLen))
	h.Family, h.Dst_len = byte(f), byte(f.Bits())
	s.ip(unix.RTA_DST, dst)
	return seq
}

// askSources looks up one route for each link, all in one call.
func (k *Kernel) askSources(asked []netstate.LinkFamily, found map[netstate.LinkFamily]netip.Addr) error {
	k.rt.reset()
	first := uint32(0)
	for i, lf := range asked {
		dst := probe4
		if lf.Family == netstate.IPv6 {
			dst = probe6
		}
		seq := k.rt.beginLookup(lf.Family, dst)
		if i == 0 {
			first = seq
		}
		k.rt.u32(unix.RTA_OIF, uint32(lf.Link))
		k.rt.end()
	}
	return k.rt.exchange(first, k.rt.seq, true, func(h header, b []byte) {
		src := ipOf(find(attrsAfter(b, rtmsgLen), unix.RTA_PREFSRC))
		if h.typ == unix.RTM_NEWROUTE && src.IsValid() {
			found[asked[h.seq-first]] = src.Unmap()
		}
	}, nil) // no route: no preference
}
