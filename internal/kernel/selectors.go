package kernel

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Attributes of rules that came after those that package nl has
// (include/uapi/linux/fib_rules.h): 6.14 and 6.15.
const (
	fraDSCP          = 25
	fraFlowLabel     = 26
	fraFlowLabelMask = 27
	fraSportMask     = 28
	fraDportMask     = 29
	fraDSCPMask      = 30
)

// selectors collects what a rule has beyond the fields of netstate.Rule, for
// words in the order of ip-rule(8).
type selectors struct {
	family, dstLen, tos uint8
	flags               uint32

	to, l3mdev, tunID, uids, ipproto, sport, dport  string
	iif, oif, suppressIfgroup, target, realms, dscp string
	flowLabel                                       string
	mark, markMask                                  uint32
	hasMark                                         bool
	sportMask, dportMask, dscpMask, flowLabelMask   string
	unknown                                         []string
}

func (s *selectors) attr(typ uint16, v []byte) {
	switch typ {
	case nl.FRA_DST:
		s.to = prefixOf(s.family, v, s.dstLen).String()
	case nl.FRA_IIFNAME:
		s.iif = text(v)
	case nl.FRA_OIFNAME:
		s.oif = text(v)
	case nl.FRA_FWMARK:
		s.mark, s.hasMark = u32At(v, 0), true
	case nl.FRA_FWMASK:
		s.markMask = u32At(v, 0)
	case nl.FRA_GOTO:
		s.target = decimal(u32At(v, 0))
	case nl.FRA_FLOW:
		s.realms = realms(u32At(v, 0))
	case nl.FRA_TUN_ID:
		if len(v) >= 8 {
			s.tunID = strconv.FormatUint(binary.BigEndian.Uint64(v), 10)
		}
	case nl.FRA_SUPPRESS_IFGROUP:
		if g := u32At(v, 0); g != ^uint32(0) { // the kernel's "none"
			s.suppressIfgroup = decimal(g)
		}
	case nl.FRA_L3MDEV:
		if u8At(v, 0) != 0 {
			s.l3mdev = "l3mdev"
		}
	case nl.FRA_UID_RANGE:
		s.uids = decimal(u32At(v, 0)) + "-" + decimal(u32At(v, 4))
	case nl.FRA_IP_PROTO:
		s.ipproto = decimal(uint32(u8At(v, 0)))
	case nl.FRA_SPORT_RANGE:
		s.sport = portRange(v)
	case nl.FRA_DPORT_RANGE:
		s.dport = portRange(v)
	case fraDSCP:
		s.dscp = decimal(uint32(u8At(v, 0)))
	case fraDSCPMask:
		s.dscpMask = mask(uint32(u8At(v, 0)), 0x3f)
	case fraFlowLabel:
		if len(v) >= 4 {
			s.flowLabel = "0x" + strconv.FormatUint(uint64(binary.BigEndian.Uint32(v)), 16)
		}
	case fraFlowLabelMask:
		if len(v) >= 4 {
			s.flowLabelMask = mask(binary.BigEndian.Uint32(v), 0xfffff)
		}
	case fraSportMask:
		s.sportMask = mask(uint32(u16At(v, 0)), 0xffff)
	case fraDportMask:
		s.dportMask = mask(uint32(u16At(v, 0)), 0xffff)
	case nl.FRA_PAD, nl.FRA_UNUSED2, nl.FRA_UNUSED3, nl.FRA_UNUSED4, nl.FRA_UNUSED5:
	default:
		s.unknown = append(s.unknown, fmt.Sprintf("attribute-%d 0x%x", typ, v))
	}
}

// render gives the words, each selector as one element.
func (s *selectors) render() []string {
	var words []string
	add := func(name, v string) {
		if v != "" {
			words = append(words, name+" "+v)
		}
	}
	if s.flags&unix.FIB_RULE_INVERT != 0 {
		words = append(words, "not")
	}
	if s.to == "" && s.dstLen != 0 {
		s.to = prefixOf(s.family, nil, s.dstLen).String()
	}
	if p, err := netip.ParsePrefix(s.to); err == nil && p.IsSingleIP() {
		s.to = p.Addr().String()
	}
	add("to", s.to)
	if s.tos != 0 {
		add("tos", "0x"+strconv.FormatUint(uint64(s.tos), 16))
	}
	if s.hasMark || s.markMask != 0 {
		add("fwmark", "0x"+strconv.FormatUint(uint64(s.mark), 16)+mask(s.markMask, ^uint32(0)))
	}
	add("iif", s.iif)
	add("oif", s.oif)
	if s.l3mdev != "" {
		words = append(words, s.l3mdev)
	}
	add("uidrange", s.uids)
	add("ipproto", s.ipproto)
	add("sport", join(s.sport, s.sportMask))
	add("dport", join(s.dport, s.dportMask))
	add("tun_id", s.tunID)
	add("dscp", join(s.dscp, s.dscpMask))
	add("flowlabel", join(s.flowLabel, s.flowLabelMask))
	add("suppress_ifgroup", s.suppressIfgroup)
	add("realms", s.realms)
	add("goto", s.target)
	return append(words, s.unknown...)
}

// join puts a mask behind a value; a mask that is alone means nothing.
func join(value, mask string) string {
	if value == "" {
		return ""
	}
	return value + mask
}

// mask is "/0xff00", or empty for a mask of all ones.
func mask(m, full uint32) string {
	if m == full {
		return ""
	}
	return "/0x" + strconv.FormatUint(uint64(m), 16)
}

func portRange(b []byte) string {
	from, to := decimal(uint32(u16At(b, 0))), decimal(uint32(u16At(b, 2)))
	if from == to {
		return from
	}
	return from + "-" + to
}

// realms is FRA_FLOW: the source realm in the upper half, the destination's in
// the lower one.
func realms(v uint32) string {
	if from := v >> 16; from != 0 {
		return decimal(from) + "/" + decimal(v&0xffff)
	}
	return decimal(v)
}

func decimal(v uint32) string { return strconv.FormatUint(uint64(v), 10) }
