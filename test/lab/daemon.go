package lab

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Daemon is a running subflowd.
type Daemon struct {
	*Proc
	Socket string // of the control interface
	Dir    string // of the state record; the same for every daemon of one host
	Config string // the file given by --config

	args []string
}

// Result is what a program printed, and its exit status.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// Daemon starts subflowd in the namespace, with a state directory, a socket and an empty configuration of its own;
// further arguments come last, so they win. It does not wait: what the daemon should do is waited for by Eventually.
func (h *Host) Daemon(args ...string) *Daemon {
	h.Lab.T.Helper()
	return h.DaemonConfig("", args...)
}

// DaemonConfig is Daemon with a configuration in TOML.
func (h *Host) DaemonConfig(toml string, args ...string) *Daemon {
	h.Lab.T.Helper()
	h.writeConfig(toml)
	return h.daemon(args)
}

func (h *Host) daemon(args []string) *Daemon {
	h.Lab.T.Helper()
	d := &Daemon{Dir: h.StateDir(), Socket: h.socket(), Config: h.configFile(), args: args}
	d.Proc = h.StartCommand(h.subflowd(args))
	return d
}

// StateDir is the directory of the host's daemons, short enough for a Unix socket.
func (h *Host) StateDir() string {
	h.Lab.T.Helper()
	if h.dir == "" {
		h.dir = h.Lab.TempDir()
	}
	return h.dir
}

func (h *Host) socket() string     { return filepath.Join(h.StateDir(), "control.sock") }
func (h *Host) configFile() string { return filepath.Join(h.StateDir(), "etc", "subflowd.toml") }

func (h *Host) writeConfig(toml string) {
	h.Lab.T.Helper()
	// A directory of its own: conf.d beside the file is read too.
	if err := os.MkdirAll(filepath.Dir(h.configFile()), 0o755); err != nil {
		h.Lab.T.Fatal(err)
	}
	if err := os.WriteFile(h.configFile(), []byte(toml), 0o644); err != nil {
		h.Lab.T.Fatal(err)
	}
}

func (h *Host) daemonArgs(args []string) []string {
	return append([]string{
		"--state-dir", h.StateDir(), "--socket", h.socket(), "--config", h.configFile(),
		"--log-format", "console", "--log-level", "debug",
	}, args...)
}

// Subflowd runs subflowd to its end, with --once, --cleanup, --check-config and so on, on the same state directory.
func (h *Host) Subflowd(args ...string) Result {
	h.Lab.T.Helper()
	if _, err := os.Stat(h.configFile()); err != nil {
		h.writeConfig("")
	}
	return h.result(h.subflowd(args))
}

// Ctl runs subflowctl on the host with the daemon's socket.
func (h *Host) Ctl(args ...string) Result {
	h.Lab.T.Helper()
	return h.result(h.Command(Bin(h.Lab.T, "subflowctl"), append([]string{"--socket", h.socket()}, args...)...))
}

// CtlJSON decodes what subflowctl -o json prints.
func (h *Host) CtlJSON(v any, args ...string) {
	h.Lab.T.Helper()
	r := h.Ctl(append([]string{"-o", "json"}, args...)...)
	if err := json.Unmarshal([]byte(r.Stdout), v); err != nil {
		h.Lab.T.Fatalf("subflowctl -o json %v: exit %d: %v\n%s%s", args, r.Code, err, r.Stdout, r.Stderr)
	}
}

func (h *Host) result(cmd *exec.Cmd) Result {
	h.Lab.T.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := h.begin(cmd); err != nil {
		h.Lab.T.Fatalf("[%s] start %s: %v", h.Name, commandLine(cmd), err)
	}
	late := time.AfterFunc(60*time.Second, func() { _ = cmd.Process.Signal(syscall.SIGQUIT) })
	defer late.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.Lab.T.Fatalf("[%s] %s: %v", h.Name, commandLine(cmd), err)
	}
	return Result{Code: cmd.ProcessState.ExitCode(), Stdout: out.String(), Stderr: errs.String()}
}

// Stop ends the daemon by SIGTERM; it must exit with status 0.
func (d *Daemon) Stop() {
	d.Host.Lab.T.Helper()
	if code := d.Proc.Stop(); code != 0 {
		d.Host.Lab.T.Fatalf("subflowd: exit status %d after SIGTERM, wanted 0; log:\n%s", code, tail(d.Log(), 8000))
	}
}

// Configure writes a new configuration and has it read by SIGHUP.
func (d *Daemon) Configure(toml string) {
	d.Host.Lab.T.Helper()
	d.Host.writeConfig(toml)
	d.Reload()
}

// Reload sends SIGHUP.
func (d *Daemon) Reload() {
	d.Host.Lab.T.Helper()
	if err := d.Signal(syscall.SIGHUP); err != nil || !d.Running() {
		d.Host.Lab.T.Fatalf("reload subflowd: %s: %v", d.status(), err)
	}
}

// Restart stops the daemon and returns a new one with the same arguments and configuration.
func (d *Daemon) Restart() *Daemon {
	d.Host.Lab.T.Helper()
	if d.Running() {
		d.Stop()
	}
	return d.Host.daemon(d.args)
}

// WaitSocket waits until the control socket takes connections.
func (d *Daemon) WaitSocket() {
	t := d.Host.Lab.T
	t.Helper()
	Eventually(t, 20*time.Second, "control socket", func() error {
		c, err := net.Dial("unix", d.Socket)
		if err != nil {
			return err
		}
		return c.Close()
	})
}

var (
	binMu sync.Mutex
	bins  = map[string]string{}
)

// Bin returns the path of a program of this project ("subflowd"), built from the sources beside the tests, once in a
// test process; with the race detector when SUBFLOW_RACE=1. The result stays in the user's cache directory, so that the
// next process has nothing to link. SUBFLOW_BIN=DIR takes programs that exist.
func Bin(t testing.TB, name string) string {
	t.Helper()
	binMu.Lock()
	defer binMu.Unlock()
	if p := bins[name]; p != "" {
		return p
	}
	p, err := build(name)
	if err != nil {
		t.Fatal(err)
	}
	bins[name] = p
	return p
}

func build(name string) (string, error) {
	if dir := os.Getenv("SUBFLOW_BIN"); dir != "" {
		return filepath.Abs(filepath.Join(dir, name))
	}
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = filepath.Join(os.TempDir(), fmt.Sprintf("subflowd-%d", os.Getuid()))
	}
	// git refuses to look at another user's clone, and stamping the version would fail with it.
	args, variant, env := []string{"build", "-buildvcs=false", "-tags", "runtimesignals", "-ldflags", "-checklinkname=0"}, "plain", os.Environ()
	if os.Getenv("SUBFLOW_RACE") == "1" {
		args, variant, env = append(args, "-race"), "race", append(env, "CGO_ENABLED=1")
	}
	sum := sha256.Sum256([]byte(root))
	dir := filepath.Join(cache, "subflowd-lab", hex.EncodeToString(sum[:6])+"-"+variant)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	p := filepath.Join(dir, name)
	cmd := exec.Command("go", append(args, "-o", p, "./cmd/"+name)...)
	cmd.Dir, cmd.Env = root, env
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ./cmd/%s: %w\n%s", name, err, out)
	}
	return p, nil
}

// moduleRoot is the nearest directory above the test's own with a go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	for err == nil && dir != "/" {
		if _, e := os.Stat(filepath.Join(dir, "go.mod")); e == nil {
			return dir, nil
		}
		dir = filepath.Dir(dir)
	}
	return "", fmt.Errorf("find go.mod above the working directory: %w", os.ErrNotExist)
}
