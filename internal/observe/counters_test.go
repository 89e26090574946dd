package observe

import (
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/pkg/mptcp"
	"github.com/subflowd/subflowd/pkg/status"
)

// names618 are the counters of MPTcpExt that Linux 6.18 prints.
func names618(t *testing.T) mptcp.Counters {
	t.Helper()
	text, err := os.ReadFile("testdata/netstat-6.18")
	if err != nil {
		t.Fatal(err)
	}
	c, err := mptcp.ParseCounters(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEveryCounterIsExplained(t *testing.T) {
	for name := range names618(t) {
		m, ok := MPTCPMeaning(name)
		if !ok {
			t.Errorf("%s has no explanation", name)
		}
		if m.Text == "" || m.Level == "" || m.Level == status.CounterTrouble && strings.HasSuffix(m.Text, ".") {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

// TestNoStrangersAmongTheExplained: a misspelt name would never be shown.
func TestNoStrangersAmongTheExplained(t *testing.T) {
	older := map[string]bool{"RcvPruned": true} // of older kernels
	known := names618(t)
	for name := range mptcpMeanings {
		if _, ok := known[name]; !ok && !older[name] {
			t.Errorf("no kernel has %s", name)
		}
	}
	text, err := os.ReadFile("testdata/netstat-6.18")
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	for name := range tcpMeanings {
		if !strings.Contains(first+" ", " "+name+" ") {
			t.Errorf("no kernel has %s", name)
		}
	}
}

// TestThisKernel wants what this kernel prints explained, where the table is of
// its version.
func TestThisKernel(t *testing.T) {
	namespace(t)
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 262)
	if err != nil {
		t.Fatalf("this kernel has no Multipath TCP: %v", err)
	}
	unix.Close(s)
	now, err := ReadCounters()
	if err != nil {
		t.Fatal(err)
	}
	if len(now.TCP) == 0 {
		t.Error("no counters of TCP")
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	release := unix.ByteSliceToString(u.Release[:])
	for _, c := range Counters(now, nil).Counters {
		if c.Level != status.CounterUnknown {
			continue
		}
		if strings.HasPrefix(release, "6.18.") {
			t.Errorf("%s has no explanation", c.Name)
		} else {
			t.Logf("Linux %s has a counter that is not explained: %s", release, c.Name)
		}
	}
}

// namespace moves the test's thread into a network namespace of its own, which
// ends with it.
func namespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		if unix.Geteuid() != 0 {
			t.Skip("needs root for a network namespace")
		}
		t.Fatalf("unshare network namespace: %v", err)
	}
}

func TestCountersAdded(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	before := &CounterSample{Time: at, MPTCP: mptcp.Counters{"MPJoinSynTx": 3, "MPCurrEstab": 9}, TCP: mptcp.Counters{"TCPTimeouts": 5, "DelayedACKs": 1}}
	now := &CounterSample{
		Time: at.Add(2 * time.Second), TCP: mptcp.Counters{"TCPTimeouts": 7, "TCPRetransFail": 4, "DelayedACKs": 9},
		MPTCP: mptcp.Counters{"MPJoinSynTx": 4, "MPCurrEstab": 2, "Blackhole": 1, "FromTheFuture": 8},
	}
	d := Counters(now, before)
	found := []string{}
	for _, c := range d.Counters {
		found = append(found, string(c.Level)+" "+c.Name)
		if want := map[string]uint64{"MPJoinSynTx": 1, "Blackhole": 1, "FromTheFuture": 8, "TCPRetransFail": 4, "TCPTimeouts": 2}[c.Name]; c.Added != want {
			t.Errorf("%s: %d added, want %d", c.Name, c.Added, want)
		}
	}
	want := "trouble Blackhole, notable TCPRetransFail, notable TCPTimeouts, unknown FromTheFuture, usual MPCurrEstab, usual MPJoinSynTx"
	if s := strings.Join(found, ", "); s != want || d.IntervalSeconds != 2 {
		t.Errorf("%v s\nwant:  %s\nfound: %s", d.IntervalSeconds, want, s)
	}
}
