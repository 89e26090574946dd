package check

import (
	"github.com/subflowd/subflowd/internal/plan"
)

// Effect is what a firewall rule does to Multipath TCP.
type Effect string

// Effects of rules.
const (
	DropsAll     Effect = "drops packets with MPTCP options"
	DropsCapable Effect = "drops the first packet of MPTCP connections (MP_CAPABLE)"
	DropsJoins   Effect = "drops further subflows of MPTCP connections (MP_JOIN)"
	DropsSome    Effect = "drops packets with certain MPTCP options"
	Strips       Effect = "removes MPTCP options from packets"
	Proxies      Effect = "answers connections itself, without MPTCP options (SYNPROXY)"
)

// FirewallRule is a rule that hits Multipath TCP (TCP option 30, RFC 8684).
type FirewallRule struct {
	Where  string // "nft table inet filter, chain input"
	Hook   string // "input", "forward", ...; empty: the chain is called from others
	Text   string // the rule, as its tool writes it
	Delete string // the command that removes it
	Effect Effect
}

// firewall reports the rules. One that only concerns what the host forwards
// leaves its own connections alone.
func (l *looker) firewall() {
	for _, r := range l.Firewall {
		severity, whose := plan.Error, ""
		if r.Hook == "forward" {
			severity, whose = plan.Warning, ", of what this host forwards"
		}
		if r.Effect == Strips || r.Effect == Proxies {
			l.find(severity, "firewall-strips", r.Where, string(r.Effect)+whose, r.Delete, r.Text)
		} else {
			l.find(severity, "firewall-drops", r.Where, string(r.Effect)+whose, r.Delete, r.Text)
		}
	}
}
