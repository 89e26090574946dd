package kernel

import (
	"fmt"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
)

const (
	nhmsgLen      = unix.SizeofNhmsg
	nexthopGrpLen = unix.SizeofNexthopGrp
	// groupDepth bounds the groups in groups, which the kernel does not make.
	groupDepth = 2
)

// nexthop is a nexthop object; see ip-nexthop(8).
type nexthop struct {
	route     netstate.Route // its device and gateway
	blackhole bool
	group     []uint32
}

// resolveNexthops fills device and gateway of routes with nexthop objects in,
// which net.ipv4.nexthop_compat_mode=0 leaves out of routes.
func (k *Kernel) resolveNexthops(routes []netstate.Route) ([]netstate.Route, error) {
	hidden := func(r netstate.Route) bool {
		return r.NexthopID != 0 && r.Link == 0 && r.Type == netstate.Unicast
	}
	if !slices.ContainsFunc(routes, hidden) {
		return routes, nil
	}
	known := map[uint32]nexthop{}
	out := make([]netstate.Route, 0, len(routes))
	for _, r := range routes {
		if !hidden(r) {
			out = append(out, r)
			continue
		}
		var err error
		if out, err = k.appendResolved(out, r, r.NexthopID, known, groupDepth); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (k *Kernel) appendResolved(out []netstate.Route, r netstate.Route, id uint32, known map[uint32]nexthop, depth int) ([]netstate.Route, error) {
	h, ok := known[id]
	if !ok {
		var err error
		if h, err = k.readNexthop(id); err != nil {
			return out, err
		}
		known[id] = h
	}
	if len(h.group) > 0 && depth > 0 {
		r.Multipath = true
		for _, member := range h.group {
			var err error
			if out, err = k.appendResolved(out, r, member, known, depth-1); err != nil {
				return out, err
			}
		}
		return out, nil
	}
	if !h.blackhole && h.route.Link == 0 {
		return out, nil // gone, and the route with it
	}
	if h.blackhole {
		r.Type = netstate.Blackhole
	}
	r.Link, r.Gateway, r.OnLink = h.route.Link, h.route.Gateway, h.route.OnLink
	r.LinkDown, r.Encap = h.route.LinkDown, h.route.Encap
	return append(out, r), nil
}

// readNexthop reads one object; one that has just vanished is empty.
func (k *Kernel) readNexthop(id uint32) (nexthop, error) {
	r := nl.NewNetlinkRequest(unix.RTM_GETNEXTHOP, 0)
	r.AddRawData(make([]byte, nhmsgLen))
	r.AddRawData(nl.NewRtAttr(unix.NHA_ID, nl.Uint32Attr(id)).Serialize())
	messages, err := k.rt.execute(r, unix.RTM_NEWNEXTHOP)
	if gone(err) || err == nil && len(messages) == 0 {
		return nexthop{}, nil
	}
	if err != nil {
		return nexthop{}, fmt.Errorf("read nexthop %d: %w", id, err)
	}
	return decodeNexthop(messages[0]), nil
}

// decodeNexthop reads a message of struct nhmsg and its attributes.
func decodeNexthop(b []byte) nexthop {
	var h nexthop
	if len(b) < nhmsgLen {
		return h
	}
	setFlags(&h.route, u32At(b, 4))
	a := attrsAfter(b, nhmsgLen)
	for typ, v, ok := a.next(); ok; typ, v, ok = a.next() {
		switch typ {
		case unix.NHA_OIF:
			h.route.Link = int(int32(u32At(v, 0)))
		case unix.NHA_GATEWAY:
			h.route.Gateway = ipOf(v)
		case unix.NHA_BLACKHOLE:
			h.blackhole = true
		case unix.NHA_ENCAP_TYPE:
			h.route.Encap = u16At(v, 0) != 0
		case unix.NHA_GROUP:
			for ; len(v) >= nexthopGrpLen; v = v[nexthopGrpLen:] {
				h.group = append(h.group, u32At(v, 0))
			}
		}
	}
	return h
}
