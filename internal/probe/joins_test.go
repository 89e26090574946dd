package probe

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/pkg/mptcp"
	"github.com/subflowd/subflowd/pkg/status"
)

var (
	first  = netip.MustParseAddrPort("10.1.1.2:4000")
	second = netip.MustParseAddr("10.1.2.2")
	peer   = netip.MustParseAddrPort("10.9.0.2:443")
	begin  = time.Date(2026, 3, 1, 11, 0, 0, 0, time.UTC)
)

func sub(established bool) []subflow {
	return []subflow{
		{local: first, remote: peer, established: true},
		{local: netip.AddrPortFrom(second, 5000), remote: peer, established: established, rtt: 20 * time.Millisecond},
	}
}

func TestJoins(t *testing.T) {
	alone := []subflow{{local: first, remote: peer, established: true}}
	for _, c := range []struct {
		name    string
		looks   [][]subflow
		tried   bool
		want    status.ProbeOutcome
		text    string
		settled bool // after the last look
	}{
		{"joined", [][]subflow{alone, sub(false), sub(true), sub(true)}, true, status.ProbeJoined, "", true},
		{"too fresh", [][]subflow{alone, sub(true)}, true, status.ProbeJoined, "", false},
		{"no answer", [][]subflow{alone, sub(false), sub(false)}, true, status.ProbeTimeout, "the join got no answer", false},
		{"reset", [][]subflow{alone, sub(false), alone}, true, status.ProbeRefused, "the join was reset", true},
		{"reset later", [][]subflow{alone, sub(true), alone}, true, status.ProbeRefused, "the join was answered, and then reset by the server or a box before it", true},
		{"too fast to see", [][]subflow{alone, alone}, true, status.ProbeRefused, "the join was reset", false},
		{"never", [][]subflow{alone, nil, alone}, false, status.ProbeAbsent, "", false},
		{"a reading that failed", [][]subflow{alone, sub(true), nil}, true, status.ProbeJoined, "", true},
	} {
		seen := map[netip.Addr]*track{}
		at := begin
		for _, l := range c.looks {
			at = at.Add(100 * time.Millisecond)
			look(l, first, seen, at)
		}
		if c.name != "too fresh" {
			at = at.Add(time.Second)
		}
		if found := settled([]netip.Addr{second}, seen, at); found != c.settled {
			t.Errorf("%s: settled %v", c.name, found)
		}
		if o, text := seen[second].outcome(c.tried); o != c.want || text != c.text {
			t.Errorf("%s: %s, %q; wanted %s, %q", c.name, o, text, c.want, c.text)
		}
	}
}

func TestEventsOfJoins(t *testing.T) {
	local := netip.AddrPortFrom(second, 5000)
	for _, c := range []struct {
		name   string
		events []mptcp.Event
		want   status.ProbeOutcome
		text   string
	}{
		{"other connections", []mptcp.Event{{Type: mptcp.EventSubflowClosed, Token: 8, Local: local}}, status.ProbeAbsent, ""},
		{"the first subflow", []mptcp.Event{{Type: mptcp.EventSubflowClosed, Token: 7, Local: first}}, status.ProbeAbsent, ""},
		{"reset with a reason", []mptcp.Event{{Type: mptcp.EventSubflowClosed, Token: 7, Local: local, Reset: true, ResetReason: 3}}, status.ProbeRefused, "prohibited"},
		{"answered and reset", []mptcp.Event{
			{Type: mptcp.EventSubflowEstablished, Token: 7, Local: local},
			{Type: mptcp.EventSubflowClosed, Token: 7, Local: local},
		}, status.ProbeRefused, "answered"},
		{"no answer", []mptcp.Event{{Type: mptcp.EventSubflowClosed, Token: 7, Local: local, Errno: unix.ETIMEDOUT}}, status.ProbeTimeout, "no answer"},
	} {
		seen := map[netip.Addr]*track{}
		l := &eventLog{events: c.events}
		l.note(7, first, seen, begin)
		l.note(7, first, seen, begin.Add(time.Second))
		if o, text := seen[second].outcome(false); o != c.want || !strings.Contains(text, c.text) {
			t.Errorf("%s: %s, %q; wanted %s, %q", c.name, o, text, c.want, c.text)
		}
	}
}

// TestServerThatClosesAtOnce takes no joins, and nothing can be said of them.
func TestServerThatClosesAtOnce(t *testing.T) {
	wanted := []Endpoint{{Link: "eth1", Addr: second}}
	for _, c := range []struct {
		ended bool
		limit int
		seen  map[netip.Addr]*track
		want  status.ProbeOutcome
	}{
		{false, 2, nil, status.ProbeAbsent},
		{true, 2, nil, status.ProbeFailed},
		{true, 0, nil, status.ProbeAbsent},
		{true, 2, map[netip.Addr]*track{second: {gone: true}}, status.ProbeFailed},
		{true, 2, map[netip.Addr]*track{second: {established: begin}}, status.ProbeJoined},
	} {
		a := &attempt{ended: c.ended, info: info{subflowsMax: c.limit}}
		a.Link, a.Outcome, a.HandshakeSeconds = "eth0", status.ProbeMPTCP, 0.001
		joins := joinsOf(a, wanted, c.seen, false, nil)
		if joins[0].Outcome != c.want {
			t.Errorf("%+v: %+v", c, joins)
		}
		f := facts{family: netstate.IPv4, server: first, tested: true, main: a, joins: joins, paths: []*attempt{made("eth0 mptcp"), made("eth1 mptcp")}}
		r := status.ProbeReport{}
		judge(&r, []facts{f})
		if told := strings.Contains(strings.Join(r.Verdict, " "), "cannot be told. IPv4: eth1: nothing is known of its join"); told != (c.want == status.ProbeFailed) {
			t.Errorf("%+v: %q", c, r.Verdict)
		}
	}
}
