package run

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/subflowd/subflowd/test/lab"
)

const (
	tcp   = 6
	mptcp = 262
)

// report is what the probe says; see there.
type report struct {
	Pid     int
	Wait    string
	Session int
	Sockets map[string]int
	Wrong   []string
	Owner   uint32
}

// TestSockets compares the sockets of a static program with and without run.
func TestSockets(t *testing.T) {
	t.Parallel()
	h := host(t)
	before := decode[report](t, want(h, h.Command(probe(t), "report")))
	after := decode[report](t, want(h, byRun(h, probe(t), "report")))
	expected := map[string]int{}
	for kind, protocol := range before.Sockets {
		if protocol == tcp {
			protocol = mptcp
		}
		expected[kind] = protocol
	}
	if d := cmp.Diff(expected, after.Sockets); d != "" {
		t.Errorf("sockets (-wanted +found):\n%s", d)
	}
	if len(after.Wrong) > 0 {
		t.Errorf("flags: %q", after.Wrong)
	}
	if n := len(slices.DeleteFunc(slices.Collect(values(expected)), func(p int) bool { return p != mptcp })); n != 6 {
		t.Errorf("%d kinds of sockets are TCP: %v", n, before.Sockets)
	}
}

func values(m map[string]int) func(func(int) bool) {
	return func(yield func(int) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

// TestProcess: nothing about the program's process is other than without run.
func TestProcess(t *testing.T) {
	t.Parallel()
	h := host(t)
	file, err := os.Open("/etc/hostname")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	// The shell prints what is its own and what it was given; ps and others would be children, and while it starts one
	// it blocks signals.
	const script = `echo pid $$ parent $PPID in $(pwd) mask $(umask) args "$0" "$@"
		while read -r line; do
			case $line in SigBlk*|SigIgn*|SigPnd*|Uid*|Groups*|CapEff*|CapBnd*|NoNewPrivs*|Cpus_allowed*|THP_enabled*) echo "$line";; esac
		done </proc/$$/status
		cat /proc/$$/limits /proc/$$/timerslack_ns /proc/$$/oom_score_adj
		for f in /proc/$$/fd/*; do echo ${f##*/} $(readlink $f); done
		cut -d ' ' -f 5-8,19 /proc/$$/stat`
	look := func(by func(...string) *exec.Cmd) (string, int) {
		cmd := by("sh", "-c", script, "name", "one argument", "")
		cmd.Env = []string{"B=x y", "A=1", "PATH=" + os.Getenv("PATH"), "C="}
		cmd.Dir = "/etc"
		cmd.ExtraFiles = []*os.File{file, file}
		var out strings.Builder
		cmd.Stdout = &out
		r := finish(h, cmd)
		if r.code != 0 || r.errs != "" {
			t.Fatalf("%v: %s", r.state, r.errs)
		}
		pid := cmd.Process.Pid
		return strings.NewReplacer(fmt.Sprintf("pid %d ", pid), "pid SELF ", fmt.Sprintf("/%d/", pid), "/SELF/").Replace(out.String()), pid
	}
	steady := func(s string) string { // pipes, and the process group that is the pid
		var lines []string
		for l := range strings.Lines(s) {
			w := strings.Fields(l)
			for i := range w {
				if strings.HasPrefix(w[i], "pipe:") {
					w[i] = "pipe"
				}
			}
			lines = append(lines, strings.Join(w, " "))
		}
		return strings.Join(lines, "\n")
	}
	before, _ := look(func(c ...string) *exec.Cmd { return h.Command(c[0], c[1:]...) })
	after, pid := look(func(c ...string) *exec.Cmd { return byRun(h, c...) })
	if d := cmp.Diff(steady(before), steady(after)); d != "" {
		t.Errorf("without run and with it:\n%s", d)
	}
	wantEnd(t, pid)
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	h := host(t)
	environment := []string{"Z=last comes first", "A=1", "EMPTY=", "odd", "PATH=/nowhere:/usr/bin", "GOMAXPROCS=3"}
	cmd := byRun(h, "env")
	cmd.Env = environment
	if found := strings.Split(strings.TrimSuffix(want(h, cmd), "\n"), "\n"); !slices.Equal(found, environment) {
		t.Errorf("%q, wanted %q", found, environment)
	}
}

// TestIgnoredSignals: what was ignored stays so; systemd starts its services with SIGPIPE ignored.
func TestIgnoredSignals(t *testing.T) {
	t.Parallel()
	h := host(t)
	for _, trap := range []string{"", "trap '' PIPE", "trap '' HUP INT QUIT TERM USR1 PIPE CHLD TSTP TTIN TTOU ALRM"} {
		look := func(by string) string {
			return want(h, h.Command("sh", "-c", trap+"\nexec "+by+" grep SigIgn /proc/self/status"))
		}
		if before, after := look(""), look(ctl(t)+" run"); before != after {
			t.Errorf("%q: %s, wanted %s", trap, after, before)
		}
	}
}

func TestExitStatus(t *testing.T) {
	t.Parallel()
	h := host(t)
	script := executable(h, "script", []byte("exit 9\n"))
	for _, c := range []struct {
		args []string
		code int
		errs string
	}{
		{[]string{"--", "true"}, 0, ""},
		{[]string{"sh", "-c", "exit 7"}, 7, ""},
		{[]string{script}, 9, ""}, // without a header, as execvp(3) has it
		{[]string{"--", "nonesuch"}, 127, "subflowctl: find nonesuch: no such file or directory\n"},
		{[]string{"./nonesuch"}, 127, "subflowctl: find ./nonesuch: no such file or directory\n"},
		{[]string{"/etc/passwd"}, 126, "subflowctl: find /etc/passwd: permission denied\n"},
		{[]string{"/etc"}, 126, "subflowctl: find /etc: permission denied\n"},
		{[]string{"--", ""}, 127, "subflowctl: find \"\": no such file or directory\n"},
		{[]string{"--argv0=", "sh", "-c", `test "$(tr "\\0" x </proc/$$/cmdline | head -c 3)" = x-c`}, 0, ""},
		{nil, 125, "subflowctl: run wants a command\nsubflowctl: see subflowctl help run\n"},
		{[]string{"--nonesuch", "true"}, 125, "subflowctl: unknown flag: --nonesuch\nsubflowctl: see subflowctl help run\n"},
	} {
		r := finish(h, h.Command(ctl(t), append([]string{"run"}, c.args...)...))
		if r.code != c.code || r.errs != c.errs {
			t.Errorf("run %q: %d %q, wanted %d %q", c.args, r.code, r.errs, c.code, c.errs)
		}
	}
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL, syscall.SIGPIPE, syscall.SIGUSR1} {
		r := finish(h, byRun(h, "sh", "-c", fmt.Sprintf("kill -%d $$", s)))
		if ws := r.state.Sys().(syscall.WaitStatus); ws.Signal() != s {
			t.Errorf("after %v: %v", s, r.state)
		}
	}
}

// TestSignalsReachTheProgram: who knows the process id of run means the program.
func TestSignalsReachTheProgram(t *testing.T) {
	t.Parallel()
	h := host(t)
	p := h.StartCommand(byRun(h, "sh", "-c", `trap 'echo HUP' HUP; trap 'echo TERM; exit 3' TERM; echo ready; while :; do sleep 0.05; done`))
	lab.Eventually(t, soon, "the program", func() error { return logged(p, "ready") })
	if err := p.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, soon, "its answer", func() error { return logged(p, "HUP") })
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.Wait(soon); code != 3 {
		t.Errorf("exit status %d", code)
	}
}

func logged(p *lab.Proc, word string) error {
	if !strings.Contains(p.Log(), word) {
		return fmt.Errorf("no %s: %q", word, p.Log())
	}
	return nil
}

// TestNoNewPrivileges: only who lacks CAP_SYS_ADMIN has to make the promise.
func TestNoNewPrivileges(t *testing.T) {
	t.Parallel()
	h := host(t)
	look := []string{"grep", "-h", "NoNewPrivs", "/proc/self/status"}
	if found := want(h, byRun(h, look...)); found != "NoNewPrivs:\t0\n" {
		t.Errorf("as root: %q", found)
	}
	user := append([]string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", ctl(t), "run"}, look...)
	if found := want(h, h.Command(user[0], user[1:]...)); found != "NoNewPrivs:\t1\n" {
		t.Errorf("as nobody: %q", found)
	}
	user = append([]string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=+sys_admin", "--ambient-caps=+sys_admin", ctl(t), "run"}, look...)
	if found := want(h, h.Command(user[0], user[1:]...)); found != "NoNewPrivs:\t0\n" {
		t.Errorf("as nobody with CAP_SYS_ADMIN: %q", found)
	}
}

// TestParentDeathSignal: it belongs to the first thread of a process (prctl(2)), and execve(2) on another one loses it.
func TestParentDeathSignal(t *testing.T) {
	t.Parallel()
	h := host(t)
	lab.Need(t, "python3")
	const look = "import ctypes; n = ctypes.c_int(); ctypes.CDLL(None).prctl(2, ctypes.byref(n)); print(n.value)"
	// The shell is the parent: the thread that starts a command here ends.
	script := "setpriv --pdeathsig USR1 " + ctl(t) + " run python3 -c '" + look + "'; exit $?"
	if out := want(h, h.Command("sh", "-c", script)); out != "10\n" {
		t.Errorf("signal %s", out)
	}
}
