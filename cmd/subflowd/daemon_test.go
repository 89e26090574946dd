package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

const soon = 20 * time.Second

// right waits until both uplinks are as they should be.
func right(n *lab.Net) {
	n.T.Helper()
	lab.Eventually(n.T, soon, "both uplinks", func() error { return n.CheckUplinks("subflow", n.A, n.B) })
}

func TestOneDaemonForEachNamespace(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	d := n.Client.Daemon()
	right(n)
	for _, mode := range []string{"--once", "--cleanup", "--log-level=info"} {
		r := n.Client.Subflowd(mode)
		if r.Code != exitFailed || !strings.Contains(r.Stderr, fmt.Sprintf("pid %d", d.Pid)) || strings.Count(r.Stderr, "\n") != 1 {
			t.Errorf("%s: exit %d\n%s", mode, r.Code, r.Stderr)
		}
	}
	if r := n.Client.Subflowd("--check-config"); r.Code != exitDone {
		t.Errorf("--check-config: exit %d\n%s", r.Code, r.Stderr)
	}
	if err := n.CheckUplinks("subflow", n.A, n.B); err != nil {
		t.Error(err)
	}
}

func TestStopKeepsAndStartAdopts(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.IPv6())
	d := n.Client.Daemon()
	right(n)
	before := n.Client.Snapshot()
	for _, end := range []func(){d.Stop, d.Kill} {
		end()
		n.Client.WantSnapshot(before)
		d = d.Restart()
		d.WaitSocket()
		lab.Eventually(t, soon, "line of readiness", func() error {
			if !strings.Contains(d.Log(), "ready: ") {
				return fmt.Errorf("log:\n%s", d.Log())
			}
			return nil
		})
		n.Client.WantSnapshot(before)
		if strings.Contains(d.Log(), "info ip ") {
			t.Errorf("the start changed something:\n%s", d.Log())
		}
	}
}

func TestReload(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	d := n.Client.Daemon()
	right(n)
	d.Configure("[[link]]\nname = \"eth1\"\nendpoints = false\n")
	lab.Eventually(t, soon, "one endpoint", func() error { return n.Client.CheckEndpoints("10.1.1.2 subflow dev eth0") })
	if err := n.CheckSourceRouting(n.A, n.B); err != nil {
		t.Error(err)
	}
	d.Configure("rolle = 1\n")
	lab.Eventually(t, soon, "the mistake in the status", func() error {
		if r := n.Client.Ctl("status"); !strings.Contains(r.Stdout, "rolle") {
			return fmt.Errorf("exit %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		return nil
	})
	n.Client.WantEndpoints("10.1.1.2 subflow dev eth0")
	d.Configure("")
	right(n)
	d.Stop()
}

func TestWithoutMultipathTCP(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.ClientSysctl("net.mptcp.enabled", "0"))
	r := n.Client.Subflowd("--once")
	if r.Code != exitDone {
		t.Errorf("exit %d\n%s", r.Code, r.Stderr)
	}
	if c := strings.Count(r.Stderr, "net.mptcp.enabled=0"); c != 1 {
		t.Errorf("reported %d times:\n%s", c, r.Stderr)
	}
	if err := n.CheckSourceRouting(n.A, n.B); err != nil {
		t.Error(err)
	}
}

func TestSocketThatCannotBeMade(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	d := n.Client.Daemon("--socket", "/proc/subflowd/control.sock")
	right(n)
	lab.Eventually(t, soon, "report", func() error {
		if !strings.Contains(d.Log(), "subflowctl cannot ask the daemon") {
			return fmt.Errorf("log:\n%s", d.Log())
		}
		return nil
	})
	d.Stop()
}

// maxRSS is what the daemon may take at rest, in kB.
const maxRSS = 15 << 10

func TestMemoryAndWakeUpsAtRest(t *testing.T) {
	if os.Getenv("SUBFLOW_RACE") == "1" {
		t.Skip("the race detector takes memory of its own")
	}
	t.Parallel()
	n := lab.TwoSubnets(t, lab.IPv6())
	d := n.Client.DaemonConfig("resync = \"1h\"\n")
	right(n)
	d.WaitSocket()
	if r := n.Client.Ctl("status"); r.Code != 0 {
		t.Errorf("status: exit %d\n%s", r.Code, r.Stderr)
	}
	// After a start it looks for subflows that were missed, again and again for 20 s.
	lab.Eventually(t, time.Minute, "rest", func() error {
		wakes := switches(t, d.Pid)
		lab.Never(t, 3*time.Second, "memory", func() error {
			if rss := procStatus(t, d.Pid, "VmRSS"); rss > maxRSS {
				return fmt.Errorf("VmRSS %d kB", rss)
			}
			return nil
		})
		if d := switches(t, d.Pid) - wakes; d > 30 {
			return fmt.Errorf("%d context switches in three seconds", d)
		}
		return nil
	})
}

// procStatus is a number of /proc/PID/status.
func procStatus(t *testing.T, pid int, key string) int {
	t.Helper()
	return statusOf(t, fmt.Sprintf("/proc/%d/status", pid), key)
}

func statusOf(t *testing.T, path, key string) int {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var n int
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			if _, err := fmt.Sscan(rest, &n); err == nil {
				return n
			}
		}
	}
	t.Fatalf("no %s in %s", key, path)
	return 0
}

// switches counts how often any thread of the process gave the processor up by
// itself: each is a wake-up.
func switches(t *testing.T, pid int) int {
	t.Helper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, task := range tasks {
		sum += statusOf(t, fmt.Sprintf("/proc/%d/task/%s/status", pid, task.Name()), "voluntary_ctxt_switches")
	}
	return sum
}
