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

// topWindow is how long the screen is measured.
const topWindow = 10 * time.Second

// topCost measures the processor time of `subflowctl top` on a terminal while there are n connections.
func topCost(t *testing.T, h *lab.Host, d *lab.Daemon, n int) {
	t.Helper()
	lab.Need(t, "tmux")
	dir := h.Lab.TempDir()
	tmux := func(args ...string) (string, error) {
		return h.Try("tmux", append([]string{"-u", "-S", filepath.Join(dir, "tmux"), "-f", "/dev/null"}, args...)...)
	}
	pidFile := filepath.Join(dir, "pid")
	command := fmt.Sprintf("echo $$ >%s; LC_ALL=C.UTF-8 exec %s --socket %s top", pidFile, lab.Bin(t, "subflowctl"), d.Socket)
	if _, err := tmux("new-session", "-d", "-x", "120", "-y", "40", command); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, giveUp, "the screen", func() error {
		s, err := tmux("capture-pane", "-p")
		if err == nil && !strings.Contains(s, fmt.Sprintf("%d MPTCP connections with ", n)) {
			err = fmt.Errorf("shows\n%s", s)
		}
		return err
	})
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	before := cpuOf(t, pid)
	time.Sleep(topWindow)
	reportBound(t, fmt.Sprintf("%d connections of 4 subflows: subflowctl top for %v, processor time", n, topWindow), cpuOf(t, pid)-before, topWindow/10)
	if _, err := tmux("send-keys", "q"); err != nil {
		t.Error(err)
	}
}
