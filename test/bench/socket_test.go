//go:build bench

package bench

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

// sockets makes many sockets, and prints the nanoseconds that one took with its close. It is a program for all that
// change what socket(2) gives, mptcpize's library too.
const sockets = `
import socket, time
n = 5000
begun = time.perf_counter_ns()
for i in range(n):
    socket.socket().close()
print((time.perf_counter_ns() - begun) // n, socket.socket().getsockopt(socket.SOL_SOCKET, 38))
`

// way is how a program is started.
type way struct {
	name     string
	before   []string
	protocol int // of its sockets
}

func ways(t *testing.T) []way {
	t.Helper()
	lab.Need(t, "python3", "mptcpize")
	return []way{
		{"plain", nil, 6},
		{"mptcpize", []string{"mptcpize", "run"}, 262},
		{"run", []string{lab.Bin(t, "subflowctl"), "run", "--"}, 262},
	}
}

func (w way) command(h *lab.Host, args ...string) *exec.Cmd {
	all := append(w.before[:len(w.before):len(w.before)], args...)
	cmd := h.Command(all[0], all[1:]...)
	cmd.SysProcAttr.Pdeathsig = 0 // of the thread, which ends
	return cmd
}

// output runs a command and returns what it prints and how long it took.
func output(t *testing.T, h *lab.Host, cmd *exec.Cmd) (string, time.Duration) {
	t.Helper()
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	var err error
	begun := time.Now()
	h.Do(func() { err = cmd.Run() })
	took := time.Since(begun)
	if err != nil {
		t.Fatalf("%q: %v: %s", cmd.Args, err, &out)
	}
	return out.String(), took
}

// TestSocketCall measures what a socket costs a program, and what the start of the program costs.
func TestSocketCall(t *testing.T) {
	h := lab.New(t).Host("host")
	all := ways(t)
	calls, starts := make([]samples, len(all)), make([]samples, len(all))
	for range repetitions(20) {
		for i, w := range all {
			out, _ := output(t, h, w.command(h, "/usr/bin/python3", "-c", sockets))
			var ns, protocol int
			if _, err := fmt.Sscan(out, &ns, &protocol); err != nil || protocol != w.protocol {
				t.Fatalf("%s: %q: %v", w.name, out, err)
			}
			calls[i] = append(calls[i], time.Duration(ns))
			_, took := output(t, h, w.command(h, "/bin/true"))
			starts[i] = append(starts[i], took)
		}
	}
	const run = 2
	for i, w := range all[:run] {
		a, b := calls[run].median(), calls[i].median()
		report(t, "socket and close, by run: "+w.name, fmt.Sprintf("%.1f us", a.Seconds()*1e6), fmt.Sprintf("%.1f us", b.Seconds()*1e6), ofTimes(a, b), 0)
	}
	reportBound(t, "socket and close, by run: 10000 a second", calls[run].median(), 100*time.Microsecond)
	for i, w := range all[:run] {
		a, b := starts[run].median(), starts[i].median()
		report(t, "start of a program that does nothing, by run: "+w.name, short(a), short(b), ofTimes(a, b), 0)
	}
}
