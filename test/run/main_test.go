// Package run starts real programs by `subflowctl run` and judges what the kernel made of their sockets, and whether
// anything else about them is other than it would have been.
package run

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

// soon is how long a test waits for what takes milliseconds: the machine may be busy.
const soon = 20 * time.Second

var static struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if static.dir != "" {
		_ = os.RemoveAll(static.dir)
	}
	os.Exit(code)
}

// probe is the path of the static program of this package's tests, where other users can execute it. SUBFLOW_BIN=DIR takes
// one that exists, as lab.Bin does.
func probe(t testing.TB) string {
	t.Helper()
	static.once.Do(func() {
		if static.dir, static.err = os.MkdirTemp("", "subflow-probe"); static.err != nil {
			return
		}
		if static.err = os.Chmod(static.dir, 0o755); static.err != nil {
			return
		}
		if dir := os.Getenv("SUBFLOW_BIN"); dir != "" {
			if out, err := exec.Command("cp", filepath.Join(dir, "probe"), static.dir).CombinedOutput(); err != nil {
				static.err = fmt.Errorf("%w: %s", err, out)
			}
			return
		}
		cmd := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(static.dir, "probe"), "./probe")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			static.err = fmt.Errorf("go build ./probe: %w\n%s", err, out)
		}
	})
	if static.err != nil {
		t.Fatal(static.err)
	}
	return filepath.Join(static.dir, "probe")
}

// ctl is subflowctl where other users can execute it too.
func ctl(t testing.TB) string {
	t.Helper()
	p := filepath.Join(filepath.Dir(probe(t)), "subflowctl")
	// By cp, and not by this process: a child that another test starts meanwhile would inherit the file open for writing.
	copied.once.Do(func() {
		if out, err := exec.Command("cp", lab.Bin(t, "subflowctl"), p).CombinedOutput(); err != nil {
			copied.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	if copied.err != nil {
		t.Fatal(copied.err)
	}
	return p
}

var copied struct {
	once sync.Once
	err  error
}

// host is a lone host.
func host(t testing.TB) *lab.Host {
	t.Helper()
	return lab.New(t).Host("host")
}

// byRun prepares a command under `subflowctl run`.
func byRun(h *lab.Host, command ...string) *exec.Cmd {
	h.Lab.T.Helper()
	return h.Command(ctl(h.Lab.T), append([]string{"run", "--"}, command...)...)
}

// result is how a program ended.
type result struct {
	out, errs string
	code      int // -1 after a signal
	state     *os.ProcessState
}

// finish runs a prepared command to its end.
func finish(h *lab.Host, cmd *exec.Cmd) result {
	h.Lab.T.Helper()
	var out, errs bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	cmd.Stderr = &errs
	var err error
	cmd.SysProcAttr.Pdeathsig = 0 // of the thread, which ends
	h.Do(func() { err = cmd.Start() })
	if err != nil {
		h.Lab.T.Fatalf("start %q: %v", cmd.Args, err)
	}
	_ = cmd.Wait()
	return result{out: out.String(), errs: errs.String(), code: cmd.ProcessState.ExitCode(), state: cmd.ProcessState}
}

// want is finish that ends the test unless the program succeeds.
func want(h *lab.Host, cmd *exec.Cmd) string {
	h.Lab.T.Helper()
	r := finish(h, cmd)
	if r.code != 0 || r.errs != "" {
		h.Lab.T.Fatalf("%q: %v\n%s%s", cmd.Args, r.state, r.out, r.errs)
	}
	return r.out
}

func decode[T any](t testing.TB, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

// supervisor finds the process that serves a program, and returns 0 when there is none.
func supervisor(pid int) int {
	all := supervisors(pid)
	if len(all) == 0 {
		return 0
	}
	return all[0]
}

func supervisors(pid int) []int {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	var found []int
	for _, f := range files {
		b, _ := os.ReadFile(f)
		args := strings.Split(string(b), "\x00")
		if len(args) > 3 && slices.Equal(args[1:4], []string{"run-supervisor", "serve", strconv.Itoa(pid)}) {
			n, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			found = append(found, n)
		}
	}
	return found
}

// status reads one field of /proc/PID/status.
func status(pid int, field string) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut("\n"+string(b), "\n"+field+":")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line)
}

// wantEnd waits for the end of the supervisors of a program.
func wantEnd(t testing.TB, pid int) {
	t.Helper()
	lab.Eventually(t, soon, "end of the supervisor", func() error {
		if all := supervisors(pid); len(all) > 0 {
			return fmt.Errorf("there are %v", all)
		}
		return nil
	})
}

// executable makes a file that can be executed at once. Another program writes it: a child that another test starts
// meanwhile would inherit this process's file open for writing, and it could not be executed (ETXTBSY).
func executable(h *lab.Host, name string, content []byte) string {
	h.Lab.T.Helper()
	source, file := filepath.Join(h.Lab.TempDir(), name), filepath.Join(h.Lab.TempDir(), name)
	if err := os.WriteFile(source, content, 0o644); err != nil {
		h.Lab.T.Fatal(err)
	}
	h.Run("install", "-m", "755", source, file)
	return file
}
