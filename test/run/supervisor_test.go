package run

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/test/lab"
)

// protocolOf is a shell command that prints the protocol of a new socket.
func protocolOf(t testing.TB) string { return probe(t) + " protocol" }

// TestEndsWithTheLast: children that outlive the program are served, and the supervisor ends after them. Meanwhile it is
// nobody's child here, and what is sent to terminals, groups and units does not end it.
func TestEndsWithTheLast(t *testing.T) {
	t.Parallel()
	h := host(t)
	dir := t.TempDir()
	gate, answer := filepath.Join(dir, "gate"), filepath.Join(dir, "answer")
	if err := unix.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	// The child keeps no pipe of this test: output ends with the program.
	script := fmt.Sprintf(`(read x <%s; %s >%s) </dev/null >/dev/null 2>&1 & exit 4`, gate, protocolOf(t), answer)
	cmd := byRun(h, "sh", "-c", script)
	if r := finish(h, cmd); r.code != 4 {
		t.Fatalf("%v: %s", r.state, r.errs)
	}
	s := supervisor(cmd.Process.Pid)
	if s == 0 {
		t.Fatal("the supervisor has ended before the program's child")
	}
	if ppid := status(s, "PPid"); ppid == strconv.Itoa(os.Getpid()) || ppid == strconv.Itoa(cmd.Process.Pid) {
		t.Errorf("the supervisor's parent is %s", ppid)
	}
	if sid, err := unix.Getsid(s); err != nil || sid == mustSid(t, os.Getpid()) {
		t.Errorf("the supervisor's session is %d, %v", sid, err)
	}
	if tty := strings.Fields(stat(s))[4]; tty != "0" {
		t.Errorf("the supervisor's terminal is %s", tty)
	}
	if cwd, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", s)); cwd != "/" {
		t.Errorf("the supervisor is in %s", cwd)
	}
	// It closes the last one after the program has begun.
	lab.Eventually(t, soon, "files of the supervisor", func() error { return checkFiles(s) })
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE, syscall.SIGALRM} {
		if err := syscall.Kill(s, sig); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(gate, []byte("go\n"), 0); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, soon, "the child's answer", func() error {
		if b, _ := os.ReadFile(answer); string(b) != "262\n" {
			return fmt.Errorf("%q", b)
		}
		return nil
	})
	wantEnd(t, cmd.Process.Pid)
}

// stat is /proc/PID/stat from the state on.
func stat(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return string(b[strings.LastIndexByte(string(b), ')')+1:])
}

func mustSid(t *testing.T, pid int) int {
	t.Helper()
	sid, err := unix.Getsid(pid)
	if err != nil {
		t.Fatal(err)
	}
	return sid
}

// checkFiles: the supervisor has nothing open that the program had, such as a pipe that somebody reads to its end.
func checkFiles(pid int) error {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(files) < 4 {
		return fmt.Errorf("%v, %w", files, err)
	}
	for _, f := range files {
		to, _ := os.Readlink(f)
		switch {
		case to == "/dev/null", strings.HasPrefix(to, "anon_inode:"), strings.HasPrefix(to, "net:["), strings.HasPrefix(to, "/sys/fs/cgroup/"):
		default:
			return fmt.Errorf("it holds %s", to)
		}
	}
	return nil
}

// TestTerminal: the program has the terminal, and its keys are for the program alone.
func TestTerminal(t *testing.T) {
	t.Parallel()
	h := host(t)
	lab.Need(t, "script")
	// script(1) makes a terminal, and types what it reads.
	program := `trap 'echo "<interrupted>"' INT; stty -echo; tty; echo "<ready>"; until read y; do :; done; echo "<read $y>"; ` + protocolOf(t)
	cmd := h.Command("script", "-qec", "exec "+ctl(t)+` run -- sh -c "$PROGRAM"`, "/dev/null")
	cmd.Env = append(cmd.Env, "PROGRAM="+program)
	in, typist, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer typist.Close()
	cmd.Stdin = in
	p := h.StartCommand(cmd)
	in.Close()
	lab.Eventually(t, soon, "the program", func() error { return logged(p, "<ready>") })
	if _, err := typist.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, soon, "the interrupt", func() error { return logged(p, "<interrupted>") })
	if _, err := typist.WriteString("word\n"); err != nil {
		t.Fatal(err)
	}
	if code := p.Wait(soon); code != 0 || !strings.Contains(p.Log(), "<read word>") || !strings.Contains(p.Log(), "262") || !strings.Contains(p.Log(), "/dev/pts/") {
		t.Errorf("exit status %d: %q", code, p.Log())
	}
}

// TestWaitForAnyChild: the supervisor is no child of the program, and leaves none.
func TestWaitForAnyChild(t *testing.T) {
	t.Parallel()
	h := host(t)
	if r := decode[report](t, want(h, byRun(h, probe(t), "report"))); r.Wait != "no child processes" {
		t.Errorf("waiting for any child: %s", r.Wait)
	}
	// A shell waits for all that it knows of, then reaps.
	if out := want(h, byRun(h, "bash", "-c", "sleep 0.1 & wait; wait -n; echo $?")); out != "127\n" {
		t.Errorf("wait -n without a child: %q", out)
	}
}

// TestStageSaysWhyItFails: what is told to the user of run is what keeps the supervisor from starting.
func TestStageSaysWhyItFails(t *testing.T) {
	t.Parallel()
	h := host(t)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := h.Command("sh", "-c", "ulimit -n 5; exec "+ctl(t)+" run-supervisor detach 1 name")
	own, stages := os.NewFile(uintptr(pair[0]), "own end"), os.NewFile(uintptr(pair[1]), "the stage's")
	cmd.ExtraFiles = []*os.File{stages}
	defer own.Close()
	r := finish(h, cmd)
	stages.Close()
	if r.code != 1 || r.errs != "" {
		t.Errorf("%v %q", r.state, r.errs)
	}
	said := make([]byte, 512)
	if n, err := own.Read(said); err != nil || string(said[:n]) != "\x00open /proc/self/fd: too many open files" {
		t.Errorf("%q %v", said[:n], err)
	}
}

// TestNested: the second run finds the first one's filter, also where there is nothing to see of it.
func TestNested(t *testing.T) {
	t.Parallel()
	h := host(t)
	for _, enabled := range []string{"1", "0"} {
		h.Sysctl("net.mptcp.enabled", enabled)
		r := finish(h, byRun(h, ctl(t), "run", "--quiet", ctl(t), "run", "sh", "-c", "grep Seccomp_filters /proc/self/status; "+protocolOf(t)))
		protocol := map[string]string{"1": "262", "0": "6"}[enabled]
		if r.code != 0 || r.out != "Seccomp_filters:\t1\n"+protocol+"\n" {
			t.Errorf("net.mptcp.enabled=%s: %v %q %q", enabled, r.state, r.out, r.errs)
		}
	}
}

// TestSupervisorKilled: there is nobody left to ask, and the kernel says so.
func TestSupervisorKilled(t *testing.T) {
	t.Parallel()
	h := host(t)
	dir := t.TempDir()
	gate := filepath.Join(dir, "gate")
	if err := unix.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	nested := filepath.Join(dir, "nested")
	p := h.StartCommand(byRun(h, "sh", "-c", "read x <"+gate+"; "+ctl(t)+" run true 2>"+nested+"; exec "+probe(t)+" report"))
	var s int
	lab.Eventually(t, soon, "the supervisor", func() error {
		if s = supervisor(p.Pid); s == 0 || status(p.Pid, "Name") != "sh" {
			return fmt.Errorf("supervisor %d, program %s", s, status(p.Pid, "Name"))
		}
		return nil
	})
	if err := syscall.Kill(s, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, p.Pid)
	if err := os.WriteFile(gate, []byte("go\n"), 0); err != nil {
		t.Fatal(err)
	}
	if code := p.Wait(soon); code != 0 {
		t.Fatalf("exit status %d: %s", code, p.Log())
	}
	if said, err := os.ReadFile(nested); !strings.HasPrefix(string(said), "subflowctl: somebody has killed the supervisor of the run around this one: ") {
		t.Errorf("a run inside it says %q, %v", said, err)
	}
	r := decode[report](t, p.Log())
	if r.Sockets["inet"] != -int(unix.ENOSYS) || r.Sockets["udp"] != unix.IPPROTO_UDP {
		t.Errorf("sockets: %v", r.Sockets)
	}
}
