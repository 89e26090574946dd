//go:build bench

package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

// cpuOf is what a process has used of the processors so far, to the nanosecond, all its threads together.
func cpuOf(t *testing.T, pid int) time.Duration {
	t.Helper()
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	var sum int64
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // a thread that has ended
		}
		n, _ := strconv.ParseInt(strings.Fields(string(b))[0], 10, 64)
		sum += n
	}
	if sum == 0 {
		t.Fatalf("no processor time of process %d: the kernel has no schedstats, or it ended", pid)
	}
	return time.Duration(sum)
}

// statusOf reads a number of /proc/PID/status, summed over the threads if asked to.
func statusOf(t *testing.T, pid int, key string, threads bool) int {
	t.Helper()
	pattern := fmt.Sprintf("/proc/%d/status", pid)
	if threads {
		pattern = fmt.Sprintf("/proc/%d/task/*/status", pid)
	}
	files, _ := filepath.Glob(pattern)
	sum := 0
	for _, f := range files {
		b, _ := os.ReadFile(f)
		for _, l := range strings.Split(string(b), "\n") {
			if v, ok := strings.CutPrefix(l, key+":"); ok {
				n, _ := strconv.Atoi(strings.Fields(v)[0])
				sum += n
			}
		}
	}
	return sum
}

// quiet waits until the process has used next to nothing for a while.
func quiet(t *testing.T, pid int) {
	t.Helper()
	before := cpuOf(t, pid)
	lab.Eventually(t, 60*time.Second, "the process is at rest", func() error {
		time.Sleep(200 * time.Millisecond)
		now := cpuOf(t, pid)
		used := now - before
		before = now
		if used > 5*time.Millisecond {
			return fmt.Errorf("it used %v within 200ms", used)
		}
		return nil
	})
}

// TestStart measures the way from exec to a kernel that matches, beside a process that only starts and beside ip(8).
func TestStart(t *testing.T) {
	n := lab.TwoSubnets(t)
	h := n.Client
	var present, absent, floor, script samples
	once := func() time.Duration {
		begun := time.Now()
		if r := h.Subflowd("--once", "--log-level", "error"); r.Code != 0 {
			t.Fatalf("subflowd --once: %d: %s", r.Code, r.Stderr)
		}
		return time.Since(begun)
	}
	for i := range repetitions(15) + 1 {
		h.Subflowd("--cleanup")
		a := once()
		p := once()
		begun := time.Now()
		h.Subflowd("--version")
		f := time.Since(begun)
		h.Subflowd("--cleanup")
		begun = time.Now()
		h.IP(scriptOf(n)...)
		s := time.Since(begun)
		h.IP(undoOf(n)...)
		if i > 0 {
			absent, present, floor, script = append(absent, a), append(present, p), append(floor, f), append(script, s)
		}
	}
	report(t, "start, everything present: start of a process that does nothing", short(present.median()), short(floor.median()), ofTimes(present.median(), floor.median()), 0)
	report(t, "start, nothing present: one ip -batch that knows the result", short(absent.median()), short(script.median()), ofTimes(absent.median(), script.median()), 0)
}

// scriptOf is what the daemon makes of two uplinks.
func scriptOf(n *lab.Net) []string {
	var list []string
	for i, p := range []*lab.Path{n.A, n.B} {
		table := strconv.Itoa(101 + i)
		list = append(list,
			"route add "+p.Gateway[:len(p.Gateway)-1]+"0/24 dev "+p.Dev+" scope link table "+table,
			"route add default via "+p.Gateway+" dev "+p.Dev+" table "+table,
			"rule add from "+p.Addr+" lookup main suppress_prefixlength 0 pref 32765",
			"rule add from "+p.Addr+" lookup "+table+" pref 32765",
			"mptcp endpoint add "+p.Addr+" dev "+p.Dev+" subflow")
	}
	return list
}

func undoOf(n *lab.Net) []string {
	list := []string{"mptcp endpoint flush", "route flush table 101", "route flush table 102"}
	for i, p := range []*lab.Path{n.A, n.B} {
		list = append(list, "rule del from "+p.Addr+" lookup main pref 32765", "rule del from "+p.Addr+" lookup "+strconv.Itoa(101+i)+" pref 32765")
	}
	return list
}

// TestEvents measures what an event costs the daemon beside `ip monitor`, which only prints it: events that the socket
// filter drops, events that change nothing, and a reload without change.
func TestEvents(t *testing.T) {
	n := lab.TwoSubnets(t)
	d := n.Client.Daemon("--log-level", "info")
	m := n.Client.Start("ip", "monitor", "route", "address")
	lab.Eventually(t, giveUp, "both uplinks", func() error { return n.CheckUplinks("subflow", n.A, n.B) })
	const events = 2000
	for _, c := range []struct {
		name     string
		add, del string
		limit    float64
	}{
		{"an event that the socket filter drops", "route add 172.16.%d.%d/32 via 10.1.1.1 dev eth0 proto bgp", "route flush proto bgp", 0.1},
		{"an event that changes nothing", "addr change 10.1.1.2/24 dev eth0 valid_lft 9%d%02d preferred_lft 9000", "", 0},
	} {
		var batch []string
		for i := range events {
			batch = append(batch, fmt.Sprintf(c.add, i/250, i%250+1))
		}
		var mine, other samples
		for range repetitions(3) {
			quiet(t, d.Pid)
			a, b := cpuOf(t, d.Pid), cpuOf(t, m.Pid)
			n.Client.IP(batch...)
			if c.del != "" {
				n.Client.IP(c.del)
			}
			quiet(t, d.Pid)
			mine, other = append(mine, (cpuOf(t, d.Pid)-a)/events), append(other, (cpuOf(t, m.Pid)-b)/events)
		}
		report(t, "processor time of "+c.name+": ip monitor", short(mine.median()), short(other.median()), ofTimes(mine.median(), other.median()), c.limit)
	}
	var reload samples
	for range repetitions(10) {
		quiet(t, d.Pid)
		a := cpuOf(t, d.Pid)
		d.Reload()
		quiet(t, d.Pid)
		reload = append(reload, cpuOf(t, d.Pid)-a)
	}
	begun := time.Now()
	n.Client.Subflowd("--check-config")
	report(t, "processor time of a reload without change: wall time of --check-config", short(reload.median()), short(time.Since(begun)), ofTimes(reload.median(), time.Since(begun)), 0)
}

// wakeUps counts how often each of two processes ran within a time: what follows within 50 ms is the same time.
func wakeUps(t *testing.T, period time.Duration, pids ...int) (a, b int) {
	t.Helper()
	last, count := map[int]time.Duration{}, map[int]int{}
	for i := range int(period / (50 * time.Millisecond)) {
		for _, pid := range pids {
			now := cpuOf(t, pid)
			if i > 0 && now != last[pid] {
				count[pid]++
			}
			last[pid] = now
		}
		time.Sleep(50 * time.Millisecond)
	}
	return count[pids[0]], count[pids[1]]
}

// TestRest measures memory and wake-ups of a daemon that has nothing to do, beside mptcpd.
func TestRest(t *testing.T) {
	l := lab.New(t)
	ours, other := newSubject(t, l, "ours"), newSubject(t, l, "mptcpd")
	d := ours.startOurs()
	p := other.startMPTCPD()
	quiet(t, d.Pid)
	const period = time.Minute
	a, b := wakeUps(t, period, d.Pid, p.Pid)
	rss, rssOther := statusOf(t, d.Pid, "VmRSS", false), statusOf(t, p.Pid, "VmRSS", false)
	report(t, "memory at rest: 40 MiB", fmt.Sprintf("%.1f MiB", float64(rss)/1024), "40 MiB", float64(rss)/1024/40, 1)
	report(t, "memory at rest: mptcpd", fmt.Sprintf("%.1f MiB", float64(rss)/1024), fmt.Sprintf("%.1f MiB", float64(rssOther)/1024), float64(rss)/float64(rssOther), 0)
	report(t, fmt.Sprintf("wake-ups within %v at rest: mptcpd", period), strconv.Itoa(a), strconv.Itoa(b), float64(a)/float64(max(b, 1)), 0)
}
