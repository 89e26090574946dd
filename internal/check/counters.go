package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/subflowd/subflowd/internal/plan"
)

// Thresholds of counters that count in good times too.
const (
	fewAttempts = 5 // answers without MPTCP before "never with it" means something
	fewJoins    = 3 // joins that were not answered, likewise
)

// many tells whether a tenth or more went wrong. Since the namespace was made
// single cases may have had any reason: a join that came late, a port scan.
func many(wrong, all uint64) bool { return wrong > 0 && wrong*10 >= all }

// counters reads what the counters (net/mptcp/mib.c) tell of the network and of
// peers since the namespace was made.
func (l *looker) counters() {
	l.stripped()
	l.blackhole()
	tx, rx := l.Counters["MPJoinSynTx"], l.Counters["MPJoinSynAckRx"]
	if lost := tx - min(rx, tx); lost >= fewJoins && lost*2 > tx {
		l.find(plan.Warning, "joins-unanswered", "peers", fmt.Sprintf("answered %d of %d further subflows", rx, tx),
			"subflowctl probe SERVER", l.values("MPJoinSynTx", "MPJoinSynAckRx"))
	}
	changed := []string{"DataCsumErr", "DSSCorruptionFallback", "DSSCorruptionReset", "DSSNoMatchTCP", "MPFailTx", "MPFailRx", "InfiniteMapRx"}
	if l.sum(changed) > 0 {
		l.find(plan.Warning, "middlebox-changes", "network", "something on the way changed what MPTCP connections carried",
			"sysctl -w net.mptcp.checksum_enabled=1 (on both ends: changes are found before they do harm)", l.nonZero(changed))
	}
	refused := []string{"MPJoinRejected", "MPJoinNoTokenFound", "MPJoinAckHMacFailure", "MPJoinSynAckHMacFailure"}
	if asked := l.Counters["MPJoinSynRx"]; many(l.sum(refused), asked) {
		l.find(plan.Warning, "joins-refused", "kernel", "refused further subflows that peers asked for",
			"ip mptcp limits show (too low on this side?); behind a load balancer all subflows must reach the same host",
			l.nonZero(refused), l.values("MPJoinSynRx"))
	}
	failed := []string{"MPJoinSynTxCreatSkErr", "MPJoinSynTxBindErr", "MPJoinSynTxConnectErr"}
	if many(l.sum(failed), l.sum(failed)+tx) {
		l.find(plan.Info, "joins-failed", "kernel", "could not begin further subflows since the boot: their address or route was missing",
			"subflowctl counters --watch (a fault only while they grow; what was counted stays until the next boot)", l.nonZero(failed))
	}
}

// stripped tells of options that were lost on the way. A server that answers
// without them may know none; that no server at all knows them is unlikely.
// Connections that were refused or not answered say nothing: they count in
// MPCapableSYNTX, and not in MPCapableFallbackSYNACK.
func (l *looker) stripped() {
	without, with := l.Counters["MPCapableFallbackSYNACK"], l.Counters["MPCapableSYNACKRX"]
	switch lost := l.Counters["MPCapableFallbackACK"]; {
	case many(lost, l.Counters["MPCapableSYNRX"]):
		l.find(plan.Warning, "middlebox-strips", "network", "something on the way to this host removes MPTCP options: connections began with them and went on without",
			"subflowctl probe --serve, and subflowctl probe on a client", l.values("MPCapableSYNRX", "MPCapableFallbackACK"))
	case without >= fewAttempts && with == 0:
		l.find(plan.Warning, "middlebox-strips", "network",
			fmt.Sprintf("all of %d servers' answers to connections that offered MPTCP came without it: the servers know none, or something on the way removes it", without),
			"subflowctl probe SERVER (one that is known to speak MPTCP)", l.values("MPCapableSYNTX", "MPCapableSYNACKRX", "MPCapableFallbackSYNACK"))
	}
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
	evidence := []string{l.nonZero([]string{"Blackhole", "MPCapableSYNTXDrop", "MPCapableSYNTXDisabled"})}
	if seen {
		evidence = append(evidence, fmt.Sprintf("net.mptcp.blackhole_timeout = %d", timeout))
	}
	l.find(plan.Warning, "blackhole", "network", "dropped connections that offered MPTCP and took them without",
		fmt.Sprintf("sysctl -w net.mptcp.blackhole_timeout=%d (offers MPTCP again at once; 0 for always)", timeout), evidence...)
}

func (l *looker) sum(names []string) (n uint64) {
	for _, name := range names {
		n += l.Counters[name]
	}
	return n
}

// nonZero is evidence with those of the counters that are not zero.
func (l *looker) nonZero(names []string) string {
	return l.values(slices.DeleteFunc(slices.Clone(names), func(n string) bool { return l.Counters[n] == 0 })...)
}

func (l *looker) values(names ...string) string {
	var seen []string
	for _, n := range names {
		seen = append(seen, fmt.Sprintf("%s %d", n, l.Counters[n]))
	}
	return "nstat -az: " + strings.Join(seen, ", ")
}
