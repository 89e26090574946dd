package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/subflowd/subflowd/internal/plan"
)

// Thresholds of counters that count in good times too.
const (
	fewAttempts = 5 // connections that offered MPTCP before "never answered" means something
	fewJoins    = 3 // joins that were not answered, likewise
)

// counters reads what the counters (net/mptcp/mib.c) tell of the network and of
// peers since the namespace was made.
func (l *looker) counters() {
	l.stripped()
	l.blackhole()
	tx, rx := l.Counters["MPJoinSynTx"], l.Counters["MPJoinSynAckRx"]
	if lost := tx - min(rx, tx); lost >= fewJoins && lost*2 > tx {
		l.find(plan.Warning, "joins-unanswered", "peers", fmt.Sprintf("answered %d of %d further subflows", rx, tx),
			"subflowctl explain SERVER; tcpdump -ni LINK 'tcp[tcpflags] & tcp-syn != 0'", l.values([]string{"MPJoinSynTx", "MPJoinSynAckRx"})...)
	}
	for _, c := range counted {
		if seen := l.nonZero(c.names...); len(seen) > 0 {
			l.report(Finding{Finding: c.finding, Evidence: seen})
		}
	}
}

// counted are findings that hold as soon as one of the counters is not zero.
var counted = []struct {
	finding plan.Finding
	names   []string
}{
	{plan.Finding{
		Code: "middlebox-changes", Severity: plan.Warning, Object: "network", Text: "something on the way changed what MPTCP connections carried",
		Remedy: "sysctl -w net.mptcp.checksum_enabled=1 (on both ends: changes are found before they do harm)",
	}, []string{"DataCsumErr", "DSSCorruptionFallback", "DSSCorruptionReset", "DSSNoMatchTCP", "MPFailTx", "MPFailRx", "InfiniteMapRx"}},
	{plan.Finding{
		Code: "joins-refused", Severity: plan.Warning, Object: "kernel", Text: "refused further subflows that peers asked for",
		Remedy: "ip mptcp limits show (too low on this side?); behind a load balancer all subflows must reach the same host",
	}, []string{"MPJoinRejected", "MPJoinNoTokenFound", "MPJoinAckHMacFailure", "MPJoinSynAckHMacFailure"}},
	{plan.Finding{
		Code: "joins-failed", Severity: plan.Info, Object: "kernel", Text: "could not begin further subflows: their address or route was missing",
		Remedy: "nstat -az 'MPTcpExtMPJoinSynTx*' (a fault only while they grow)",
	}, []string{"MPJoinSynTxCreatSkErr", "MPJoinSynTxBindErr", "MPJoinSynTxConnectErr"}},
}

// stripped tells of options that were lost on the way. A server that answers
// without them may know none; that no server at all knows them is unlikely.
func (l *looker) stripped() {
	tx, rx := l.Counters["MPCapableSYNTX"], l.Counters["MPCapableSYNACKRX"]
	var text string
	switch {
	case l.Counters["MPCapableFallbackACK"] > 0:
		text = "something on the way to this host removes MPTCP options: connections began with them and went on without"
	case tx >= fewAttempts && rx == 0:
		text = fmt.Sprintf("none of %d connections that offered MPTCP got an answer with it: the servers know none, or something on the way removes it", tx)
	default:
		return
	}
	l.find(plan.Warning, "middlebox-strips", "network", text, "try a server that is known to speak MPTCP over each link",
		l.values([]string{"MPCapableFallbackACK", "MPCapableSYNTX", "MPCapableSYNACKRX"})...)
}

// blackhole tells that the kernel met a network that drops MPTCP's first
// packet, and stopped offering it for net.mptcp.blackhole_timeout seconds, then
// twice as long and so on. To write the value again ends that at once
// (net/mptcp/ctrl.c).
func (l *looker) blackhole() {
	n := l.Counters["Blackhole"]
	timeout, seen := l.number("net/mptcp/blackhole_timeout")
	if n == 0 {
		return
	}
	evidence := l.nonZero("Blackhole", "MPCapableSYNTXDrop", "MPCapableSYNTXDisabled")
	if seen {
		evidence = append(evidence, fmt.Sprintf("net.mptcp.blackhole_timeout = %d", timeout))
	}
	l.find(plan.Warning, "blackhole", "network", "dropped connections that offered MPTCP and took them without",
		fmt.Sprintf("sysctl -w net.mptcp.blackhole_timeout=%d (offers MPTCP again at once; 0 for always)", timeout), evidence...)
}

// nonZero is one line of evidence with the counters that are not zero, nil where
// all are.
func (l *looker) nonZero(names ...string) []string {
	return l.values(slices.DeleteFunc(slices.Clone(names), func(n string) bool { return l.Counters[n] == 0 }))
}

func (l *looker) values(names []string) []string {
	if len(names) == 0 {
		return nil
	}
	var seen []string
	for _, n := range names {
		seen = append(seen, fmt.Sprintf("%s %d", n, l.Counters[n]))
	}
	return []string{"nstat -az: " + strings.Join(seen, ", ")}
}
