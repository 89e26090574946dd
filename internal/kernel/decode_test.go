package kernel

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
)

// build makes the payload of one message: a fixed header and attributes.
func build(fixed []byte, add func(m *messages)) []byte {
	var m messages
	m.b = append(m.b, fixed...)
	if add != nil {
		add(&m)
	}
	return slices.Clone(m.b)
}

func (m *messages) bytes(typ uint16, v []byte) { copy(m.attr(typ, len(v)), v) }

// rtmsg is struct rtmsg; the type is unicast.
func rtmsg(family, dstLen, table, protocol byte, flags uint32) []byte {
	b := make([]byte, rtmsgLen)
	b[0], b[1], b[4], b[5], b[7] = family, dstLen, table, protocol, unix.RTN_UNICAST
	putU32(b[8:], flags)
	return b
}

func nexthopOf(link uint32, flags byte, add func(m *messages)) []byte {
	b := build(make([]byte, rtnexthopLen), add)
	putU16(b, uint16(len(b)))
	b[2] = flags
	putU32(b[4:], link)
	return b
}

func TestDecodeRoute(t *testing.T) {
	t.Parallel()
	via := append([]byte{unix.AF_INET6, 0}, netip.MustParseAddr("fe80::1").AsSlice()...)
	cacheinfo := func(ticks int32) []byte {
		b := make([]byte, 32)
		putU32(b[8:], uint32(ticks))
		return b
	}
	for _, c := range []struct {
		name string
		b    []byte
		want []string
	}{
		{"via inet6", build(rtmsg(2, 0, 252, 16, unix.RTNH_F_ONLINK), func(m *messages) {
			m.u32(unix.RTA_TABLE, 100002)
			m.u32(unix.RTA_OIF, 2)
			m.bytes(unix.RTA_VIA, via)
		}), []string{"default via inet6 fe80::1 dev if2 table 100002 proto dhcp onlink"}},
		{"cloned", build(rtmsg(10, 0, 254, 9, unix.RTM_F_CLONED), nil), nil},
		{"header cut", rtmsg(2, 0, 254, 2, 0)[:8], nil},
		{
			"attribute cut", append(build(rtmsg(2, 0, 254, 2, 0), func(m *messages) { m.u32(unix.RTA_OIF, 3) }), 9, 0, 1, 0, 1),
			[]string{"default dev if3 proto kernel"},
		},
		{"address of the wrong family", build(rtmsg(2, 24, 254, 2, 0), func(m *messages) { m.ip(unix.RTA_DST, probe6) }), nil},
		{"prefix too long", build(rtmsg(2, 99, 254, 2, 0), func(m *messages) { m.ip(unix.RTA_DST, probe4) }), nil},
		{"another family", rtmsg(7, 0, 254, 2, 0), nil},
		{"source-specific", build(func() []byte { b := rtmsg(10, 0, 254, 9, 0); b[2] = 56; return b }(), func(m *messages) {
			m.ip(unix.RTA_SRC, netip.MustParseAddr("2001:db8::"))
			m.u32(unix.RTA_OIF, 2)
		}), []string{"default from 2001:db8::/56 dev if2 proto ra"}},
		{"expired", build(rtmsg(10, 0, 254, 9, 0), func(m *messages) {
			m.u32(unix.RTA_OIF, 2)
			m.bytes(unix.RTA_CACHEINFO, cacheinfo(-250))
			m.u8(unix.RTA_PREF, 1)
			m.u32(rtaNexthopID, 9)
		}), []string{"default dev if2 proto ra pref high"}},
		{"multipath", build(rtmsg(10, 0, 254, 4, 0), func(m *messages) {
			m.bytes(unix.RTA_MULTIPATH, slices.Concat(
				nexthopOf(2, 0, func(m *messages) { m.ip(unix.RTA_GATEWAY, netip.MustParseAddr("fe80::a")) }),
				nexthopOf(3, unix.RTNH_F_LINKDOWN, func(m *messages) { m.ip(unix.RTA_GATEWAY, netip.MustParseAddr("fe80::b")) }),
				[]byte{200, 0, 0, 0, 9, 0, 0, 0}))
		}), []string{"default via fe80::a dev if2 proto static", "default via fe80::b dev if3 proto static"}},
	} {
		var got []string
		routes := appendRoutes(nil, c.b, nil)
		for _, r := range routes {
			got = append(got, r.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s:\nwant:  %q\nfound: %q", c.name, c.want, got)
		}
		if c.name == "expired" && (!routes[0].Expired() || routes[0].ExpiresIn != -2500*time.Millisecond || routes[0].NexthopID != 9) {
			t.Errorf("expired: %+v", routes[0])
		}
		if c.name == "multipath" && (!routes[1].Multipath || !routes[1].LinkDown || routes[0].LinkDown) {
			t.Errorf("multipath: %+v", routes)
		}
	}
}

func TestDecodeRuleWords(t *testing.T) {
	t.Parallel()
	hdr := func(src, dst, tos, action byte, flags uint32) []byte {
		b := make([]byte, fibRuleLen)
		b[0], b[1], b[2], b[3], b[4], b[7] = unix.AF_INET, dst, src, tos, 254, action
		putU32(b[8:], flags)
		return b
	}
	pair := func(a, b uint16) []byte { p := make([]byte, 4); putU16(p, a); putU16(p[2:], b); return p }
	for _, c := range []struct {
		want string
		b    []byte
	}{
		{"from all lookup main priority 0", build(hdr(0, 0, 0, unix.FR_ACT_TO_TBL, 0), nil)},
		{"from 10.1.1.2 lookup 100002 suppress_prefixlength 0 priority 32765 proto 78", build(hdr(32, 0, 0, unix.FR_ACT_TO_TBL, 0), func(m *messages) {
			m.ip(unix.FRA_SRC, netip.MustParseAddr("10.1.1.2"))
			m.u32(unix.FRA_TABLE, 100002)
			m.u32(unix.FRA_SUPPRESS_PREFIXLEN, 0)
			m.u32(unix.FRA_PRIORITY, 32765)
			m.u8(unix.FRA_PROTOCOL, 78)
		})},
		{
			"from all not to 10.0.0.0/8 tos 0x10 fwmark 0x1/0xff iif eth0 oif eth1 l3mdev uidrange 5-9 ipproto 6 sport 1-9 dport 53/0xfff0 tun_id 7 dscp 10/0x38 suppress_ifgroup 3 realms 1/2 lookup main priority 0",
			build(hdr(0, 8, 16, unix.FR_ACT_TO_TBL, unix.FIB_RULE_INVERT), func(m *messages) {
				m.ip(unix.FRA_DST, netip.MustParseAddr("10.0.0.0"))
				m.u32(unix.FRA_SUPPRESS_PREFIXLEN, ^uint32(0))
				m.u32(unix.FRA_FWMARK, 1)
				m.u32(unix.FRA_FWMASK, 0xff)
				m.bytes(unix.FRA_IIFNAME, []byte("eth0\x00"))
				m.bytes(unix.FRA_OIFNAME, []byte("eth1\x00"))
				m.u8(unix.FRA_L3MDEV, 1)
				m.bytes(unix.FRA_UID_RANGE, []byte{5, 0, 0, 0, 9, 0, 0, 0})
				m.u8(unix.FRA_IP_PROTO, 6)
				m.bytes(unix.FRA_SPORT_RANGE, pair(1, 9))
				m.bytes(unix.FRA_DPORT_RANGE, pair(53, 53))
				m.bytes(fraDportMask, pair(0xfff0, 0))
				m.bytes(fraSportMask, pair(0xffff, 0))
				m.bytes(unix.FRA_TUN_ID, []byte{0, 0, 0, 0, 0, 0, 0, 7})
				m.u8(fraDSCP, 10)
				m.u8(fraDSCPMask, 0x38)
				m.u32(unix.FRA_SUPPRESS_IFGROUP, 3)
				m.u32(unix.FRA_FLOW, 1<<16|2)
			}),
		},
		{"from all attribute-99 0x0102 lookup main priority 0", build(hdr(0, 0, 0, unix.FR_ACT_TO_TBL, 0), func(m *messages) { m.bytes(99, []byte{1, 2}) })},
	} {
		r, ok := decodeRule(c.b)
		if !ok || r.String() != c.want {
			t.Errorf("%v\nwant:  %s\nfound: %s", ok, c.want, r)
		}
	}
	r, _ := decodeRule(build(hdr(0, 0, 0, unix.FR_ACT_GOTO, 0), func(m *messages) { m.u32(unix.FRA_GOTO, 500) }))
	if r.Action != netstate.ActGoto || r.Others != "goto 500" || r.Table != 0 {
		t.Errorf("goto: %+v", r)
	}
}

// TestDamageIsNotBroadened: what is cut or does not fit is left out; it never
// turns into a rule for all, a route for all sources or an address of the other family.
func TestDamageIsNotBroadened(t *testing.T) {
	t.Parallel()
	rule := func(srcLen byte, add func(m *messages)) []byte {
		b := make([]byte, fibRuleLen)
		b[0], b[2], b[4], b[7] = unix.AF_INET, srcLen, 254, unix.FR_ACT_TO_TBL
		return build(b, add)
	}
	for name, b := range map[string][]byte{
		"rule of 99 bits":            rule(99, func(m *messages) { m.ip(unix.FRA_SRC, probe4) }),
		"rule of the wrong family":   rule(32, func(m *messages) { m.ip(unix.FRA_SRC, probe6) }),
		"rule with its header cut":   rule(32, nil)[:fibRuleLen-1],
		"rule of 99 bits, no source": rule(99, nil),
	} {
		if r, ok := decodeRule(b); ok {
			t.Errorf("%s: %s", name, r)
		}
	}
	if r, ok := decodeRule(rule(32, nil)); !ok || r.String() != "from 0.0.0.0 lookup main priority 0" {
		t.Errorf("the kernel leaves zeros out: %s", r)
	}
	route := rtmsg(10, 0, 254, 9, 0)
	route[2] = 200
	if r := appendRoutes(nil, build(route, func(m *messages) { m.ip(unix.RTA_SRC, probe6) }), nil); len(r) > 0 {
		t.Errorf("a source of 200 bits: %v", r)
	}
	mapped := netip.MustParseAddr("::ffff:10.0.0.1").AsSlice()
	if a, ok := decodeAddr(build([]byte{10, 96, 0, 0, 2, 0, 0, 0}, func(m *messages) { m.bytes(unix.IFA_ADDRESS, mapped) })); ok {
		t.Errorf("a mapped address on a link: %s", a)
	}
}

func TestDecodeEvent(t *testing.T) {
	k := &Kernel{}
	k.names.Store(&netstate.Names{2: "wlan0"})
	k.busy.Store(&linkSet{2: {}})
	d := decoder{options: testOptions, names: k.names.Load, busy: k.busy.Load, main: &k.main}
	link := make([]byte, ifinfoLen)
	putU32(link[4:], 2)
	putU32(link[8:], unix.IFF_UP|unix.IFF_LOWER_UP)
	scan := build(link, func(m *messages) { m.bytes(unix.IFLA_WIRELESS, make([]byte, 8)) })
	local := build(rtmsg(2, 32, 255, 2, 0), func(m *messages) { m.ip(unix.RTA_DST, probe4) })
	for name, c := range map[string]struct {
		h header
		b []byte
	}{
		"wifi scan":   {header{typ: unix.RTM_NEWLINK}, scan},
		"local table": {header{typ: unix.RTM_NEWROUTE}, local},
		"cloned":      {header{typ: unix.RTM_NEWROUTE}, rtmsg(10, 0, 254, 4, unix.RTM_F_CLONED)},
		"neighbour":   {header{typ: unix.RTM_NEWNEIGH}, link},
	} {
		if n := testing.AllocsPerRun(10, func() {
			if _, ok := d.hint(c.h, c.b); ok {
				t.Errorf("%s is news", name)
			}
		}); n != 0 {
			t.Errorf("%s costs %v allocations", name, n)
		}
	}
	hint, ok := d.hint(header{typ: unix.RTM_NEWLINK}, link)
	if !ok || hint.Why(nil) != "link wlan0 changed: up" {
		t.Errorf("%v %q", ok, hint.Why(nil))
	}
}

// TestWhatMayWait: an event of a link on which nothing depends is no reason to look at once, unless it may be what
// makes a path of it.
func TestWhatMayWait(t *testing.T) {
	k := &Kernel{}
	k.names.Store(&netstate.Names{})
	k.busy.Store(&linkSet{2: {}})
	d := decoder{options: testOptions, names: k.names.Load, busy: k.busy.Load, main: &k.main}
	link := func(index uint32) []byte {
		b := make([]byte, ifinfoLen)
		putU32(b[4:], index)
		return b
	}
	addr := func(index byte, ip string) []byte {
		return build([]byte{unix.AF_INET6, 64, 0, 0, index, 0, 0, 0}, func(m *messages) { m.ip(unix.IFA_ADDRESS, netip.MustParseAddr(ip)) })
	}
	route := func(index uint32, dst string) []byte {
		return build(rtmsg(unix.AF_INET6, 64, 254, 2, 0), func(m *messages) {
			m.ip(unix.RTA_DST, netip.MustParseAddr(dst))
			m.u32(unix.RTA_OIF, index)
		})
	}
	for _, c := range []struct {
		name string
		typ  uint16
		b    []byte
		lazy bool
	}{
		{"a link that is a path", unix.RTM_NEWLINK, link(2), false},
		{"another link", unix.RTM_DELLINK, link(3), true},
		{"its link-local address", unix.RTM_NEWADDR, addr(3, "fe80::1"), true},
		{"its global address", unix.RTM_NEWADDR, addr(3, "2001:db8::1"), false},
		{"its link-local prefix", unix.RTM_NEWROUTE, route(3, "fe80::"), true},
		{"a route by it", unix.RTM_NEWROUTE, route(3, "2001:db8:9::"), false},
		{"the link-local prefix of a path", unix.RTM_NEWROUTE, route(2, "fe80::"), false},
	} {
		if h, ok := d.hint(header{typ: c.typ}, c.b); !ok || h.Lazy != c.lazy {
			t.Errorf("%s: %v %+v", c.name, ok, h)
		}
	}
}

func TestParseReply(t *testing.T) {
	t.Parallel()
	errno := func(n int32) []byte {
		b := make([]byte, 4+unix.NLMSG_HDRLEN)
		putU32(b, uint32(n))
		putU32(b[4:], 16)
		return b
	}
	withText := build(errno(-int32(unix.EEXIST)), func(m *messages) { m.bytes(unix.NLMSGERR_ATTR_MSG, []byte("taken\x00")) })
	const tlvs, capped = unix.NLM_F_ACK_TLVS, unix.NLM_F_CAPPED
	for _, c := range []struct {
		h    header
		b    []byte
		want reply
	}{
		{header{typ: unix.NLMSG_ERROR}, errno(0), reply{}},
		{header{typ: unix.NLMSG_ERROR, flags: tlvs | capped}, withText, reply{unix.EEXIST, "taken"}},
		{header{typ: unix.NLMSG_ERROR, flags: tlvs}, withText, reply{unix.EEXIST, "taken"}},
		{header{typ: unix.NLMSG_ERROR}, withText, reply{unix.EEXIST, ""}},
		{header{typ: unix.NLMSG_ERROR}, errno(7), reply{unix.EPROTO, ""}},
		{header{typ: unix.NLMSG_ERROR}, nil, reply{unix.EPROTO, ""}}, // cut off: nobody knows
		{header{typ: unix.NLMSG_DONE, flags: tlvs}, build(errno(-int32(unix.ENOENT))[:4], func(m *messages) {
			m.bytes(unix.NLMSGERR_ATTR_MSG, []byte("no table\x00"))
		}), reply{unix.ENOENT, "no table"}},
	} {
		if got := parseReply(c.h, c.b); got != c.want {
			t.Errorf("%+v: %+v, want %+v", c.h, got, c.want)
		}
	}
}

// FuzzDecode feeds anything to every decoder: none may panic, and what they
// make of it must be printable.
func FuzzDecode(f *testing.F) {
	f.Add(uint16(unix.RTM_NEWROUTE), rtmsg(2, 0, 254, 4, 0))
	f.Add(uint16(unix.RTM_NEWROUTE), build(rtmsg(10, 0, 254, 4, 0), func(m *messages) {
		m.bytes(unix.RTA_MULTIPATH, nexthopOf(2, 0, func(m *messages) { m.ip(unix.RTA_GATEWAY, probe6) }))
	}))
	f.Add(uint16(unix.RTM_NEWADDR), []byte{2, 24, 0, 0, 1, 0, 0, 0, 8, 0, 2, 0, 1, 2, 3, 4})
	f.Add(uint16(unix.RTM_NEWLINK), build(make([]byte, ifinfoLen), func(m *messages) { m.bytes(unix.IFLA_IFNAME, []byte("eth0\x00")) }))
	f.Add(uint16(unix.RTM_NEWRULE), []byte{2, 0, 32, 0, 254, 0, 0, 1, 0, 0, 0, 0, 8, 0, 2, 0, 1, 2, 3, 4})
	f.Add(uint16(unix.NLMSG_ERROR), []byte{0xff, 0xff, 0xff, 0xff})
	k := &Kernel{}
	k.names.Store(&netstate.Names{})
	k.busy.Store(&linkSet{})
	d := decoder{options: testOptions, names: k.names.Load, busy: k.busy.Load, main: &k.main}
	var kept [256]bool
	f.Fuzz(func(t *testing.T, typ uint16, b []byte) {
		if l, ok := decodeLink(b); ok {
			_ = l.String()
		}
		if a, ok := decodeAddr(b); ok {
			_ = a.String()
		}
		for _, keep := range []*keeper{nil, {protocols: &kept, onLink: &prefixes{list: []netip.Prefix{netstate.IPv4.Default()}}}} {
			for _, r := range appendRoutes(nil, b, keep) {
				_ = r.String()
			}
		}
		if r, ok := decodeRule(b); ok {
			_ = r.String()
		}
		decodeNexthop(b)
		_ = parseReply(header{typ: typ, flags: unix.NLM_F_ACK_TLVS}, b).Error()
		hint, _ := d.hint(header{typ: typ}, b)
		_ = hint.Why(nil)
		for rest := b; ; {
			h, payload, more, ok := nextMessage(rest)
			if !ok {
				break
			}
			d.hint(h, payload)
			rest = more
		}
	})
}
