package kernel

import (
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
)

// request builds the message of a route or a rule. An error is one that the
// kernel would answer with a wrong object rather than with a refusal.
func (k *Kernel) request(c netstate.Change, seq uint32) error {
	m := &k.rt.messages
	switch c.Op {
	case netstate.RouteAdd:
		return putRoute(m, unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, seq, c.Route)
	case netstate.RouteReplace:
		return putRoute(m, unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, seq, c.Route)
	case netstate.RouteDelete:
		return putRoute(m, unix.RTM_DELROUTE, 0, seq, c.Route)
	case netstate.RuleAppend:
		// Without NLM_F_EXCL: a set is exchanged by appending it whole before
		// the old one goes.
		return putRule(m, unix.RTM_NEWRULE, unix.NLM_F_CREATE, seq, c.Rule)
	case netstate.RuleDelete:
		return putRule(m, unix.RTM_DELRULE, 0, seq, c.Rule)
	}
	return fmt.Errorf("no routing change: %w", unix.EINVAL)
}

// putRoute writes a route with its full key. The library's RouteAdd sends one
// request at a time and asks for an acknowledgement of each. The kernel deletes the first route
// that matches what is given, so a delete names protocol, metric, type, device
// and gateway: only ours has them all.
func putRoute(m *messages, typ, flags uint16, seq uint32, r netstate.Route) error {
	if !r.Dst.IsValid() || r.Table == 0 || r.NexthopID != 0 || r.Encap {
		return fmt.Errorf("not a route of ours: %w", unix.EINVAL)
	}
	if r.Type == netstate.Throw && r.Default() {
		return fmt.Errorf("throw default would undo the whole table: %w", unix.EINVAL)
	}
	m.begin(typ, flags, seq)
	h := nl.DeserializeRtMsg(m.zero(rtmsgLen)) // the message itself, not a copy
	h.Family, h.Dst_len, h.Tos, h.Protocol, h.Type = byte(r.Family), byte(r.Dst.Bits()), r.TOS, r.Protocol, byte(r.Type)
	if r.Table < 256 {
		h.Table = byte(r.Table)
	}
	h.Scope = scopeOf(typ, r)
	if r.OnLink {
		h.Flags = unix.RTNH_F_ONLINK
	}
	if r.SrcPrefix.IsValid() {
		h.Src_len = byte(r.SrcPrefix.Bits())
	}
	m.u32(unix.RTA_TABLE, r.Table)
	if r.Dst.Bits() > 0 {
		m.ip(unix.RTA_DST, r.Dst.Addr())
	}
	if r.SrcPrefix.IsValid() && r.SrcPrefix.Bits() > 0 {
		m.ip(unix.RTA_SRC, r.SrcPrefix.Addr())
	}
	if r.Metric != 0 {
		m.u32(unix.RTA_PRIORITY, r.Metric)
	}
	// IPv6 puts error and throw routes on lo by itself; IPv4 refuses a device.
	if r.Link != 0 && r.Type == netstate.Unicast {
		m.u32(unix.RTA_OIF, uint32(r.Link))
	}
	putGateway(m, r)
	putRouteExtras(m, r)
	m.end()
	return nil
}

// scopeOf is what ip-route(8) sends: a route without gateway reaches only the
// link. A delete matches any scope.
func scopeOf(typ uint16, r netstate.Route) byte {
	switch {
	case typ == unix.RTM_DELROUTE && r.Family == netstate.IPv4:
		return unix.RT_SCOPE_NOWHERE
	case r.Family == netstate.IPv4 && r.Type == netstate.Unicast && !r.Gateway.IsValid():
		return unix.RT_SCOPE_LINK
	}
	return unix.RT_SCOPE_UNIVERSE
}

func putGateway(m *messages, r netstate.Route) {
	switch {
	case !r.Gateway.IsValid():
	case r.Family == netstate.IPv4 && r.Gateway.Is6(): // RFC 5549, linux 5.2
		via := m.attr(unix.RTA_VIA, 18)
		putU16(via, unix.AF_INET6)
		gw := r.Gateway.As16()
		copy(via[2:], gw[:])
	default:
		m.ip(unix.RTA_GATEWAY, r.Gateway)
	}
}

func putRouteExtras(m *messages, r netstate.Route) {
	if r.PrefSrc.IsValid() {
		m.ip(unix.RTA_PREFSRC, r.PrefSrc)
	}
	if r.Pref != netstate.PrefMedium && r.Family == netstate.IPv6 {
		m.u8(unix.RTA_PREF, uint8(r.Pref))
	}
	putMetrics(m, r)
}

// putMetrics writes RTA_METRICS.
func putMetrics(m *messages, r netstate.Route) {
	if r.MTU == 0 && r.AdvMSS == 0 && r.InitCwnd == 0 && r.Metrics == "" {
		return
	}
	others, _ := netstate.ParseMetrics(r.Metrics) // was written by MetricsText
	var lock uint32
	if r.MTULock && r.MTU != 0 {
		lock = 1 << unix.RTAX_MTU
	}
	for _, o := range others {
		if o.Lock {
			lock |= 1 << o.Number
		}
	}
	at := m.nest(unix.RTA_METRICS)
	for _, metric := range append([]netstate.Metric{
		{Number: unix.RTAX_LOCK, Value: lock},
		{Number: unix.RTAX_MTU, Value: r.MTU},
		{Number: unix.RTAX_ADVMSS, Value: r.AdvMSS},
		{Number: unix.RTAX_INITCWND, Value: r.InitCwnd},
	}, others...) {
		switch {
		case metric.Name != "":
			copy(m.attr(metric.Number, len(metric.Name)+1), metric.Name)
		case metric.Value != 0:
			m.u32(metric.Number, metric.Value)
		}
	}
	m.endNest(at)
}

// putRule writes a rule with its full key. A delete takes the first rule that
// matches what is given, whoever's it is, so nothing is left out. The library's
// RuleAdd forgets suppress_prefixlength where the table is 256 or more, and adds
// with NLM_F_EXCL.
func putRule(m *messages, typ, flags uint16, seq uint32, r netstate.Rule) error {
	if r.Others != "" || !r.From.IsValid() || r.Protocol == 0 || r.Priority == 0 {
		return fmt.Errorf("not a rule of ours: %w", unix.EINVAL)
	}
	m.begin(typ, flags, seq)
	h := nl.DeserializeRtMsg(m.zero(fibRuleLen))
	h.Family, h.Src_len, h.Type = byte(r.Family), byte(r.From.Bits()), byte(r.Action)
	if r.Action == netstate.ActLookup && r.Table < 256 {
		h.Table = byte(r.Table)
	}
	m.ip(nl.FRA_SRC, r.From.Addr())
	m.u32(nl.FRA_PRIORITY, r.Priority)
	if r.Action == netstate.ActLookup {
		m.u32(nl.FRA_TABLE, r.Table)
	}
	if r.Suppress != netstate.NoSuppress {
		m.u32(nl.FRA_SUPPRESS_PREFIXLEN, uint32(r.Suppress))
	}
	m.u8(nl.FRA_PROTOCOL, r.Protocol)
	m.end()
	return nil
}
