package kernel

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
)

// Viewer reads what people want to see of links and routes besides what the loop
// decides by: byte counters, addresses, and the link by which traffic leaves. It
// needs no privilege and changes nothing. It is for one goroutine at a time.
type Viewer struct{ k Kernel }

// OpenViewer opens the network namespace of the calling thread, as Open does.
func OpenViewer() (*Viewer, error) {
	rt, err := openSocket()
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	return &Viewer{Kernel{rt: rt, families: families()}}, nil
}

// Close closes the socket.
func (v *Viewer) Close() error { return v.k.rt.close() }

// LinkCounters are a link's bytes and packets since it was made (struct
// rtnl_link_stats64), all protocols together.
type LinkCounters struct {
	Index                        int
	Name                         string
	Loopback                     bool
	ReceivedBytes, SentBytes     uint64
	ReceivedPackets, SentPackets uint64
	ReceiveErrors, SendErrors    uint64
	ReceiveDropped, SendDropped  uint64
}

// Links reads the counters of all links.
func (v *Viewer) Links() ([]LinkCounters, error) {
	rt := v.k.rt
	rt.reset()
	rt.begin(unix.RTM_GETLINK, unix.NLM_F_DUMP, rt.nextSeq())
	rt.zero(ifinfoLen)
	rt.end()
	var list []LinkCounters
	err := rt.dump(func() { list = list[:0] }, func(h header, b []byte) {
		if l, ok := decodeCounters(b); ok && h.typ == unix.RTM_NEWLINK {
			list = append(list, l)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read link counters: %w", err)
	}
	return list, nil
}

// decodeCounters reads a message of struct ifinfomsg and its attributes. What
// the kernel is too old to count is 0.
func decodeCounters(b []byte) (LinkCounters, bool) {
	if len(b) < ifinfoLen {
		return LinkCounters{}, false
	}
	h := nl.DeserializeIfInfomsg(b)
	l := LinkCounters{Index: int(h.Index), Loopback: h.Flags&netstate.FlagLoopback != 0}
	a := attrsAfter(b, ifinfoLen)
	for typ, v, ok := a.next(); ok; typ, v, ok = a.next() {
		switch typ {
		case unix.IFLA_IFNAME:
			l.Name = text(v)
		case unix.IFLA_STATS64:
			for i, field := range []*uint64{
				&l.ReceivedPackets, &l.SentPackets, &l.ReceivedBytes, &l.SentBytes,
				&l.ReceiveErrors, &l.SendErrors, &l.ReceiveDropped, &l.SendDropped,
			} {
				*field = count64(v, 8*i)
			}
		}
	}
	return l, l.Index > 0 && l.Name != ""
}

// count64 is the counter at an offset, 0 behind the end.
func count64(b []byte, off int) uint64 {
	if off+8 > len(b) {
		return 0
	}
	return binary.NativeEndian.Uint64(b[off:])
}

// Addrs reads all addresses of all links.
func (v *Viewer) Addrs() ([]netstate.Addr, error) {
	var list []netstate.Addr
	if err := v.k.dumpAddrs(&list, 0, 0); err != nil {
		return nil, fmt.Errorf("read addresses: %w", err)
	}
	return list, nil
}

// Flow is where packets come from and go to.
type Flow struct{ Local, Remote netip.Addr }

// Ways asks the kernel by which link each flow leaves when its socket is bound
// to none: an ifindex, 0 where there is no route. Nothing is sent. Marks and
// ports, by which rules may send a socket elsewhere, are not known here.
func (v *Viewer) Ways(flows []Flow) ([]int, error) {
	out := make([]int, len(flows))
	for begin := 0; begin < len(flows); begin += lookupBatch {
		end := min(begin+lookupBatch, len(flows))
		if err := v.ways(flows[begin:end], out[begin:end]); err != nil {
			return nil, fmt.Errorf("look up routes: %w", err)
		}
	}
	return out, nil
}

func (v *Viewer) ways(flows []Flow, out []int) error {
	rt := v.k.rt
	rt.reset()
	asked := make([]int, 0, len(flows))
	first := uint32(0)
	for i, f := range flows {
		family := netstate.FamilyOf(f.Remote)
		if !f.Remote.IsValid() || !f.Local.IsValid() || netstate.FamilyOf(f.Local) != family {
			continue
		}
		seq := rt.beginLookup(family, f.Remote)
		if len(asked) == 0 {
			first = seq
		}
		nl.DeserializeRtMsg(rt.b[rt.start+unix.NLMSG_HDRLEN:]).Src_len = byte(family.Bits())
		rt.ip(unix.RTA_SRC, f.Local)
		rt.end()
		asked = append(asked, i)
	}
	if len(asked) == 0 {
		return nil
	}
	return rt.exchange(first, rt.seq, true, func(h header, b []byte) {
		oif := find(attrsAfter(b, rtmsgLen), unix.RTA_OIF)
		if i := h.seq - first; h.typ == unix.RTM_NEWROUTE && len(oif) == 4 && i < uint32(len(asked)) {
			out[asked[i]] = int(u32At(oif, 0))
		}
	}, nil) // no route: 0
}
