package netstate

import (
	"net/netip"
	"strconv"
	"strings"
)

// RuleAction is an FR_ACT_ number (linux/fib_rules.h).
type RuleAction uint8

// Actions of rules.
const (
	ActLookup      RuleAction = 1
	ActGoto        RuleAction = 2
	ActNop         RuleAction = 3
	ActBlackhole   RuleAction = 6
	ActUnreachable RuleAction = 7
	ActProhibit    RuleAction = 8
)

// NoSuppress is the value of Rule.Suppress for a rule that suppresses nothing.
const NoSuppress = -1

// Rule is one policy routing rule. All fields are part of the kernel's key:
// a delete that leaves one out takes the first rule that matches the rest.
type Rule struct {
	Family   Family
	Priority uint32
	From     netip.Prefix // zero: all
	Action   RuleAction
	Table    uint32 // for ActLookup
	Suppress int32  // suppress_prefixlength, or NoSuppress
	Protocol uint8  // FRA_PROTOCOL
	// Others holds every other selector and attribute in ip-rule(8) words
	// ("fwmark 0x1", "iif eth0", "not", "l3mdev"), empty when there are none.
	// A rule that has any is never ours and never makes an uplink.
	Others string
}

// Text is the rule as the arguments of `ip rule add`.
func (r Rule) Text() string {
	var b strings.Builder
	if r.From.IsValid() {
		b.WriteString("from " + prefixText(r.From))
	} else {
		b.WriteString("from all")
	}
	if r.Others != "" {
		b.WriteString(" " + r.Others)
	}
	switch r.Action {
	case ActLookup:
		b.WriteString(" lookup " + tableText(r.Table))
	case ActGoto:
		b.WriteString(" goto")
	case ActNop:
		b.WriteString(" nop")
	case ActBlackhole:
		b.WriteString(" blackhole")
	case ActUnreachable:
		b.WriteString(" unreachable")
	case ActProhibit:
		b.WriteString(" prohibit")
	}
	if r.Suppress != NoSuppress {
		b.WriteString(" suppress_prefixlength " + strconv.Itoa(int(r.Suppress)))
	}
	b.WriteString(" priority " + strconv.FormatUint(uint64(r.Priority), 10))
	b.WriteString(protoText(r.Protocol))
	return b.String()
}

// String is Text.
func (r Rule) String() string { return r.Text() }

func prefixText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func tableText(t uint32) string {
	switch t {
	case TableMain:
		return "main"
	case TableLocal:
		return "local"
	case TableDefault:
		return "default"
	}
	return strconv.FormatUint(uint64(t), 10)
}
