package kernel

import (
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
)

const (
	rtmsgLen      = unix.SizeofRtMsg
	rtnexthopLen  = unix.SizeofRtNexthop
	rtaNexthopID  = 30  // RTA_NH_ID
	userHZ        = 100 // clock_t of every architecture that matters, in ticks per second
	halvesMaxBits = 4   // up to here a prefix may be part of a split default route: 2000::/4 of OpenVPN's
)

// keeper says which routes of a table are worth keeping: everything that hosts
// are configured with, and of routing protocols' routes only what decides
// something, so that a million of them cost no memory.
type keeper struct {
	protocols *[256]bool
	onLink    *prefixes // of some link; more specific routes inside matter for throw
	dropped   int       // how many routes were passed over
}

// keeps decides by the fixed header and the destination alone.
func (k *keeper) keeps(h *nl.RtMsg, dst []byte) bool {
	switch h.Type {
	case unix.RTN_BROADCAST, unix.RTN_ANYCAST, unix.RTN_MULTICAST:
		return false
	}
	if h.Dst_len <= halvesMaxBits || k.protocols[h.Protocol] {
		return true
	}
	ip := ipOf(dst)
	return (h.Family == unix.AF_INET) == ip.Is4() && k.onLink.cover(ip, int(h.Dst_len))
}

// appendRoutes decodes a message of struct rtmsg and its attributes: one route,
// several for a multipath route, none for what is not kept.
func appendRoutes(routes []netstate.Route, b []byte, keep *keeper) []netstate.Route {
	if len(b) < rtmsgLen || nl.DeserializeRtMsg(b).Flags&unix.RTM_F_CLONED != 0 {
		return routes
	}
	if keep != nil && !keep.keeps(nl.DeserializeRtMsg(b), find(attrsAfter(b, rtmsgLen), unix.RTA_DST)) {
		keep.dropped++
		return routes
	}
	r, multipath, ok := decodeRoute(b)
	if !ok {
		return routes
	}
	if multipath == nil {
		return append(routes, r)
	}
	return appendNexthops(routes, r, multipath)
}

func find(a attrs, want uint16) []byte {
	for typ, v, ok := a.next(); ok; typ, v, ok = a.next() {
		if typ == want {
			return v
		}
	}
	return nil
}

// decodeRoute reads everything but the nexthops of a multipath route, which it
// returns undecoded.
func decodeRoute(b []byte) (r netstate.Route, multipath []byte, ok bool) {
	h := nl.DeserializeRtMsg(b)
	if h.Family != unix.AF_INET && h.Family != unix.AF_INET6 {
		return r, nil, false
	}
	r = netstate.Route{
		Family: netstate.Family(h.Family), TOS: h.Tos, Table: uint32(h.Table), Protocol: h.Protocol, Scope: h.Scope,
		Type: netstate.RouteType(h.Type),
	}
	setFlags(&r, h.Flags)
	var dst, src []byte
	a := attrsAfter(b, rtmsgLen)
	for typ, v, ok := a.next(); ok; typ, v, ok = a.next() {
		switch typ {
		case unix.RTA_DST:
			dst = v
		case unix.RTA_SRC:
			src = v
		case unix.RTA_TABLE:
			r.Table = u32At(v, 0)
		case unix.RTA_OIF:
			r.Link = int(int32(u32At(v, 0)))
		case unix.RTA_PRIORITY:
			r.Metric = u32At(v, 0)
		case unix.RTA_PREFSRC:
			r.PrefSrc = ipOf(v)
		case unix.RTA_METRICS:
			decodeMetrics(&r, attrs(v))
		case unix.RTA_MULTIPATH:
			multipath = v
		case unix.RTA_CACHEINFO:
			r.ExpiresIn = time.Duration(int32(u32At(v, 8))) * (time.Second / userHZ)
		case unix.RTA_PREF:
			r.Pref = netstate.Pref(u8At(v, 0))
		case rtaNexthopID:
			r.NexthopID = u32At(v, 0)
		default:
			decodeNexthopAttr(&r, typ, v)
		}
	}
	r.Dst = prefixOf(h.Family, dst, h.Dst_len)
	if h.Src_len != 0 {
		if r.SrcPrefix = prefixOf(h.Family, src, h.Src_len); !r.SrcPrefix.IsValid() {
			return r, nil, false
		}
	}
	return r, multipath, r.Dst.IsValid() && r.Dst.Addr().Is4() == (h.Family == unix.AF_INET)
}

func setFlags(r *netstate.Route, flags uint32) {
	r.OnLink = flags&unix.RTNH_F_ONLINK != 0
	r.LinkDown = flags&(unix.RTNH_F_LINKDOWN|unix.RTNH_F_DEAD) != 0
}

// decodeNexthopAttr reads the attributes that a single nexthop and one of
// several share.
func decodeNexthopAttr(r *netstate.Route, typ uint16, v []byte) {
	switch typ {
	case unix.RTA_GATEWAY:
		r.Gateway = ipOf(v)
	case unix.RTA_VIA: // struct rtvia: a family in two bytes, then the address
		if len(v) > 2 {
			r.Gateway = ipOf(v[2:])
		}
	case unix.RTA_ENCAP_TYPE:
		r.Encap = u16At(v, 0) != 0
	}
}

// decodeMetrics reads RTA_METRICS; bit n of RTAX_LOCK locks metric n.
func decodeMetrics(r *netstate.Route, a attrs) {
	var lock uint32
	var others []netstate.Metric
	for typ, v, ok := a.next(); ok; typ, v, ok = a.next() {
		switch typ {
		case unix.RTAX_LOCK: // the kernel writes it first
			lock = u32At(v, 0)
			r.MTULock = lock&(1<<unix.RTAX_MTU) != 0
		case unix.RTAX_MTU:
			r.MTU = u32At(v, 0)
		case unix.RTAX_ADVMSS:
			r.AdvMSS = u32At(v, 0)
		case unix.RTAX_INITCWND:
			r.InitCwnd = u32At(v, 0)
		case unix.RTAX_CC_ALGO:
			others = append(others, netstate.Metric{Number: typ, Name: text(v), Lock: lock&(1<<typ) != 0})
		default:
			if typ < 32 {
				others = append(others, netstate.Metric{Number: typ, Value: u32At(v, 0), Lock: lock&(1<<typ) != 0})
			}
		}
	}
	r.Metrics = netstate.MetricsText(others)
}

// appendNexthops makes a route of each struct rtnexthop.
func appendNexthops(routes []netstate.Route, r netstate.Route, b []byte) []netstate.Route {
	r.Multipath = true
	for len(b) >= rtnexthopLen {
		h := nl.DeserializeRtNexthop(b)
		n := int(h.RtNexthop.Len)
		if n < rtnexthopLen || n > len(b) {
			return routes
		}
		hop := r
		setFlags(&hop, uint32(h.Flags))
		hop.Link = int(h.Ifindex)
		a := attrs(b[rtnexthopLen:n])
		for typ, v, ok := a.next(); ok; typ, v, ok = a.next() {
			decodeNexthopAttr(&hop, typ, v)
		}
		routes = append(routes, hop)
		b = b[min(align4(n), len(b)):]
	}
	return routes
}
