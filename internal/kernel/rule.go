package kernel

import (
	"errors"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
)

// fibRuleLen is the length of struct fib_rule_hdr, which has the fields of
// struct rtmsg but for the action in the place of the type.
const fibRuleLen = unix.SizeofRtMsg

// ErrNoRules is the error of a kernel that has no policy routing, wrapped: no
// table but main is asked, and a route for another one would land in main
// (fib_new_table without CONFIG_IP_MULTIPLE_TABLES, include/net/ip_fib.h). So
// nothing else is read.
var ErrNoRules = errors.New("the kernel has no policy routing")

// readRules reads the rules of one family, or of both for 0, in the kernel's order. Rules
// cannot be filtered by the kernel. A strict socket refuses a dump whose header
// is not a whole struct fib_rule_hdr, as the library's RuleList sends it.
func (k *Kernel) readRules(family netstate.Family) error {
	rules := make([]netstate.Rule, 0, len(k.rules)+8)
	for _, f := range k.families {
		if family != 0 && f != family {
			for _, r := range k.rules {
				if r.Family == f {
					rules = append(rules, r)
				}
			}
			continue
		}
		k.rt.reset()
		k.rt.begin(unix.RTM_GETRULE, unix.NLM_F_DUMP, k.rt.nextSeq())
		nl.DeserializeRtMsg(k.rt.zero(fibRuleLen)).Family = byte(f)
		k.rt.end()
		before := len(rules)
		err := k.rt.dump(func() { rules = rules[:before] }, func(h header, b []byte) {
			if r, ok := decodeRule(b); ok && h.typ == unix.RTM_NEWRULE && r.Family == f {
				rules = append(rules, r)
			}
		})
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
			return ErrNoRules
		}
		if err != nil {
			return err
		}
	}
	if !slices.Equal(rules, k.rules) {
		k.changed |= netstate.KindRules
		k.rules = rules
	}
	return nil
}

// decodeRule reads a message of struct fib_rule_hdr and its attributes.
func decodeRule(b []byte) (netstate.Rule, bool) {
	if len(b) < fibRuleLen {
		return netstate.Rule{}, false
	}
	h := nl.DeserializeRtMsg(b)
	if h.Family != unix.AF_INET && h.Family != unix.AF_INET6 {
		return netstate.Rule{}, false
	}
	var src []byte
	r := netstate.Rule{
		Family: netstate.Family(h.Family), Action: netstate.RuleAction(h.Type), Table: uint32(h.Table), Suppress: netstate.NoSuppress,
	}
	words := selectors{family: h.Family, dstLen: h.Dst_len, tos: h.Tos, flags: h.Flags}
	a := attrsAfter(b, fibRuleLen)
	for typ, v, ok := a.next(); ok; typ, v, ok = a.next() {
		switch typ {
		case nl.FRA_SRC:
			src = v
		case nl.FRA_PRIORITY:
			r.Priority = u32At(v, 0)
		case nl.FRA_TABLE:
			r.Table = u32At(v, 0)
		case nl.FRA_SUPPRESS_PREFIXLEN:
			r.Suppress = int32(u32At(v, 0))
		case nl.FRA_PROTOCOL:
			r.Protocol = u8At(v, 0)
		default:
			words.attr(typ, v)
		}
	}
	if r.Action != netstate.ActLookup {
		r.Table = 0
	}
	r.Others = strings.Join(words.render(), " ")
	if h.Src_len == 0 {
		return r, true
	}
	r.From = prefixOf(h.Family, src, h.Src_len)
	return r, r.From.IsValid() && r.From.Addr().Is4() == (h.Family == unix.AF_INET)
}
