package netstate

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// RouteType is an RTN_ number (linux/rtnetlink.h).
type RouteType uint8

// Route types that decide something.
const (
	Unicast     RouteType = 1
	Local       RouteType = 2
	Broadcast   RouteType = 3
	Multicast   RouteType = 5
	Blackhole   RouteType = 6
	Unreachable RouteType = 7
	Prohibit    RouteType = 8
	Throw       RouteType = 9
)

var routeTypeNames = map[RouteType]string{
	Unicast: "unicast", Local: "local", Broadcast: "broadcast", 4: "anycast", Multicast: "multicast",
	Blackhole: "blackhole", Unreachable: "unreachable", Prohibit: "prohibit", Throw: "throw", 10: "nat",
}

// String is the word of ip-route(8).
func (t RouteType) String() string {
	if s, ok := routeTypeNames[t]; ok {
		return s
	}
	return strconv.Itoa(int(t))
}

// Error tells whether a lookup that ends at such a route fails.
func (t RouteType) Error() bool { return t == Blackhole || t == Unreachable || t == Prohibit }

// Routing tables with fixed numbers (linux/rtnetlink.h).
const (
	TableDefault = 253
	TableMain    = 254
	TableLocal   = 255
)

// Protocols with fixed numbers (linux/rtnetlink.h).
const (
	ProtoRedirect = 1
	ProtoKernel   = 2
	ProtoBoot     = 3
	ProtoStatic   = 4
	ProtoRA       = 9
	ProtoDHCP     = 16
)

// Pref is the preference of a router (RFC 4191, section 2.1) as ICMPv6 carries it.
type Pref uint8

// Router preferences.
const (
	PrefMedium Pref = 0
	PrefHigh   Pref = 1
	PrefLow    Pref = 3
)

// Rank orders preferences: high 0, medium 1, low 2.
func (p Pref) Rank() int {
	switch p {
	case PrefHigh:
		return 0
	case PrefLow:
		return 2
	}
	return 1
}

// Route is one route with one nexthop. A kernel route with several is held as
// several values with Multipath set, so that a route is comparable and a link
// can be asked for its own nexthops alone.
type Route struct {
	Family    Family
	Table     uint32
	Dst       netip.Prefix // the default is 0.0.0.0/0 or ::/0, never the zero value
	Type      RouteType
	TOS       uint8
	Metric    uint32 // RTA_PRIORITY; IPv6 has 1024 where none was given
	Protocol  uint8
	Scope     uint8
	Link      int        // ifindex of the nexthop; 0 for throw and IPv4 error routes
	Gateway   netip.Addr // may be IPv6 on an IPv4 route (RTA_VIA); zero: on-link
	OnLink    bool       // RTNH_F_ONLINK: take the gateway for reachable
	LinkDown  bool       // RTNH_F_LINKDOWN or RTNH_F_DEAD; never compared
	PrefSrc   netip.Addr
	SrcPrefix netip.Prefix // source-specific route (RTA_SRC); zero: none
	MTU       uint32
	MTULock   bool
	AdvMSS    uint32
	InitCwnd  uint32
	Metrics   string // the others, in words of ip-route(8): see MetricsText
	Pref      Pref
	ExpiresIn time.Duration // 0: never; negative: has run out; never compared
	NexthopID uint32        // nexthop object (RTA_NH_ID); 0: none
	Multipath bool          // one of several nexthops of one kernel route
	Encap     bool          // has a lightweight tunnel, which a copy would lose
}

// Default tells whether the route is a default route.
func (r Route) Default() bool { return r.Dst.Bits() == 0 }

// Expired tells whether the lifetime of the route is over, though the kernel
// still shows it: it is collected up to 30 s late (net/ipv6/ip6_fib.c).
func (r Route) Expired() bool { return r.ExpiresIn < 0 }

// RouteKey is what the kernel's tables key a route by. IPv4 keeps one route
// for a key; IPv6 merges routes of one key that differ in their gateway.
type RouteKey struct {
	Family   Family
	Table    uint32
	Dst      netip.Prefix
	TOS      uint8
	Metric   uint32
	SrcFrom  netip.Prefix
	Protocol uint8 // whose it is; the kernel ignores it on insertion
}

// Key is the route's key, protocol included: a foreign route with the same
// destination and metric is another object.
func (r Route) Key() RouteKey {
	return RouteKey{r.Family, r.Table, r.Dst, r.TOS, r.Metric, r.SrcPrefix, r.Protocol}
}

// Same tells whether two routes are equal in all that subflowd manages. What
// the kernel fills in by itself (scope, flags of the link's state, the
// loopback device of IPv6 error routes, lifetimes) does not count.
func (r Route) Same(o Route) bool {
	return r.comparable() == o.comparable()
}

func (r Route) comparable() Route {
	r.LinkDown, r.ExpiresIn, r.Scope, r.Multipath = false, 0, 0, false
	if r.Type != Unicast {
		r.Link = 0 // IPv6 reads back `dev lo`
	}
	return r
}

// Still tells whether two looks saw the same route: all but its lifetime and the
// state of its link is equal.
func (r Route) Still(o Route) bool {
	r.ExpiresIn, r.LinkDown = o.ExpiresIn, o.LinkDown
	return r == o
}

// Brief is Text without what is no reason for anything: the attributes beyond the gateway.
func (r Route) Brief(n Names) string {
	r.MTU, r.AdvMSS, r.InitCwnd, r.Metrics, r.PrefSrc, r.Pref = 0, 0, 0, "", netip.Addr{}, 0
	return r.Text(n)
}

// Text is the route as the arguments of `ip route add`.
func (r Route) Text(n Names) string {
	var b strings.Builder
	if r.Type != Unicast {
		b.WriteString(r.Type.String() + " ")
	}
	switch {
	case r.Default():
		b.WriteString("default")
	case r.Dst.IsSingleIP():
		b.WriteString(r.Dst.Addr().String())
	default:
		b.WriteString(r.Dst.String())
	}
	if r.SrcPrefix.IsValid() {
		b.WriteString(" from " + r.SrcPrefix.String())
	}
	if r.Gateway.IsValid() {
		b.WriteString(" via ")
		if r.Family == IPv4 && r.Gateway.Is6() {
			b.WriteString("inet6 ")
		}
		b.WriteString(r.Gateway.String())
	}
	if r.Link != 0 && r.Type == Unicast {
		b.WriteString(" dev " + n.Name(r.Link))
	}
	if r.Table != TableMain {
		b.WriteString(" table " + strconv.FormatUint(uint64(r.Table), 10))
	}
	b.WriteString(protoText(r.Protocol))
	r.writeAttributes(&b)
	return b.String()
}

func (r Route) writeAttributes(b *strings.Builder) {
	num := func(name string, v uint32) {
		if v != 0 {
			b.WriteString(" " + name + " " + strconv.FormatUint(uint64(v), 10))
		}
	}
	num("tos", uint32(r.TOS))
	num("metric", r.Metric)
	if r.PrefSrc.IsValid() {
		b.WriteString(" src " + r.PrefSrc.String())
	}
	if r.OnLink {
		b.WriteString(" onlink")
	}
	if r.MTULock && r.MTU != 0 {
		b.WriteString(" mtu lock " + strconv.FormatUint(uint64(r.MTU), 10))
	} else {
		num("mtu", r.MTU)
	}
	num("advmss", r.AdvMSS)
	num("initcwnd", r.InitCwnd)
	if r.Metrics != "" {
		b.WriteString(" " + r.Metrics)
	}
	switch r.Pref {
	case PrefHigh:
		b.WriteString(" pref high")
	case PrefLow:
		b.WriteString(" pref low")
	}
}

// String is Text with numbers for links.
func (r Route) String() string { return r.Text(nil) }

var protoNames = map[uint8]string{
	ProtoRedirect: "redirect", ProtoKernel: "kernel", ProtoBoot: "boot", ProtoStatic: "static",
	ProtoRA: "ra", ProtoDHCP: "dhcp", 11: "zebra", 12: "bird", 186: "bgp", 187: "isis", 188: "ospf", 189: "rip",
}

// ProtocolName is the word of ip(8) for a protocol number, or the number.
func ProtocolName(p uint8) string {
	if s, ok := protoNames[p]; ok {
		return s
	}
	return strconv.Itoa(int(p))
}

func protoText(p uint8) string {
	if p == 0 {
		return ""
	}
	return " proto " + ProtocolName(p)
}
