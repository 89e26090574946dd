package kernel

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
)

const fibRuleLen = 12 // struct fib_rule_hdr

// readRules reads the rules of both families, in the kernel's order. Rules
// cannot be filtered by the kernel. A strict socket refuses a dump whose header
// is not a whole struct fib_rule_hdr.
func (k *Kernel) readRules() error {
	rules := make([]netstate.Rule, 0, len(k.rules)+8)
	for _, f := range k.families {
		k.rt.reset()
		k.rt.begin(unix.RTM_GETRULE, unix.NLM_F_DUMP, k.rt.nextSeq())
		k.rt.zero(fibRuleLen)[0] = byte(f)
		k.rt.end()
		before := len(rules)
		err := k.rt.dump(func() { rules = rules[:before] }, func(h header, b []byte) {
			if r, ok := decodeRule(b); ok && h.typ == unix.RTM_NEWRULE && r.Family == f {
				rules = append(rules, r)
			}
		})
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
	if len(b) < fibRuleLen || (b[0] != unix.AF_INET && b[0] != unix.AF_INET6) {
		return netstate.Rule{}, false
	}
	r := netstate.Rule{
		Family: netstate.Family(b[0]), Action: netstate.RuleAction(b[7]), Table: uint32(b[4]), Suppress: netstate.NoSuppress,
	}
	words := selectors{family: b[0], dstLen: b[1], tos: b[3], flags: u32At(b, 8)}
	a := attrsAfter(b, fibRuleLen)
	for typ, v, ok := a.next(); ok; typ, v, ok = a.next() {
		switch typ {
		case unix.FRA_SRC:
			if b[2] != 0 {
				r.From = prefixOf(b[0], v, b[2])
			}
		case unix.FRA_PRIORITY:
			r.Priority = u32At(v, 0)
		case unix.FRA_TABLE:
			r.Table = u32At(v, 0)
		case unix.FRA_SUPPRESS_PREFIXLEN:
			r.Suppress = int32(u32At(v, 0))
		case unix.FRA_PROTOCOL:
			r.Protocol = u8At(v, 0)
		default:
			words.attr(typ, v)
		}
	}
	if r.Action != netstate.ActLookup {
		r.Table = 0
	}
	r.Others = strings.Join(words.render(), " ")
	return r, !r.From.IsValid() || r.From.Addr().Is4() == (b[0] == unix.AF_INET)
}
