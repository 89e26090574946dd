package check

import (
	"fmt"
	"net/netip"
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
		{map[string]uint64{"MPCapableSYNTX": 4, "MPCapableFallbackSYNACK": 4}, ""},
		{map[string]uint64{"MPCapableSYNTX": 5, "MPCapableFallbackSYNACK": 5}, "warning middlebox-strips"},
		// Nobody answered, or with a reset.
		{map[string]uint64{"MPCapableSYNTX": 50}, ""},
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

// twoLinks are the facts of a host with an address on each of two links of the
// kinds, both with carrier; the first is a path.
func twoLinks(one, two, kind string) *Facts {
	f := quiet()
	const up = netstate.FlagUp | netstate.FlagLowerUp
	f.Snapshot.Links = []netstate.Link{{Index: 2, Name: "eth0.100", Flags: up}, {Index: 3, Name: "b", Kind: kind, Flags: up}}
	f.Snapshot.Addrs = []netstate.Addr{{Link: 2, Local: netip.MustParsePrefix(one)}, {Link: 3, Local: netip.MustParsePrefix(two)}}
	f.Plan.Paths = []plan.Path{{Link: 2, Name: "eth0.100", Family: netstate.IPv4, State: plan.Live}}
	f.Daemon = &Daemon{Converged: true}
	return f
}

// TestSubnets: the containers' network inside that of the host's site shares no
// wire with it.
func TestSubnets(t *testing.T) {
	for _, c := range []struct{ one, two, kind, want string }{
		{"10.0.0.5/8", "10.200.0.1/24", "bridge", ""},
		{"10.0.0.5/8", "10.0.0.6/8", "bridge", "warning arp-flux"},
		{"10.0.0.5/24", "10.0.0.6/24", "", "warning arp-flux"},
	} {
		if got := found(twoLinks(c.one, c.two, c.kind)); got != c.want {
			t.Errorf("%s and %s on %q: want %q, found %q", c.one, c.two, c.kind, c.want, got)
		}
	}
}

// TestForwarding: where no IPv6 is used, none runs out.
func TestForwarding(t *testing.T) {
	f := twoLinks("10.0.0.5/8", "10.200.0.1/24", "bridge")
	f.Sysctls["net/ipv6/conf/eth0.100/forwarding"], f.Sysctls["net/ipv6/conf/eth0.100/accept_ra"] = "1", "1"
	if got := found(f); got != "info accept-ra" {
		t.Errorf("IPv4 only: %q", got)
	}
	f.Plan.Paths = append(f.Plan.Paths, plan.Path{Link: 2, Name: "eth0.100", Family: netstate.IPv6, State: plan.Live})
	if got := found(f); got != "warning accept-ra" {
		t.Errorf("with IPv6: %q", got)
	}
	if want, got := "sysctl -w net/ipv6/conf/eth0.100/accept_ra=2", Look(f)[0].Remedy; got != want {
		t.Errorf("want %q, found %q", want, got)
	}
}

// TestSysctlCommands: sysctl(8) takes each dot for a slash, and a name is not
// to be executed.
func TestSysctlCommands(t *testing.T) {
	for link, want := range map[string]string{
		"eth0":     "sysctl -w net.ipv4.conf.eth0.rp_filter=2",
		"eth0.100": "sysctl -w net/ipv4/conf/eth0.100/rp_filter=2",
		"x;y":      "sysctl -w 'net.ipv4.conf.x;y.rp_filter=2'",
		"x'y":      `sysctl -w 'net.ipv4.conf.x'\''y.rp_filter=2'`,
	} {
		if got := setSysctl(conf4(link, "rp_filter"), "2"); got != want {
			t.Errorf("want %s, found %s", want, got)
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
	// Of the kernel's switches what was read just now.
	f.Daemon = &Daemon{Conditions: []plan.Finding{{Code: "mptcp-disabled", Severity: plan.Error, Object: "kernel"}}}
	f.Plan.Findings = append(f.Plan.Findings, plan.Finding{Code: "mptcp-userspace-pm", Severity: plan.Warning, Object: "kernel"})
	if want, got := "warning mptcp-userspace-pm", found(f); got != want {
		t.Errorf("switches: want %q, found %q", want, got)
	}
	f.HiddenPathManager = true
	if want, got := "error mptcp-disabled", found(f); got != want {
		t.Errorf("switches that cannot be read: want %q, found %q", want, got)
	}
	f.Daemon, f.HiddenPathManager, f.Plan.Findings = nil, false, f.Plan.Findings[:1]
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

// TestBesideTunnel: unbound traffic that a full tunnel takes is no fault, and
// what strict filtering drops there neither, unless subflows go beside it.
func TestBesideTunnel(t *testing.T) {
	f := twoLinks("10.1.1.2/24", "10.8.0.2/24", "tun")
	from, dst := netip.MustParseAddr("10.1.1.2"), netip.MustParseAddr("2.16.0.1")
	f.Filtered = []Filtered{{Link: "eth0.100", Addr: from, From: dst, Text: "invalid argument"}}
	for policy, want := range map[config.VPNPolicy]string{config.VPNWithdraw: "", config.VPNIgnore: "error rp-filter"} {
		f.Plan.Guard = &plan.Guard{Link: 3, Name: "b", Policy: policy}
		f.Ways = []Way{{Path: &f.Plan.Paths[0], From: from, Dst: dst, Route: netstate.Route{Link: 3}}}
		if got := found(f); got != want {
			t.Errorf("%s: want %q, found %q", policy, want, got)
		}
	}
	f.Plan.Guard, f.Filtered = nil, nil
	if want, got := "warning wrong-link", found(f); got != want {
		t.Errorf("without a tunnel: want %q, found %q", want, got)
	}
	if got := Look(f)[0].Remedy; !strings.HasPrefix(got, "ip -4 rule show") {
		t.Errorf("the daemon has done what it can: %q", got)
	}
}

// TestRuleOfTCP: the kernel is asked about traffic of no protocol, and a rule for TCP alone is before ours all the same.
func TestRuleOfTCP(t *testing.T) {
	from, dst := netip.MustParseAddr("10.1.1.2"), netip.MustParseAddr("2.16.0.1")
	own := netstate.Rule{Family: netstate.IPv4, Action: netstate.ActLookup, Priority: 32765, Table: 100002, Protocol: 77, From: netip.PrefixFrom(from, 32), Suppress: netstate.NoSuppress}
	other := netstate.Rule{Family: netstate.IPv4, Action: netstate.ActLookup, Priority: 100, Table: 200, Suppress: netstate.NoSuppress, Others: "ipproto 6"}
	refuses, port, elsewhere := other, other, other
	refuses.Action, refuses.Table = netstate.ActUnreachable, 0
	port.Others = "ipproto 6 dport 80"
	elsewhere.From = netip.MustParsePrefix("10.1.2.2/32")
	for _, c := range []struct {
		rules []netstate.Rule
		bound bool
		want  string
	}{
		{[]netstate.Rule{other, own}, false, "warning rules-overruled"},
		{[]netstate.Rule{own, other}, false, ""},
		{[]netstate.Rule{other, own}, true, ""},
		{[]netstate.Rule{refuses, own}, true, "error rules-overruled"},
		{[]netstate.Rule{port, elsewhere, own}, false, ""},
	} {
		f := twoLinks("10.1.1.2/24", "10.8.0.2/24", "bridge")
		f.Snapshot.Rules = c.rules
		f.Ways = []Way{{Path: &f.Plan.Paths[0], From: from, Dst: dst, Bound: c.bound, Route: netstate.Route{Link: 2}}}
		if got := found(f); got != c.want {
			t.Errorf("%v, bound %v: want %q, found %q", c.rules, c.bound, c.want, got)
		}
	}
}

// TestStrictFilterWithoutDaemon: what helps is the daemon, if it has something to do.
func TestStrictFilterWithoutDaemon(t *testing.T) {
	f := twoLinks("10.1.1.2/24", "10.8.0.2/24", "bridge")
	f.Filtered = []Filtered{{Link: "eth0.100", Addr: netip.MustParseAddr("10.1.1.2"), From: netip.MustParseAddr("2.16.0.1"), Text: "invalid argument"}}
	if got := Look(f)[0].Remedy; !strings.HasPrefix(got, "sysctl -w ") {
		t.Errorf("with the daemon: %s", got)
	}
	f.Daemon, f.Changes.Up = nil, []netstate.Change{{Op: netstate.RuleAppend}}
	if got := Look(f)[0].Remedy; !strings.HasPrefix(got, "systemctl enable --now subflowd (") {
		t.Errorf("without the daemon: %s", got)
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
