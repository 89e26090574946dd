// Command vm boots another kernel in qemu and runs on it what the file core names: the test binaries are built here, and
// the machine sees the host's files, read-only below a layer in memory, and no network. A line for each test, a summary,
// and exit status 1 if anything failed or was skipped.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// settings are what the command line says.
type settings struct {
	kernel   string        // directory with boot and lib/modules; empty: Debian's
	accel    string        // kvm, tcg or auto
	run      string        // only these tests, a regular expression
	only     string        // only this package
	timeout  time.Duration // of the whole
	patience float64       // by how much the tests' waits are longer under tcg
	root     string        // of the module
	cache    string
}

func main() {
	var s settings
	flag.StringVar(&s.kernel, "kernel", "", "`directory` with boot/vmlinuz-* and lib/modules/*; / for the kernel that this machine has installed (default: Debian's own, downloaded)")
	flag.StringVar(&s.accel, "accel", "auto", "kvm, tcg, or auto: kvm where a machine gets up with it")
	flag.StringVar(&s.run, "run", "", "only tests that match this regular expression")
	flag.StringVar(&s.only, "package", "", "only this package, such as pkg/mptcp")
	flag.DurationVar(&s.timeout, "timeout", 90*time.Minute, "of the whole run")
	flag.Float64Var(&s.patience, "patience", 4, "by how much the waits of tests are longer without kvm")
	flag.Parse()
	// The thread whose death kills qemu must live as long as this process.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	ok, err := run(ctx, s)
	if err != nil {
		fmt.Fprintln(os.Stderr, "test-kernel:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) (bool, error) {
	if runtime.GOARCH != "amd64" {
		return false, fmt.Errorf("run an amd64 machine on %s: the guest runs this machine's own programs", runtime.GOARCH)
	}
	if err := s.directories(); err != nil {
		return false, err
	}
	unlock, err := lock(filepath.Join(s.cache, "lock"))
	if err != nil {
		return false, err
	}
	defer unlock()
	suites, err := readCore(filepath.Join(s.root, "test/vm/core"))
	if err != nil {
		return false, err
	}
	k, err := findKernel(ctx, s.kernel, s.cache)
	if err != nil {
		return false, err
	}
	plan, err := prepare(ctx, s, k, suites)
	if err != nil {
		return false, err
	}
	convert, err := output(ctx, s.root, "go", "tool", "-n", "test2json")
	if err != nil {
		return false, err
	}
	r := newReport(os.Stdout, strings.TrimSpace(convert))
	start := time.Now()
	accel, err := boot(ctx, s, k, plan, r)
	ok := r.summary(k.release, accel, time.Since(start))
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("not finished within %v: %w", s.timeout, err)
	}
	return ok && err == nil, err
}

// directories finds the module and the cache, which keeps the kernel and the binaries for the next run.
func (s *settings) directories() error {
	dir, err := os.Getwd()
	for err == nil && dir != "/" {
		if _, e := os.Stat(filepath.Join(dir, "go.mod")); e == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	if err != nil || dir == "/" {
		return errors.New("find go.mod above the working directory: there is none")
	}
	if s.root, err = filepath.EvalSymlinks(dir); err != nil {
		return err
	}
	base, err := os.UserCacheDir()
	if err != nil {
		base = filepath.Join(os.TempDir(), fmt.Sprintf("subflowd-%d", os.Getuid()))
	}
	s.cache = filepath.Join(base, "subflowd-lab", "vm")
	return os.MkdirAll(s.cache, 0o755)
}

// lock keeps a second run of the same user away: both would want the memory of a machine.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: another test-kernel runs: %w", path, err)
	}
	return func() { f.Close() }, nil
}

// output runs a program and returns what it prints; the error has what it complains of.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return string(out), nil
}
