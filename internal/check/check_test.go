package check

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
)

// Every finding is brought about on a real host in internal/kernel/inspect; here
// are thresholds and order.

// quiet are the facts of a host with nothing on it.
func quiet() *Facts {
	return &Facts{
		Config: config.Default(), Plan: &plan.Plan{}, Sysctls: map[string]string{},
		Snapshot: &netstate.Snapshot{MPTCP: netstate.MPTCP{Present: true, Enabled: true}, Limits: netstate.Limits{Subflows: 2, AddAddrAccepted: 4}},
	}
}

func found(f *Facts) string {
	var out []string
	for _, x := range Look(f) {
		out = append(out, fmt.Sprintf("%s %s", x.Severity, x.Code))
	}
	return strings.Join(out, ", ")
}

func TestCounters(t *testing.T) {
	for _, c := range []struct {
		counters map[string]uint64
		want     string
	}{
		{nil, ""},
		{map[string]uint64{"MPJoinSynTx": 100, "MPJoinSynAckRx": 60}, ""},
		{map[string]uint64{"MPJoinSynTx": 2}, ""},
		{map[string]uint64{"MPJoinSynTx": 3}, "warning joins-unanswered"},
		{map[string]uint64{"MPJoinSynAckRx": 3, "MPJoinSynTx": 2}, ""},
		{map[string]uint64{"MPJoinSynRx": 100, "MPJoinNoTokenFound": 9}, ""},
		{map[string]uint64{"MPJoinSynRx": 100, "MPJoinNoTokenFound": 9, "MPJoinRejected": 1}, "warning joins-refused"},
		{map[string]uint64{"MPJoinSynTx": 100, "MPJoinSynAckRx": 100, "MPJoinSynTxBindErr": 11}, ""},
		{map[string]uint64{"MPJoinSynTxBindErr": 1}, "info joins-failed"},
		{map[string]uint64{"MPCapableSYNRX": 11, "MPCapableFallbackACK": 1}, ""},
		{map[string]uint64{"MPCapableSYNRX": 10, "MPCapableFallbackACK": 1}, "warning middlebox-strips"},
		{map[string]uint64{"MPCapableSYNTX": 4}, ""},
		{map[string]uint64{"MPCapableSYNTX": 5}, "warning middlebox-strips"},
		{map[string]uint64{"MPCapableSYNTX": 50, "MPCapableSYNACKRX": 1, "MPCapableFallbackSYNACK": 49}, ""},
		{map[string]uint64{"DSSCorruptionReset": 1}, "warning middlebox-changes"},
		{map[string]uint64{"Blackhole": 1}, "warning blackhole"},
	} {
		f := quiet()
		f.Counters = c.counters
		// What is judged must not be worn out by judging.
		for range 2 {
			if got := found(f); got != c.want {
				t.Errorf("%v: want %q, found %q", c.counters, c.want, got)
			}
		}
	}
}

// TestDaemonsWord: what the daemon says comes through, the worst first and none
// twice; of what the local plan finds nothing.
func TestDaemonsWord(t *testing.T) {
	f := quiet()
	f.Plan.Findings = []plan.Finding{{Code: "same-address", Severity: plan.Warning, Object: "10.1.1.2"}}
	f.Daemon = &Daemon{Conditions: []plan.Finding{
		{Code: "lingering", Severity: plan.Info, Object: "10.1.1.2"},
		{Code: "contention", Severity: plan.Warning, Object: "rules of 10.1.1.2"},
		{Code: "contention", Severity: plan.Warning, Object: "rules of 10.1.1.2"},
		{Code: "foreign-endpoint", Severity: plan.Info, Object: "10.1.1.3"},
		{Code: "change-failed", Severity: plan.Error, Object: "limits"},
	}}
	if want, got := "error change-failed, warning contention, info lingering", found(f); got != want {
		t.Errorf("want %q, found %q", want, got)
	}
	f.Daemon = nil
	if want, got := "warning same-address", found(f); got != want {
		t.Errorf("without a daemon: want %q, found %q", want, got)
	}
}

// TestGuard: limits of 0 are meant while a tunnel is up.
func TestGuard(t *testing.T) {
	f := quiet()
	f.Daemon, f.Snapshot.Limits = &Daemon{}, netstate.Limits{}
	if got := found(f); got != "error limits-low" {
		t.Errorf("without a tunnel: %q", got)
	}
	f.Plan.Guard = &plan.Guard{Name: "tun0", Policy: config.VPNWithdraw}
	if got := found(f); got != "" {
		t.Errorf("beside a tunnel: %q", got)
	}
}

func TestOldLosses(t *testing.T) {
	f := quiet()
	f.Daemon = &Daemon{Overflows: 3, SinceOverflow: 59 * time.Minute}
	if got := found(f); got != "info events-lost" {
		t.Error(got)
	}
	f.Daemon.SinceOverflow = time.Hour
	if got := found(f); got != "" {
		t.Error(got)
	}
}

// TestConsequences are sentences without an end, as the screen wants them.
func TestConsequences(t *testing.T) {
	for code, text := range Consequences {
		if text == "" || strings.HasSuffix(text, ".") || strings.ToUpper(text[:1]) == text[:1] && !slices.Contains([]string{"IP", "MP"}, text[:2]) {
			t.Errorf("%s: %q", code, text)
		}
	}
}
