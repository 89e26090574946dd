package control

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
	"github.com/subflowd/subflowd/internal/reconcile"
	"github.com/subflowd/subflowd/pkg/status"
)

// shown is an event on one line: what a reader must not miss.
func shown(list []status.Event) []string {
	var out []string
	for _, e := range list {
		s := string(e.Type) + ": " + e.Text
		if e.Source != status.FromDaemon || e.Schema != status.Schema || e.Time.IsZero() {
			s += " (no head)"
		}
		out = append(out, s)
	}
	return out
}

// tells compares what a follower says of a view.
func tells(t *testing.T, f *follower, v *reconcile.View, want ...string) {
	t.Helper()
	if d := cmp.Diff(want, shown(f.next(v, now))); d != "" {
		t.Errorf("(- wanted, + found)\n%s", d)
	}
}

func made(seq uint64, text, reason, err string) reconcile.Event {
	return reconcile.Event{Seq: seq, Time: now, Text: text, Change: netstate.Change{Reason: reason}, Trigger: "link up", Err: err}
}

func TestFollow(t *testing.T) {
	first := view("link 2 eth0", []plan.Path{path4(2, "eth0", 100, "10.1.1.1")})
	first.Findings = []reconcile.Finding{finding(time.Hour, plan.Warning, "mptcp-off", "kernel", "Multipath TCP is off", "switch it on")}
	f := &follower{last: 16}
	hello := f.next(first, now)
	if len(hello) != 1 || hello[0].Type != status.EventHello || hello[0].State != status.Converged {
		t.Fatalf("the first event: %+v", hello)
	}
	tells(t, f, first)

	second := view("link 2 eth0", []plan.Path{path4(2, "eth0", 100, "10.1.1.1"), path6(3, "wlan0", 600, "fe80::1")})
	second.Plan.Paths[0].State = plan.Grace
	second.Converged = false
	second.Left = []reconcile.Left{{Err: "no"}}
	second.Recent = append(second.Recent, made(17, "ip route add default", "gateway of wlan0", ""), made(18, "ip mptcp endpoint add 10.1.2.2", "", "no space"))
	second.Findings = []reconcile.Finding{finding(0, plan.Error, "change-failed", "endpoint 10.1.2.2", "cannot be changed", "")}
	tells(t, f, second,
		"change: ip route add default: gateway of wlan0",
		"change: refused: ip mptcp endpoint add 10.1.2.2: no space",
		"path: eth0, an IPv4 path, is grace now and was live",
		"path: wlan0 is an IPv6 path now (live): default route in main",
		"condition: endpoint 10.1.2.2: cannot be changed",
		"condition-over: over: kernel: Multipath TCP is off",
		"state: the kernel refuses changes; they are tried again",
	)
	tells(t, f, second)

	third := view("link 2 eth0", nil)
	third.Recent = nil
	for seq := range uint64(5) {
		third.Recent = append(third.Recent, made(30+seq, "ip rule add", "", ""))
	}
	want := []string{"lost: 11 changes were not told of: the reader was too slow"}
	want = append(want, slices.Repeat([]string{"change: ip rule add"}, 5)...)
	want = append(want, "path: eth0 is no IPv4 path any more", "path: wlan0 is no IPv6 path any more",
		"condition-over: over: endpoint 10.1.2.2: cannot be changed", "state: the kernel holds what it should")
	tells(t, f, third, want...)
}

// TestFollowBeforeTheFirstRound tells of no path that is there already.
func TestFollowBeforeTheFirstRound(t *testing.T) {
	f := &follower{}
	if got := f.next(&reconcile.View{Started: started}, now); len(got) != 1 || got[0].State != status.Converging {
		t.Errorf("%+v", got)
	}
	full := view("link 2 eth0", []plan.Path{path4(2, "eth0", 100, "10.1.1.1")})
	full.Recent = []reconcile.Event{made(1, "ip rule add", "first", "")}
	tells(t, f, full, "change: ip rule add: first", "path: eth0 is an IPv4 path now (live): default route in main", "state: the kernel holds what it should")
}

func TestFollowRecent(t *testing.T) {
	v := view("link 2 eth0", nil)
	v.Recent = []reconcile.Event{made(7, "ip rule add", "a", ""), made(8, "ip rule add", "b", ""), made(9, "ip rule add", "c", "")}
	for recent, want := range map[int]string{0: "", 1: "c", 2: "b c", 3: "a b c", 100: "a b c"} {
		f := FromLoop(&loop{v: v}, Host{About: func() status.Daemon { return status.Daemon{} }}).Follow(recent)
		var reasons []string
		for _, e := range f.Next() {
			if e.Type == status.EventChange {
				reasons = append(reasons, e.Reason)
			} else if e.Type == status.EventLost {
				t.Errorf("recent=%d: %s", recent, e.Text)
			}
		}
		if found := strings.Join(reasons, " "); found != want {
			t.Errorf("recent=%d: %q, want %q", recent, found, want)
		}
	}
}
