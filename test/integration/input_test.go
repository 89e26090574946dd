package integration

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

// refused checks the exit status and the message: it has these parts, is short, and is no stack trace.
func refused(t *testing.T, what string, r lab.Result, code int, parts ...string) {
	t.Helper()
	out := r.Stdout + r.Stderr
	if r.Code != code {
		t.Errorf("%s: exit status %d, wanted %d:\n%s", what, r.Code, code, out)
	}
	if strings.TrimSpace(r.Stderr) == "" {
		t.Errorf("%s: nothing on standard error", what)
	}
	for _, p := range parts {
		if !strings.Contains(out, p) {
			t.Errorf("%s: no word of %q:\n%s", what, p, out)
		}
	}
	if lines := strings.Count(strings.TrimSpace(r.Stderr), "\n") + 1; lines > 12 {
		t.Errorf("%s: %d lines of message:\n%s", what, lines, r.Stderr)
	}
	noTrace(t, what, out)
}

func noTrace(t *testing.T, what, out string) {
	t.Helper()
	for _, bad := range []string{"goroutine ", "panic", "runtime error", ".go:", "%!"} {
		if strings.Contains(out, bad) {
			t.Errorf("%s: %q in the output:\n%s", what, bad, out)
		}
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	h := lab.New(t).Host("client")
	before := h.Settled()
	for _, c := range []struct {
		args  []string
		parts []string
	}{
		{[]string{"--no-such-flag"}, []string{"no-such-flag"}},
		{[]string{"-x"}, []string{"x"}},
		{[]string{"surplus"}, []string{"surplus"}},
		{[]string{"--log-level", "loud"}, []string{"loud"}},
		{[]string{"--log-format", "poem"}, []string{"poem"}},
		{[]string{"--once", "--cleanup"}, []string{"once", "cleanup"}},
		{[]string{"--config"}, []string{"config"}},
		{[]string{"--config", "/no/such/subflowd.toml"}, []string{"/no/such/subflowd.toml"}},
		{[]string{"--once", "--config", "/no/such/subflowd.toml"}, []string{"/no/such/subflowd.toml"}},
		{[]string{"--check-config", "--config", "/no/such/subflowd.toml"}, []string{"/no/such/subflowd.toml"}},
	} {
		refused(t, "subflowd "+strings.Join(c.args, " "), h.Subflowd(c.args...), 2, c.parts...)
	}
	if r := h.Subflowd("--version"); r.Code != 0 || !strings.Contains(r.Stdout, "subflowd") {
		t.Errorf("--version: exit status %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	if r := h.Subflowd("--help"); r.Code != 0 || !strings.Contains(r.Stdout+r.Stderr, "--state-dir") {
		t.Errorf("--help: exit status %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	h.WantSnapshot(before)
}

// runAs runs subflowd to its end as another user, or as root without CAP_NET_ADMIN.
func runAs(t *testing.T, h *lab.Host, uid uint32, args ...string) lab.Result {
	t.Helper()
	// The directories of the test and of root's cache are closed to others.
	dir, err := os.MkdirTemp("", "sfl-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chown(dir, int(uid), int(uid)); err != nil {
		t.Fatal(err)
	}
	// Not copied by this process: a child that another test starts meanwhile would inherit the file open for writing,
	// and it could not be executed.
	bin := filepath.Join(dir, "subflowd")
	h.Run("cp", lab.Bin(t, "subflowd"), bin)
	all := append([]string{"--state-dir", dir, "--socket", filepath.Join(dir, "s")}, args...)
	cmd := h.Command(bin, all...)
	if uid == 0 {
		lab.Need(t, "setpriv")
		cmd = h.Command("setpriv", append([]string{"--bounding-set", "-net_admin", "--inh-caps", "-net_admin", bin}, all...)...)
	} else {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
	}
	p := h.StartCommand(cmd)
	return lab.Result{Code: p.Wait(soon), Stderr: p.Log()}
}

func TestNoPrivilege(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	before := n.Client.Settled()
	for _, mode := range []string{"", "--once", "--cleanup"} {
		for _, uid := range []uint32{65534, 0} {
			var args []string
			if mode != "" {
				args = append(args, mode)
			}
			refused(t, "without privilege "+mode, runAs(t, n.Client, uid, args...), 1, "CAP_NET_ADMIN")
		}
	}
	n.Client.WantSnapshot(before)
}

// TestOneCapability: CAP_NET_ADMIN is all that is needed, endpoints and connections of others included.
func TestOneCapability(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.IPv6())
	d := n.Client.DaemonCapable()
	reach(n, n.A, n.B)
	c := dial(n, "10.9.0.2:5001", n.A.Addr, n.B.Addr)
	n.B.Cut()
	lab.Eventually(t, soon, "a vacant endpoint gone", func() error {
		return n.Client.CheckEndpoints(n.A.Addr+" subflow dev eth0", n.A.Addr6+" subflow dev eth0")
	})
	n.B.Restore()
	reach(n, n.A, n.B)
	waitSubflows(n, c, n.A.Addr, n.B.Addr)
	d.Stop()
	noTrace(t, "daemon", d.Log())
}

// TestMPTCPDisabled: routing works all the same, the exit status is good, and the status says what is wrong.
func TestMPTCPDisabled(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.IPv6())
	n.Client.Sysctl("net.mptcp.enabled", "0")
	if r := n.Client.Subflowd("--once"); r.Code != 0 || !strings.Contains(r.Stdout+r.Stderr, "net.mptcp.enabled") {
		t.Errorf("--once: exit status %d, wanted 0 and a word about net.mptcp.enabled:\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	if err := n.CheckSourceRouting(n.A, n.B); err != nil {
		t.Error(err)
	}
	cleanup(n.Client)
	d := n.Client.Daemon()
	lab.Eventually(t, soon, "source routing", func() error { return n.CheckSourceRouting(n.A, n.B) })
	settled(d)
	if out := n.Client.Ctl("status").Stdout; !strings.Contains(out, "net.mptcp.enabled") {
		t.Errorf("the status does not say what is wrong:\n%s", out)
	}
	n.Client.IP("addr del 10.1.2.2/24 dev eth1")
	n.B.Addr = "10.1.2.9"
	n.B.AddIPv4()
	n.B.AddDefault()
	lab.Eventually(t, soon, "source routing of a new address", func() error { return n.CheckSourceRouting(n.A, n.B) })
	n.Client.Sysctl("net.mptcp.enabled", "1")
	reconciled := n.Client.Ctl("reconcile")
	if reconciled.Code != 0 {
		t.Errorf("reconcile: exit status %d: %s%s", reconciled.Code, reconciled.Stdout, reconciled.Stderr)
	}
	reach(n, n.A, n.B)
	if out := n.Client.Ctl("status").Stdout; strings.Contains(out, "net.mptcp.enabled") {
		t.Errorf("the status still speaks of what is mended:\n%s", out)
	}
	twoSubflows(n, "10.9.0.2:5001", n.A.Addr, n.B.Addr)
	d.Stop()
}

// TestSecondInstance: one daemon in a namespace, whatever directory the second one is given.
func TestSecondInstance(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	d := n.Client.Daemon()
	reach(n, n.A, n.B)
	settled(d)
	before := n.Client.Settled()
	other := t.TempDir()
	for _, args := range [][]string{
		nil,
		{"--once"},
		{"--cleanup"},
		{"--state-dir", other, "--socket", filepath.Join(other, "s")},
		{"--state-dir", other, "--socket", filepath.Join(other, "s"), "--cleanup"},
	} {
		refused(t, "a second subflowd "+strings.Join(args, " "), n.Client.Subflowd(args...), 1, "another subflowd")
	}
	n.Client.WantSnapshot(before)
	if !d.Running() {
		t.Fatal("the first one ended")
	}
	settled(d)
	// In another namespace there may be one, with a directory of its own.
	r := n.Router.Daemon()
	settled(r)
	r.Stop()
	d.Stop()
}

// TestTornRecord damages the state record while no daemon runs: what the kernel holds is still known by what it is, and
// nothing is changed.
func TestTornRecord(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.IPv6())
	n.Client.IP("mptcp endpoint add 10.250.0.1 id 9 signal")
	d := n.Client.Daemon()
	lab.Eventually(t, soon, "two paths", func() error { return n.CheckSourceRouting(n.A, n.B) })
	settled(d)
	c := dial(n, "10.9.0.2:5001", n.A.Addr, n.B.Addr)
	m := n.Client.Monitor()
	before := n.Client.Settled()
	for _, tear := range []func([]byte) []byte{
		func(b []byte) []byte { return b[:len(b)/2] },
		func([]byte) []byte { return nil },
		func(b []byte) []byte { return append([]byte("\x00\xff{"), b...) },
		func([]byte) []byte { return []byte("[]") },
		func(b []byte) []byte { return []byte(strings.ReplaceAll(string(b), "10.1.1.2", "10.1.1.2.3")) },
	} {
		d.Kill()
		damage(t, d.Dir, tear)
		d = d.Restart()
		settled(d)
		n.Client.WantSnapshot(before)
		if log := d.Log(); !strings.Contains(log, "record") {
			t.Errorf("no word about the record:\n%s", log)
		}
		noTrace(t, "daemon", d.Log())
	}
	m.WantNone()
	c.WantEcho(soon)
	// They are ours again: without their address they go.
	n.Client.IP("addr flush dev eth1")
	lab.Eventually(t, soon, "one path", func() error {
		return n.Client.CheckEndpoints("10.1.1.2 subflow dev eth0", "2001:db8:1::2 subflow dev eth0", "10.250.0.1 signal")
	})
	if rest := found(n.Client); strings.Contains(strings.Join(rest, "\n"), "eth1") {
		t.Errorf("left over: %q", rest)
	}

	d.Kill()
	damage(t, d.Dir, func(b []byte) []byte { return b[:3] })
	if r := n.Client.Subflowd("--cleanup"); r.Code > 1 {
		t.Errorf("--cleanup: exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	} else {
		noTrace(t, "--cleanup", r.Stdout+r.Stderr)
	}
	for _, l := range found(n.Client) {
		if ours(l) {
			t.Errorf("left over by --cleanup: %s", l)
		}
	}
	if out := n.Client.IP("mptcp endpoint show"); !strings.Contains(out, "10.250.0.1 id 9 signal") {
		t.Errorf("a foreign endpoint is gone: %s", out)
	}
}

// damage rewrites the record: the one regular file that a killed daemon leaves besides its lock.
func damage(t *testing.T, dir string, f func([]byte) []byte) {
	t.Helper()
	name := filepath.Join(dir, "state.json")
	b, err := os.ReadFile(name)
	if err == nil {
		err = os.WriteFile(name, f(b), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestStateDirectory: a directory that cannot be made is a clear failure, or a warning beside a daemon that works.
func TestStateDirectory(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	d := n.Client.Daemon("--state-dir", filepath.Join(file, "below"))
	lab.Eventually(t, soon, "an end with a message, or the paths", func() error {
		if !d.Running() {
			return nil
		}
		return check(n, n.A, n.B)
	})
	if !d.Running() {
		refused(t, "no state directory", lab.Result{Code: d.Wait(time.Second), Stderr: d.Log()}, 1, file)
		return
	}
	lab.Eventually(t, soon, "a word about the state directory", func() error {
		if !strings.Contains(d.Log(), file) {
			return errors.New("none")
		}
		return nil
	})
	noTrace(t, "daemon", d.Log())
	d.Stop()
}
