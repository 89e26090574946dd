package cli

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/subflowd/subflowd/pkg/status"
)

var topTime = time.Date(2026, 3, 1, 12, 34, 56, 0, time.UTC)

const mbit = 1_000_000 / 8

func rated(sent, received float64) *status.Rate {
	return &status.Rate{SentBytesPerSecond: uint64(sent * mbit), ReceivedBytesPerSecond: uint64(received * mbit)}
}

func subflowOf(link, local string, rtt, sent, received float64) status.Subflow {
	return status.Subflow{Link: link, Local: local, Remote: "10.9.0.2:443", State: "ESTAB", Established: true, RTTSeconds: rtt, Rate: rated(sent, received)}
}

// someConnections are one of each kind.
func someConnections() []status.Connection {
	backup := subflowOf("wwan0", "10.3.0.2:40001", 0.081, 0, 0)
	backup.BackupLocal = true
	closing := subflowOf("eth0", "10.1.1.2:40003", 0.0123, 0, 0)
	closing.State = "FIN-WAIT-2"
	lost := subflowOf("wlan0", "10.1.2.2:40004", 0.0305, 0, 0)
	lost.Timeouts = 4
	long := subflowOf("wlan0", "[2001:db8:2:0:91bc:8a3f:1122:7788]:55555", 0.0305, 0.1, 2.5)
	return []status.Connection{
		{
			Token: "0000000a", Local: "10.1.1.2:42496", Remote: "10.9.0.2:443", State: "ESTAB", Rate: rated(37.9, 0.61), SentBytes: 9e9,
			Program: "curl", PID: 1234, Run: true,
			Subflows: []status.Subflow{subflowOf("eth0", "10.1.1.2:42496", 0.0123, 18.9, 0.3), subflowOf("wlan0", "10.1.2.2:40000", 0.0305, 19, 0.31), backup},
		},
		{
			Token: "0000000b", Local: "[2001:db8:1:0:91bc:8a3f:1122:7788]:55554", Remote: "[2001:db8:9::2]:443", State: "ESTAB", Rate: rated(0.1, 2.5),
			Subflows: []status.Subflow{long},
		},
		{
			Token: "0000000c", Local: "10.1.1.2:40003", Remote: "192.0.2.7:22", State: "FIN-WAIT-2", Rate: rated(0, 0),
			Subflows: []status.Subflow{closing, lost},
		},
		{Token: "0000000d", Local: "10.1.1.2:40005", Remote: "198.51.100.1:80", State: "ESTAB", Fallback: true, Program: "nc", PID: 77, Subflows: []status.Subflow{subflowOf("eth0", "10.1.1.2:40005", 0.001, 0, 0)}},
		{Token: "0000000e", Local: "10.1.1.2:40006", Remote: "198.51.100.2:80", State: "ESTAB", Rate: rated(0, 0)},
	}
}

// lookAt is a look at connections; the nth of several.
func lookAt(n int, list []status.Connection) topSample {
	doc := &status.Connections{Time: topTime.Add(time.Duration(n) * time.Second), IntervalSeconds: 1, Connections: list}
	rate := func(i int) *status.Rate { return rated(float64((n*7+i*5)%20), float64(n%3)) }
	for i, name := range []string{"eth0", "wlan0", "wwan0", "br0", "docker0"} {
		l := status.Carrier{Link: name, Ifindex: i + 2, Rate: rate(i), SubflowRate: rated(1, 0), Subflows: 2}
		if name == "docker0" {
			l.Subflows = 0
		}
		doc.Links = append(doc.Links, l)
	}
	return topSample{doc: doc, mptcp: true}
}

func somePaths() topPaths {
	return topPaths{
		daemon: &status.Document{State: status.Converged, LastRound: status.Round{Started: &topTime}, MPTCP: status.MPTCP{Present: true, Enabled: true}, Paths: []status.Path{
			{Link: "eth0", Ifindex: 2, State: status.Live}, {Link: "wlan0", Ifindex: 3, State: status.Live},
		}},
		paths: []status.Path{
			{Link: "eth0", Ifindex: 2, Family: status.IPv4, State: status.Live},
			{Link: "eth0", Ifindex: 2, Family: status.IPv6, State: status.Grace},
			{Link: "wlan0", Ifindex: 3, Family: status.IPv4, State: status.Live, Backup: true},
			{Link: "wwan0", Ifindex: 4, Family: status.IPv6, State: status.Dark},
		},
	}
}

func someEvents() topEvents {
	var out topEvents
	for i, e := range []status.Event{
		{Source: status.FromDaemon, Type: status.EventHello, Text: "subflowd is here"},
		{Source: status.FromKernel, Type: status.EventConnectionCreated, Text: "connection 10.1.1.2:42496 > 10.9.0.2:443 began on eth0"},
		{Source: status.FromKernel, Type: status.EventConnectionEstablished, Text: "connection 10.1.1.2:42496 > 10.9.0.2:443 is established: it can have further subflows"},
		{Source: status.FromKernel, Type: status.EventSubflowClosed, Error: "timeout", Text: "subflow \x1b[31m10.1.2.2:40000 > 10.9.0.2:443 on wlan0 closed (connection timed out)"},
		{Source: status.FromMonitor, Type: status.EventAway, Text: "subflowd is gone; its events follow when it is back"},
	} {
		e.Time = topTime.Add(time.Duration(i) * time.Second)
		out = append(out, e)
	}
	return out
}

// someTop is a screen after a minute.
func someTop(w, h int, blocks bool) *topModel {
	m := newTopModel(time.Second, false, blocks)
	m.zone = time.UTC
	tell(m, tea.WindowSizeMsg{Width: w, Height: h}, somePaths(), someEvents())
	for n := range 60 {
		tell(m, lookAt(n, someConnections()))
	}
	return m
}

func tell(m *topModel, messages ...tea.Msg) {
	for _, msg := range messages {
		m.Update(msg)
	}
}

// press presses keys by their names, or types a text of one key each.
func press(m *topModel, keys ...string) {
	for _, k := range keys {
		tell(m, keyOf(k))
	}
}

func keyOf(name string) tea.KeyPressMsg {
	special := map[string]rune{
		"enter": tea.KeyEnter, "esc": tea.KeyEscape, "backspace": tea.KeyBackspace, "up": tea.KeyUp, "down": tea.KeyDown, "pgdown": tea.KeyPgDown,
		"pgup": tea.KeyPgUp, "end": tea.KeyEnd, "home": tea.KeyHome, "space": tea.KeySpace,
	}
	if code, ok := special[name]; ok {
		return tea.KeyPressMsg{Code: code}
	}
	if letter, ok := strings.CutPrefix(name, "ctrl+"); ok {
		return tea.KeyPressMsg{Code: []rune(letter)[0], Mod: tea.ModCtrl}
	}
	return tea.KeyPressMsg{Code: []rune(name)[0], Text: name}
}

func TestTopScreens(t *testing.T) {
	for _, c := range []struct {
		name string
		w, h int
		do   func(m *topModel)
	}{
		{"80x24", 80, 24, nil},
		{"120x40", 120, 40, nil},
		{"70x14", 70, 14, nil},
		{"40x10", 40, 10, nil},
		{"ascii", 80, 24, nil},
		{"help", 70, 14, func(m *topModel) { press(m, "?") }},
		{"brief", 80, 24, func(m *topModel) { press(m, "x", "m") }},
		{"filter", 80, 24, func(m *topModel) { press(m, "/", "w", "L", "a", "n") }},
		{"none", 80, 24, func(m *topModel) { press(m, "/", "z", "z", "enter") }},
		{"reversed", 120, 24, func(m *topModel) { press(m, "s", "s", "r") }},
		{"end", 80, 24, func(m *topModel) { press(m, "end") }},
		{"paused", 80, 24, func(m *topModel) {
			press(m, "space")
			tell(m, lookAt(99, nil), topPaths{away: errors.New("gone")})
		}},
		{"no-daemon", 80, 24, func(m *topModel) {
			away := somePaths()
			away.daemon, away.away = nil, (&client{socket: "/run/subflowd/control.sock"}).unreachable(os.ErrNotExist)
			tell(m, away, lookAt(61, nil))
		}},
		{"no-mptcp", 80, 24, func(m *topModel) {
			s := lookAt(61, nil)
			s.mptcp, s.doc.Links = false, nil
			tell(m, s, topPaths{away: errors.New("no answer")})
		}},
		{"wide", 80, 24, func(m *topModel) {
			paths, list, e := somePaths(), someConnections(), someEvents()[:1]
			paths.paths[0].Link, list[0].Program, list[0].Subflows[0].Link = "網路介面卡", "瀏覽器\x1b網路介面", "網路介面卡"
			e[0].Text, e[0].Time = "網路介面卡 is a path, and what follows on this line is too long for it", topTime.Add(-24*time.Hour)
			tell(m, paths, lookAt(61, list), e)
		}},
		{"broken", 80, 24, func(m *topModel) {
			tell(m, topSample{err: errors.New("look at the kernel: no buffer space available")})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := someTop(c.w, c.h, c.name != "ascii")
			if c.do != nil {
				c.do(m)
			}
			found := m.screen()
			fits(t, m, found)
			same(t, "top/"+c.name+".txt", blanksAside(found+"\n"))
		})
	}
}

// blanksAside takes the blanks away that a screen has at the right.
func blanksAside(screen string) string {
	lines := strings.Split(screen, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

func fits(t interface{ Fatalf(string, ...any) }, m *topModel, screen string) {
	lines := strings.Split(screen, "\n")
	if screen != "" && len(lines) > m.height {
		t.Fatalf("%d lines in %dx%d:\n%s", len(lines), m.width, m.height, screen)
	}
	for _, l := range lines {
		if n := displayed(l); n > max(m.width, 8) {
			t.Fatalf("%d columns in %dx%d: %s", n, m.width, m.height, l)
		}
		if strings.ContainsRune(l, '\x1b') {
			t.Fatalf("an escape sequence in %q", l)
		}
	}
}

// TestTopColours: colours change nothing else.
func TestTopColours(t *testing.T) {
	m := someTop(80, 24, true)
	plain := m.screen()
	m.colours = true
	coloured := m.screen()
	if n := strings.Count(coloured, "\x1b["); n < 10 {
		t.Errorf("%d colours", n)
	}
	if d := cmp.Diff(plain, regexp.MustCompile("\x1b\\[[0-9]*m").ReplaceAllString(coloured, "")); d != "" {
		t.Error(d)
	}
}

// TestTopTakesAnything: whatever is pressed in whatever order and size, the
// screen fits.
func TestTopTakesAnything(t *testing.T) {
	keys := []string{"s", "r", "x", "m", "/", "e", "0", "enter", "esc", "backspace", "up", "down", "pgdown", "pgup", "end", "home", "space", "?", "ctrl+u", "ctrl+l"}
	rapid.Check(t, func(t *rapid.T) {
		m := newTopModel(time.Second, false, true)
		m.zone = time.UTC
		t.Repeat(map[string]func(*rapid.T){
			"size": func(t *rapid.T) {
				tell(m, tea.WindowSizeMsg{Width: rapid.IntRange(0, 200).Draw(t, "width"), Height: rapid.IntRange(0, 80).Draw(t, "height")})
			},
			"key":   func(t *rapid.T) { press(m, rapid.SampledFrom(keys).Draw(t, "key")) },
			"paths": func(*rapid.T) { tell(m, somePaths()) },
			"away":  func(*rapid.T) { tell(m, topPaths{away: errors.New("gone"), err: errors.New("not known")}) },
			"look": func(t *rapid.T) {
				var list []status.Connection
				for range rapid.IntRange(0, 9).Draw(t, "connections") {
					list = append(list, someConnections()...)
				}
				tell(m, lookAt(rapid.IntRange(0, 300).Draw(t, "nth"), list))
			},
			"event": func(*rapid.T) { tell(m, someEvents()) },
			"":      func(t *rapid.T) { fits(t, m, m.screen()) },
		})
	})
}

func TestTopKeys(t *testing.T) {
	m := someTop(80, 24, true)
	for _, key := range []string{"q", "ctrl+c"} {
		if cmd := m.key(keyOf(key)); cmd == nil || cmd() != tea.Quit() {
			t.Errorf("%s does not quit", key)
		}
	}
	press(m, "/", "q")
	if m.filter != "q" {
		t.Errorf("filter %q after a q was typed", m.filter)
	}
	if cmd := m.key(keyOf("ctrl+c")); cmd == nil || cmd() != tea.Quit() {
		t.Error("Ctrl-C does not quit while a filter is typed")
	}
	press(m, "ctrl+u")
	tell(m, tea.PasteMsg{Content: "curl[1234] by RUN"})
	if len(m.order) != 1 {
		t.Errorf("%d connections of a program", len(m.order))
	}
	press(m, "backspace", "backspace", "1", "esc")
	if m.filter != "" || m.typing {
		t.Errorf("filter %q after Esc", m.filter)
	}
	tell(m, keyOf("/"), tea.PasteMsg{Content: "0000\n000b"})
	if m.filter != "0000000b" || len(m.order) != 1 {
		t.Errorf("filter %q leaves %d", m.filter, len(m.order))
	}
}

func TestTopScrolls(t *testing.T) {
	m := someTop(80, 24, true)
	var list []status.Connection
	for range 20 {
		list = append(list, someConnections()...)
	}
	tell(m, lookAt(61, list))
	rows := m.layout().connections
	for _, c := range []struct {
		key  string
		want int
	}{{"up", 0}, {"down", 1}, {"home", 0}, {"pgdown", m.pageAfter(0, rows)}, {"pgup", 0}, {"end", m.pageBefore(100, rows)}, {"pgdown", m.pageBefore(100, rows)}} {
		press(m, c.key)
		if m.first != c.want {
			t.Errorf("after %s the first is %d, want %d", c.key, m.first, c.want)
		}
	}
	tell(m, lookAt(62, someConnections()[:1]))
	if m.first != 0 {
		t.Errorf("%d is the first of one", m.first)
	}
}

// TestTopDrawsWhatIsSeen: a screen costs the same whatever there is beside it.
func TestTopDrawsWhatIsSeen(t *testing.T) {
	cost := func(n int) float64 {
		m := someTop(80, 24, true)
		var list []status.Connection
		for i := range n {
			c := someConnections()[0]
			c.Token = fmt.Sprintf("%08x", i)
			list = append(list, c)
		}
		tell(m, lookAt(61, list))
		return testing.AllocsPerRun(20, func() { m.screen() })
	}
	few, many := cost(10), cost(5000)
	if many > few+20 {
		t.Errorf("%v allocations with ten connections, %v with five thousand", few, many)
	}
}

func TestSparkline(t *testing.T) {
	var s series
	for i := range uint64(1000) {
		s = s.add(i)
	}
	if len(s) > 2*mostSeries || s[len(s)-1] != 999 {
		t.Errorf("%d values, the last is %d", len(s), s[len(s)-1])
	}
	for _, c := range []struct {
		s    series
		top  uint64
		want string
	}{
		{nil, 0, "    "}, {series{0, 0, 0}, 0, " ▁▁▁"}, {series{9, 0, 1, 50, 100}, 100, "▁▂▅█"}, {series{7, 7, 7, 7}, 7, "████"},
	} {
		if got := blockGlyphs.sparkline(c.s, 4, c.top); got != c.want {
			t.Errorf("%v up to %d: %q, want %q", c.s, c.top, got, c.want)
		}
	}
	for part, want := range map[float64]string{0: "    ", 0.001: "▏   ", 0.5: "██  ", 0.6: "██▍ ", 1: "████", 2: "████"} {
		if got := blockGlyphs.bar(part, 4); got != want {
			t.Errorf("bar of %v: %q, want %q", part, got, want)
		}
	}
}
