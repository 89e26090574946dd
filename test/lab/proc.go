package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Proc is a program that runs in the background on a host. It ends with the test at the latest.
type Proc struct {
	Host *Host
	Name string
	Pid  int

	cmd  *exec.Cmd
	log  lockedBuffer
	done chan struct{}
	err  error // of Wait; valid when done is closed
}

// Start starts a program in the background; its output goes to Log, and is printed when the test fails.
func (h *Host) Start(name string, args ...string) *Proc {
	h.Lab.T.Helper()
	return h.StartCommand(h.Command(name, args...))
}

// StartCommand starts a program that Command prepared.
func (h *Host) StartCommand(cmd *exec.Cmd) *Proc {
	h.Lab.T.Helper()
	p := &Proc{Host: h, Name: filepath.Base(cmd.Path), cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	if err := h.begin(cmd); err != nil {
		h.Lab.T.Fatalf("[%s] start %s: %v", h.Name, commandLine(cmd), err)
	}
	p.Pid = cmd.Process.Pid
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	h.Lab.mu.Lock()
	h.Lab.procs = append(h.Lab.procs, p)
	h.Lab.mu.Unlock()
	return p
}

// Log returns all output so far.
func (p *Proc) Log() string { return p.log.String() }

// Running reports whether the process has not ended.
func (p *Proc) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Signal sends a signal, and does nothing when the process has ended.
func (p *Proc) Signal(s syscall.Signal) error {
	if !p.Running() {
		return nil
	}
	return p.cmd.Process.Signal(s)
}

// Wait waits for the end and returns the exit status, or -1 after a signal. It ends the test after the timeout.
func (p *Proc) Wait(timeout time.Duration) int {
	p.Host.Lab.T.Helper()
	timeout = Patient(timeout)
	select {
	case <-p.done:
	case <-time.After(timeout):
		p.Host.Lab.T.Fatalf("%s on %s did not end within %v; log:\n%s", p.Name, p.Host.Name, timeout, tail(p.Log(), 8000))
	}
	return p.cmd.ProcessState.ExitCode()
}

// Stop sends SIGTERM and waits for the end; it returns the exit status, or -1 when the signal ended the process.
func (p *Proc) Stop() int {
	p.Host.Lab.T.Helper()
	_ = p.Signal(syscall.SIGTERM)
	return p.Wait(15 * time.Second)
}

// Kill sends SIGKILL and waits for the end.
func (p *Proc) Kill() {
	p.Host.Lab.T.Helper()
	_ = p.Signal(syscall.SIGKILL)
	p.Wait(15 * time.Second)
}

func (p *Proc) status() string {
	if p.Running() {
		return fmt.Sprintf("pid %d, running", p.Pid)
	}
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		return p.err.Error()
	}
	return p.cmd.ProcessState.String()
}

// checkLog fails the test when one of our programs crashed or raced.
func (p *Proc) checkLog(t testing.TB) {
	if !strings.HasPrefix(p.Name, "subflow") {
		return
	}
	for _, bad := range []string{"WARNING: DATA RACE", "panic: ", "fatal error: "} {
		if _, after, found := strings.Cut(p.Log(), bad); found {
			t.Errorf("%s on %s printed:\n%s", p.Name, p.Host.Name, bad+after[:min(len(after), 8000)])
			return
		}
	}
}

// lockedBuffer is a bytes.Buffer for one writer and many readers.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
