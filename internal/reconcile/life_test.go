package reconcile

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zaptest/observer"

	"github.com/subflowd/subflowd/internal/kernel/kerneltest"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/netstate/iptext"
)

// strangers is what others have beside twoSubnets, some of it close to ours.
const strangers = `
route 10.50.0.0/24 via 10.1.1.1 dev eth0 proto static
route default via 10.1.2.1 dev eth1 table 500 proto static
route 10.60.0.0/24 dev eth0 table 100002 proto static
rule 1000: from 10.9.0.0/16 lookup 500
rule 32765: from 10.8.0.1 lookup 500
endpoint 10.99.0.1 id 200 signal
`

// foreignOf is what is not ours, in ip(8) words.
func foreignOf(s *netstate.Snapshot) string {
	var out []string
	n := s.Names()
	for _, r := range s.Routes {
		if !netstate.OwnsRoute(77, r) {
			out = append(out, r.Text(n))
		}
	}
	slices.Sort(out)
	for _, r := range s.Rules {
		if !netstate.OwnsRule(77, r) {
			out = append(out, r.Text())
		}
	}
	for _, e := range s.Endpoints {
		if e.ID == 200 {
			out = append(out, e.Text(n))
		}
	}
	return strings.Join(out, "\n")
}

// life is a bring-up, a change and a stop: an address is renumbered, a link
// loses its lease and gets it again, and its carrier for longer than the grace.
func life(h *host) {
	h.pass(time.Second)
	h.AddAddr(netstate.Addr{Link: 2, Local: mustPrefix("10.1.1.9/24")})
	h.pass(time.Second)
	h.DelAddr(2, ip1)
	_ = h.AddRoute(defaultOf("10.1.1.1", 2, 100))
	h.pass(time.Second)
	h.DelAddr(3, ip2)
	h.pass(time.Second)
	if err := h.Lease(netstate.Addr{Link: 3, Local: mustPrefix("10.1.2.2/24")}, defaultOf("10.1.2.1", 3, 200)); err != nil {
		h.t.Error(err)
	}
	h.pass(time.Second)
	h.Carrier(3, false)
	h.pass(20 * time.Second)
	h.Carrier(3, true)
	h.pass(2 * time.Minute)
	h.converged()
	h.wantFinding(codeChange, false)
	if l := h.loop.View().Lingering; len(l) != 0 {
		h.t.Errorf("lingering: %+v", l)
	}
	h.stop()
}

// lived is how a life without faults ends, and what it takes.
type lived struct {
	ours, others, clean               string // clean: what is left after a cleanup
	requests, teardown, reads, writes int    // teardown: the requests of the cleanup
}

// settledLife lives and cleans up on a kernel without faults.
func settledLife(t *testing.T) lived {
	t.Helper()
	var l lived
	synctest.Test(t, func(t *testing.T) {
		h := run(t, inhabited(), &memory{})
		life(h)
		// Limits count what lingered meanwhile, and are never lowered.
		l.ours, l.others = sorted(without(h.ours(), "limits")), foreignOf(h.Snapshot())
		l.requests, l.reads, l.writes = h.Requests(), len(h.Reads()), h.rec.writes
		o, _ := options(h.Fake, h.rec)
		if _, err := Cleanup(o); err != nil {
			t.Fatal(err)
		}
		l.clean, l.teardown = sorted(h.ours()), h.Requests()-l.requests
	})
	if l.requests < 25 || l.teardown < 12 || l.reads < 10 || l.writes < 5 {
		t.Fatalf("too little to fail: %+v", l)
	}
	return l
}

// inhabited is twoSubnets with strangers.
func inhabited() *kerneltest.Fake {
	return kerneltest.New(iptext.MustSnapshot(twoSubnets + strangers))
}

// wantAll wants of a life with faults what one without them leaves, each failure
// told once, and nothing left by a cleanup when the faults are over. What that
// cannot know is not compared: the lines with one of the words.
func (l lived) wantAll(h *host, when string, unknown ...string) {
	h.t.Helper()
	if d := cmp.Diff(l.ours, sorted(without(h.ours(), "limits"))); d != "" {
		h.t.Errorf("%s (-want +got):\n%s", when, d)
	}
	l.wantOthers(h, when)
	for line, times := range failureLines(h.logs) {
		if times > 1 {
			h.t.Errorf("%s: %d times: %s", when, times, line)
		}
	}
	l.wantClean(h, when, unknown...)
}

// wantClean wants a cleanup without faults to leave nothing.
func (l lived) wantClean(h *host, when string, unknown ...string) {
	h.t.Helper()
	h.FailWith(nil)
	h.FailRefresh(nil)
	o, _ := options(h.Fake, h.rec)
	if _, err := Cleanup(o); err != nil {
		h.t.Errorf("%s: cleanup: %v", when, err)
	}
	if d := cmp.Diff(without(l.clean, unknown...), sorted(without(h.ours(), unknown...))); d != "" {
		h.t.Errorf("%s: after cleanup (-want +got):\n%s", when, d)
	}
	l.wantOthers(h, when+": after cleanup")
}

func (l lived) wantOthers(h *host, when string) {
	h.t.Helper()
	if d := cmp.Diff(l.others, foreignOf(h.Snapshot())); d != "" {
		h.t.Errorf("%s: what others have (-want +got):\n%s", when, d)
	}
}

// failureLines counts the lines that tell of a failure, by their level and text:
// what was refused before it was known to be wanted is told at info.
func failureLines(logs *observer.ObservedLogs) map[string]int {
	m := map[string]int{}
	for _, l := range logs.All() {
		if l.ContextMap()["error"] != nil {
			m[l.Level.String()+" "+l.Message]++
		}
	}
	return m
}

func sorted(text string) string {
	l := lines(text)
	slices.Sort(l)
	return strings.Join(l, "\n")
}
