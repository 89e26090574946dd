package main

import (
	"cmp"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

// joinGroups are those of mptcp_join.sh that need no path manager in user space (u), no netem (l) and no pedit (F).
const joinGroups = "-f -e -s -t -r -a -6 -4 -M -b -p -k -S -d -m -z -I"

// kernelSource is tools/testing/selftests/net/mptcp of a kernel's source, "" where it is not given.
func kernelSource() string { return os.Getenv("KSELFTEST_DIR") }

// selftests copies the scripts to where they find this program beside them, and shows them a /run of their own, in which
// ip(8) puts the names of their namespaces.
func selftests(t *testing.T, h *lab.Host, source string) (dir string) {
	lab.Need(t, "mount", "unshare")
	net := filepath.Join(h.Lab.TempDir(), "net")
	for from, to := range map[string]string{
		source: "mptcp", source + "/../lib.sh": "lib.sh", source + "/../net_helper.sh": "net_helper.sh", source + "/../lib": "lib",
	} {
		if _, err := os.Stat(from); err != nil {
			continue // older kernels have no library beside it
		}
		h.Run("mkdir", "-p", net)
		h.Run("cp", "-r", from, filepath.Join(net, to))
	}
	program(t, filepath.Join(net, "mptcp"))
	h.Cover("/run")
	return filepath.Join(net, "mptcp")
}

// compile builds one of the programs that the kernel's source has, and returns where it is.
func compile(t *testing.T, h *lab.Host, source, name string) string {
	if _, err := h.Try("cc", "--version"); err != nil {
		t.Fatalf("cc is missing: apt-get install gcc libc6-dev: %v", err)
	}
	out := filepath.Join(h.Lab.TempDir(), name)
	// Programs of newer kernels want newer headers than Debian has: `make headers` puts them there.
	headers := filepath.Join(source, "../../../../../usr/include")
	h.Run("cc", "-O2", "-I", headers, "-o", out, filepath.Join(source, name+".c"))
	return out
}

// script runs one of them; when the test ends, early or not, all that it has started ends with it.
func script(h *lab.Host, dir string, within time.Duration, name string, args ...string) (code int, log string) {
	cmd := h.Command("unshare", append([]string{"--pid", "--fork", "--kill-child", "--mount-proc", "bash", "./" + name}, args...)...)
	cmd.Dir = dir
	p := h.StartCommand(cmd)
	return p.Wait(within), p.Log()
}

// TestKernelSelftest runs the kernel's own judge of the commands.
func TestKernelSelftest(t *testing.T) {
	source := kernelSource()
	if source == "" {
		t.Log("KSELFTEST_DIR is not set: pm_netlink.sh of the kernel's selftests was not run")
		return
	}
	h := lab.New(t).Host("host")
	code, log := script(h, selftests(t, h, source), 5*time.Minute, "pm_netlink.sh")
	if code != 0 {
		t.Fatalf("pm_netlink.sh: exit status %d:\n%s", code, log)
	}
	t.Log(log)
}

// TestKernelSelftestJoin runs mptcp_join.sh, the kernel's own judge of what the commands lead to, in groups: those of
// KSELFTEST_JOIN, such as "-f -s".
func TestKernelSelftestJoin(t *testing.T) {
	source := kernelSource()
	if source == "" {
		t.Log("KSELFTEST_DIR is not set: mptcp_join.sh of the kernel's selftests was not run")
		return
	}
	h := lab.New(t).Host("host")
	dir := selftests(t, h, source)
	h.Run("cp", compile(t, h, source, "mptcp_connect"), dir)
	total := 0
	for _, group := range strings.Fields(cmp.Or(os.Getenv("KSELFTEST_JOIN"), joinGroups)) {
		t.Run(group, func(t *testing.T) {
			code, log := script(h, dir, 10*time.Minute, "mptcp_join.sh", group)
			passed, failed, skipped := results(log)
			if code != 0 || failed+skipped > 0 || passed == 0 {
				t.Errorf("exit status %d, %d passed, %d failed, %d skipped:\n%s", code, passed, failed, skipped, log)
			}
			t.Logf("%d passed", passed)
			total += passed
		})
	}
	t.Logf("%d passed", total)
}

// results counts the lines of the Test Anything Protocol at the end of a log.
func results(log string) (passed, failed, skipped int) {
	for line := range strings.Lines(log) {
		switch {
		case strings.HasPrefix(line, "not ok "):
			failed++
		case strings.HasPrefix(line, "ok ") && strings.Contains(line, "# SKIP"):
			skipped++
		case strings.HasPrefix(line, "ok "):
			passed++
		}
	}
	return passed, failed, skipped
}
