package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParse(t *testing.T) {
	for _, s := range []string{"auto", "console", "json", "journal"} {
		if f, err := ParseFormat(s); err != nil || string(f) != s {
			t.Errorf("%s: got %q, %v", s, f, err)
		}
	}
	for _, s := range []string{"", "JSON", "text"} {
		if _, err := ParseFormat(s); err == nil {
			t.Errorf("format %q is taken", s)
		}
	}
	for s, want := range map[string]zapcore.Level{"debug": -1, "info": 0, "warn": 1, "error": 2} {
		if l, err := ParseLevel(s); err != nil || l != want {
			t.Errorf("%s: got %v, %v", s, l, err)
		}
	}
	for _, s := range []string{"", "fatal", "panic", "verbose"} {
		if _, err := ParseLevel(s); err == nil {
			t.Errorf("level %q is taken", s)
		}
	}
}

func TestConsoleLine(t *testing.T) {
	var b bytes.Buffer
	l := zap.New(core(Console, zapcore.InfoLevel, &b))
	l.Debug("not shown")
	l.Info("ip -4 rule add from 10.1.1.2 lookup 100002", zap.String("reason", "address of eth0"), zap.Uint32("table", 100002))
	_, line, _ := strings.Cut(b.String(), " ")
	want := `info ip -4 rule add from 10.1.1.2 lookup 100002 {"reason": "address of eth0", "table": 100002}` + "\n"
	if line != want {
		t.Errorf("\nwant %q\ngot  %q", want, line)
	}
}

func TestJSONLine(t *testing.T) {
	var b bytes.Buffer
	zap.New(core(JSON, zapcore.InfoLevel, &b)).Warn("x", zap.String("link", "eth0"))
	var m map[string]string
	if err := json.Unmarshal(b.Bytes(), &m); err != nil {
		t.Fatal(err)
	}
	if m["level"] != "warn" || m["message"] != "x" || m["link"] != "eth0" || m["time"] == "" {
		t.Errorf("got %v", m)
	}
}

func TestJournalFields(t *testing.T) {
	type sent struct {
		Message  string
		Priority journal.Priority
		Vars     map[string]string
	}
	var got []sent
	c := &journalCore{LevelEnabler: zapcore.InfoLevel, out: &outbox{send: func(m string, p journal.Priority, v map[string]string) error {
		got = append(got, sent{m, p, v})
		return nil
	}}}
	l := zap.New(c).With(zap.String("link", "eth0"))
	l.Debug("not sent")
	l.Info("ip -4 route add default", zap.Uint32("table", 100002), zap.String("reason", "uplink"))
	l.Warn("it failed", zap.Error(errors.New("no such device")), zap.String("odd key-ü", "v"))
	want := []sent{
		{"ip -4 route add default (uplink)", journal.PriInfo, map[string]string{
			"SYSLOG_IDENTIFIER": "subflowd", "SUBFLOWD_LINK": "eth0", "SUBFLOWD_TABLE": "100002", "SUBFLOWD_REASON": "uplink",
		}},
		{"it failed: no such device", journal.PriWarning, map[string]string{
			"SYSLOG_IDENTIFIER": "subflowd", "SUBFLOWD_LINK": "eth0", "SUBFLOWD_ERROR": "no such device", "SUBFLOWD_ODD_KEY__": "v",
		}},
	}
	_ = l.Sync()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestJournalThatIsGone(t *testing.T) {
	var b bytes.Buffer
	c := &journalCore{LevelEnabler: zapcore.InfoLevel, out: &outbox{fallback: &b, send: func(string, journal.Priority, map[string]string) error {
		return syscall.ECONNREFUSED
	}}}
	l := zap.New(c)
	l.Info("still seen")
	_ = l.Sync()
	if b.String() != "still seen\n" {
		t.Errorf("got %q", b.String())
	}
}

// TestJournalThatStandsStill: whoever logs goes on, and what the journal takes later is in order and says what it lacks.
func TestJournalThatStandsStill(t *testing.T) {
	var got []string
	goOn := make(chan struct{})
	l := zap.New(&journalCore{LevelEnabler: zapcore.InfoLevel, out: &outbox{send: func(m string, _ journal.Priority, v map[string]string) error {
		<-goOn
		got = append(got, m+" "+v["SYSLOG_IDENTIFIER"])
		return nil
	}}})
	const lines = maxWaiting + 8
	begun := time.Now()
	for i := range lines {
		l.Info(fmt.Sprint(i))
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("%d lines took %v", lines, took)
	}
	_ = l.Sync() // returns all the same
	close(goOn)
	_ = l.Sync()
	var want []string
	for i := range maxWaiting + 1 {
		want = append(want, fmt.Sprint(i, " subflowd"))
	}
	want = append(want, "the journal stood still: 7 lines were not sent subflowd")
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	l.Info("again")
	_ = l.Sync()
	if last := got[len(got)-1]; last != "again subflowd" {
		t.Errorf("then: %q", last)
	}
}

func TestConnectedToJournal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "err"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	for stream, want := range map[string]bool{
		fmt.Sprintf("%d:%d", st.Dev, st.Ino):   true,
		fmt.Sprintf("%d:%d", st.Dev, st.Ino+1): false,
		"":                                     false,
		"nonsense":                             false,
	} {
		if got := connectedToJournal(f, stream); got != want {
			t.Errorf("%q: want %v, got %v", stream, want, got)
		}
	}
}
