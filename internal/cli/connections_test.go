package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/subflowd/subflowd/internal/kernel"
	"github.com/subflowd/subflowd/pkg/mptcp"
	"github.com/subflowd/subflowd/pkg/status"
)

// looks are the documents that internal/observe makes of the samples of its tests.
func looks(t *testing.T) map[string]*status.Connections {
	t.Helper()
	files, err := filepath.Glob("../observe/testdata/connections/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	all := map[string]*status.Connections{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		d := &status.Connections{}
		if err := json.Unmarshal(text, d); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		all[strings.TrimSuffix(filepath.Base(f), ".json")] = d
	}
	return all
}

func TestConnectionsText(t *testing.T) {
	for name, d := range looks(t) {
		plain := connectionsText(d, false)
		golden(t, "connections/"+name+".txt", plain)
		if d := cmp.Diff(plain, sgr.ReplaceAllString(connectionsText(d, true), "")); d != "" {
			t.Errorf("%s: colours change letters: %s", name, d)
		}
	}
}

// TestConnectionPrograms: one that is known, by run and not, and one that is not.
func TestConnectionPrograms(t *testing.T) {
	d := looks(t)["odd"]
	d.Connections = d.Connections[:4]
	for i, o := range []kernel.Owner{{Name: "curl", PID: 1234}, {Name: "tmux: \x1b[2Jer", PID: 4194303}, {}, {Name: "sshd", PID: 99}} {
		d.Connections[i].Inode = uint32(i + 1)
		if o.PID == 0 {
			continue
		}
		p := &programs{owners: map[uint32]kernel.Owner{uint32(i + 1): o}, byRun: map[int]bool{1234: true, 4194303: true}}
		p.into(d)
	}
	golden(t, "connections/programs.txt", connectionsText(d, false))
}

func TestAbout(t *testing.T) {
	d := looks(t)["odd"]
	for what, want := range map[string][]string{
		"eth0":                    {"00000010", "00000020", "00000050", "00000070", "00000080"},
		"wlan0":                   {"00000020"}, // the address is on it
		"wlan":                    nil,
		"192.0.2.9":               {"00000060"},
		"10.1.2.2":                {"00000020"},
		"::ffff:10.1.2.2":         {"00000020"},
		"203.0.113.7:443":         {"00000030"},
		"203.0.113.7:44":          nil,
		"[::ffff:127.0.0.1]:8080": {"00000040"},
		"2001:db8:1::2":           {"00000050"},
		"00000060":                {"00000060"},
		"0x00000060":              {"00000060"},
		"":                        nil,
	} {
		var found []string
		for i := range d.Connections {
			if about(&d.Connections[i], what) {
				found = append(found, d.Connections[i].Token)
			}
		}
		slices.Sort(found)
		if d := cmp.Diff(want, found); d != "" {
			t.Errorf("%q: %s", what, d)
		}
	}
}

func TestCountersText(t *testing.T) {
	d := &status.KernelCounters{Time: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), IntervalSeconds: 2, Counters: []status.KernelCounter{
		{Group: "MPTcpExt", Name: "MPJoinRejected", Value: 12, Added: 3, Level: status.CounterTrouble, Text: "joins of peers that were refused", Remedy: "ip mptcp limits set subflows 8"},
		{Group: "MPTcpExt", Name: "MPCapableFallbackSYNACK", Value: 1 << 63, Level: status.CounterNotable, Text: "servers that answered with plain TCP"},
		{Group: "TcpExt", Name: "TCPTimeouts", Level: status.CounterNotable, Text: "timeouts", Remedy: "not while it is zero"},
		{Group: "MPTcpExt", Name: "FromTheFuture\x1b", Value: 7, Level: status.CounterUnknown, Text: "newer than this program"},
		{Group: "MPTcpExt", Name: "MPCurrEstab", Value: 4, Level: status.CounterUsual, Text: "connections that are established now"},
	}}
	golden(t, "counters/some.txt", countersText(d, false))
	golden(t, "counters/none.txt", countersText(&status.KernelCounters{}, false))
	zone := time.Local
	time.Local = time.UTC
	defer func() { time.Local = zone }()
	golden(t, "counters/added.txt", addedText(d, false))
}

func TestEventText(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 34, 56, 789e6, time.UTC)
	var b strings.Builder
	for _, e := range []status.Event{
		{Source: status.FromDaemon, Type: status.EventHello, State: status.Converged, Text: "subflowd v0.1.0 is converged"},
		{Source: status.FromDaemon, Type: status.EventChange, Text: "ip -4 rule add from 10.1.1.2 lookup 100002 priority 32765 proto 77: what leaves from it goes by eth0"},
		{Source: status.FromDaemon, Type: status.EventChange, Text: "refused: ip route add default: no", Error: "no"},
		{Source: status.FromDaemon, Type: status.EventCondition, Severity: status.Warning, Text: "eth0\x1b[2J: is odd", Remedy: "make it even"},
		{Source: status.FromKernel, Type: status.EventSubflowClosed, Text: "subflow 10.1.1.2:5 > 192.0.2.1:443 closed (reset: lack of resources)", ResetReason: "lack of resources"},
		{Source: status.FromKernel, Type: status.EventLost, Text: "events were lost"},
		{Source: status.FromMonitor, Type: status.EventAway, Text: "subflowd is gone"},
	} {
		e.Time = at
		b.WriteString(eventText(&e, time.UTC, false))
		if !strings.Contains(eventText(&e, time.UTC, true), "\x1b[") && e.Type != status.EventCondition {
			t.Errorf("%s has no colour", e.Text)
		}
	}
	golden(t, "monitor/some.txt", b.String())
}

// FuzzEvent takes a line of a stream for an event: none makes the text wider
// than it may be, or brings an escape sequence to the terminal.
func FuzzEvent(f *testing.F) {
	f.Add([]byte(`{"schema":1,"time":"2026-03-01T12:00:00Z","source":"kernel","type":"subflow-closed","text":"subflow 10.1.1.2:5 > 192.0.2.1:443 closed","reset_reason":"lack of resources"}`))
	f.Add([]byte(`{"schema":1,"source":"\u001b[2Jsubflowd-and-more","text":"a\nb\u001b]0;x","remedy":"\u202e"}`))
	f.Add([]byte(`{"time":"9999-12-31T23:59:59.999999999+14:00","text":"` + strings.Repeat("x", 300) + `"}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e status.Event
		if json.Unmarshal(b, &e) != nil {
			return
		}
		text := eventText(&e, time.UTC, false)
		if strings.ContainsFunc(strings.ReplaceAll(text, "\n", ""), unprintable) || !strings.HasSuffix(text, "\n") {
			t.Errorf("%q", text)
		}
		for line := range strings.Lines(text) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width {
				t.Errorf("%d columns: %q", n, line)
			}
		}
	})
}

// TestProgramsAreForgotten: a screen that runs for days does not grow.
func TestProgramsAreForgotten(t *testing.T) {
	p := &programs{asked: map[uint32]bool{}, owners: map[uint32]kernel.Owner{}, byRun: map[int]bool{}}
	for i := range uint32(1000) {
		p.asked[i], p.owners[i], p.byRun[int(i)] = true, kernel.Owner{Name: "a", PID: int(i)}, i%2 == 1
	}
	p.forget([]mptcp.Connection{{Inode: 7}, {Inode: 2000}})
	if len(p.asked) != 1 || p.owners[7].PID != 7 || !p.byRun[7] || len(p.owners)+len(p.byRun) != 2 {
		t.Errorf("%+v", p)
	}
}

// TestSearchesRest: on a host with very many open files a search takes long.
func TestSearchesRest(t *testing.T) {
	p := &programs{rest: 20}
	p.find([]mptcp.Connection{{Inode: 1}})
	if !p.asked[1] || !p.until.After(time.Now()) {
		t.Fatalf("%+v", p)
	}
	p.until = time.Now().Add(time.Hour)
	if p.find([]mptcp.Connection{{Inode: 2}}); p.asked[2] {
		t.Error("searched again at once")
	}
}
