package iptext

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/subflowd/subflowd/internal/netstate"
)

// Rule reads "rule PRIORITY: from ADDRESS [SELECTORS] lookup TABLE
// [suppress_prefixlength N] [proto P]", with "rule6" for IPv6 rules from all.
// Words that it does not know become Rule.Others.
func Rule(line string) (netstate.Rule, error) {
	r := netstate.Rule{Family: netstate.IPv4, Suppress: netstate.NoSuppress, Protocol: netstate.ProtoBoot}
	w := strings.Fields(line)
	if len(w) > 0 && strings.HasPrefix(w[0], "rule") {
		if w[0] == "rule6" {
			r.Family = netstate.IPv6
		}
		w = w[1:]
	}
	if len(w) == 0 {
		return r, fmt.Errorf("want a priority and a colon")
	}
	prio, err := strconv.ParseUint(strings.TrimSuffix(w[0], ":"), 10, 32)
	if err != nil {
		return r, err
	}
	r.Priority = uint32(prio)
	var others []string
	for k := 1; k < len(w); k++ {
		used, err := ruleWord(&r, w[k:])
		if err != nil {
			return r, err
		}
		if used == 0 {
			others = append(others, w[k])
			continue
		}
		k += used - 1
	}
	r.Others = strings.Join(others, " ")
	return r, nil
}

// MustRule is Rule for text that is part of a test.
func MustRule(line string) netstate.Rule {
	r, err := Rule(line)
	if err != nil {
		panic(err)
	}
	return r
}

// ruleWord reads one attribute and returns how many words it took; 0: unknown.
func ruleWord(r *netstate.Rule, w []string) (used int, err error) {
	actions := map[string]netstate.RuleAction{
		"unreachable": netstate.ActUnreachable, "blackhole": netstate.ActBlackhole,
		"prohibit": netstate.ActProhibit, "nop": netstate.ActNop,
	}
	if a, ok := actions[w[0]]; ok {
		r.Action = a
		return 1, nil
	}
	if len(w) < 2 {
		return 0, nil
	}
	switch w[0] {
	case "from":
		if w[1] == "all" {
			return 2, nil
		}
		var p netip.Prefix
		if p, err = prefix(w[1]); err == nil {
			r.From, r.Family = p, netstate.FamilyOf(p.Addr())
		}
	case "lookup":
		r.Action = netstate.ActLookup
		r.Table, err = table(w[1])
	case "suppress_prefixlength":
		var n uint64
		n, err = strconv.ParseUint(w[1], 10, 31)
		r.Suppress = int32(n)
	case "proto":
		r.Protocol, err = protocol(w[1])
	default:
		return 0, nil
	}
	return 2, err
}
