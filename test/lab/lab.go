package lab

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Lab is a set of hosts that live as long as one test.
type Lab struct {
	T  testing.TB
	ID string // random; part of the names of the namespaces

	mu      sync.Mutex
	hosts   []*Host
	closers []func() // connections, listeners, devices: closed before the processes end
	procs   []*Proc
	dumped  bool
	lock    *os.File
}

// Host is one network namespace.
type Host struct {
	Lab  *Lab
	Name string // "client"
	NS   string // "sfl-3fa94c21-client", as ip netns knows it

	ns    *os.File
	spawn *spawner
	dir   string // state directory of the daemon, made at first use

	containers int
}

var (
	labsMu sync.Mutex
	labs   []*Lab
)

// New makes an empty lab. When the test ends, failed or not, its processes are ended and its namespaces deleted. It
// needs root, as Need does.
func New(t testing.TB) *Lab {
	t.Helper()
	Need(t, Root, "ip", "ss", "tc")
	b := make([]byte, 4)
	_, _ = rand.Read(b)
	l := &Lab{T: t, ID: hex.EncodeToString(b)}
	sweepOnce.Do(sweep)
	var err error
	if l.lock, err = claim(l.ID); err != nil {
		t.Fatalf("lock the lab's names: %v", err)
	}
	labsMu.Lock()
	labs = append(labs, l)
	labsMu.Unlock()
	t.Cleanup(l.close)
	return l
}

// Host returns the host of that name, and makes it at first use, with lo up.
func (l *Lab) Host(name string) *Host {
	l.T.Helper()
	l.mu.Lock()
	for _, h := range l.hosts {
		if h.Name == name {
			l.mu.Unlock()
			return h
		}
	}
	l.mu.Unlock()
	h := &Host{Lab: l, Name: name, NS: "sfl-" + l.ID + "-" + name}
	if out, err := exec.Command("ip", "netns", "add", h.NS).CombinedOutput(); err != nil {
		l.T.Fatalf("ip netns add %s: %v: %s", h.NS, err, out)
	}
	l.mu.Lock()
	l.hosts = append(l.hosts, h)
	l.mu.Unlock()
	var err error
	if h.ns, err = os.Open("/run/netns/" + h.NS); err != nil {
		l.T.Fatalf("open namespace %s: %v", h.NS, err)
	}
	if h.spawn, err = newSpawner(h.ns); err != nil {
		h.spawn = nil
		l.T.Fatalf("start thread in namespace %s: %v", h.NS, err)
	}
	h.IP("link set lo up")
	return h
}

// TempDir makes a directory that any user may enter and that goes with the lab, after its processes. That of testing.T goes
// before them.
func (l *Lab) TempDir() string {
	l.T.Helper()
	err := os.MkdirAll(tempDir(l.ID), 0o755)
	var dir string
	if err == nil {
		dir, err = os.MkdirTemp(tempDir(l.ID), "")
	}
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		l.T.Fatalf("make temporary directory: %v", err)
	}
	return dir
}

// Hosts returns all hosts in the order in which they were made.
func (l *Lab) Hosts() []*Host {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*Host(nil), l.hosts...)
}

// onClose has f called at the end of the test, before processes are ended.
func (l *Lab) onClose(f func()) {
	l.mu.Lock()
	l.closers = append(l.closers, f)
	l.mu.Unlock()
}

func (l *Lab) close() {
	if l.T.Failed() {
		l.Dump()
	}
	labsMu.Lock()
	for i := range labs {
		if labs[i] == l {
			labs = append(labs[:i], labs[i+1:]...)
			break
		}
	}
	labsMu.Unlock()
	l.mu.Lock()
	closers, procs, hosts := l.closers, l.procs, l.hosts
	l.closers, l.procs, l.hosts = nil, nil, nil
	l.mu.Unlock()
	for i := len(closers) - 1; i >= 0; i-- {
		closers[i]()
	}
	endAll(procs)
	for _, h := range hosts {
		h.killRest()
		if h.spawn != nil {
			h.spawn.close()
		}
		if h.ns != nil {
			h.ns.Close()
		}
		if out, err := exec.Command("ip", "netns", "del", h.NS).CombinedOutput(); err != nil {
			l.T.Errorf("ip netns del %s: %v: %s", h.NS, err, out)
		}
	}
	_ = os.RemoveAll(tempDir(l.ID))
	release(l.lock)
	for _, p := range procs {
		p.checkLog(l.T)
	}
}

// endAll ends processes that tests left running: all get SIGTERM at once, and SIGKILL after three seconds.
func endAll(procs []*Proc) {
	for i := len(procs) - 1; i >= 0; i-- {
		_ = procs[i].Signal(syscall.SIGTERM)
	}
	late := time.After(3 * time.Second)
	for _, p := range procs {
		select {
		case <-p.done:
		case <-late:
			late = time.After(0)
			_ = p.Signal(syscall.SIGKILL)
			<-p.done
		}
	}
}

// killRest kills what programs left behind in the namespace, such as daemons that forked.
func (h *Host) killRest() {
	for range 50 {
		out, _ := exec.Command("ip", "netns", "pids", h.NS).Output()
		left := 0
		for _, f := range strings.Fields(string(out)) {
			if pid, err := strconv.Atoi(f); err == nil && pid != os.Getpid() {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				left++
			}
		}
		if left == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Dump logs the state of every host, in ip(8) syntax, and the logs of its processes; once in a test.
func (l *Lab) Dump() {
	l.mu.Lock()
	done := l.dumped
	l.dumped = true
	procs := append([]*Proc(nil), l.procs...)
	l.mu.Unlock()
	if done {
		return
	}
	var b strings.Builder
	for _, h := range l.Hosts() {
		if h.spawn != nil {
			b.WriteString(h.State())
		}
	}
	for _, p := range procs {
		fmt.Fprintf(&b, "==== log of %s on %s (%s)\n%s\n", p.Name, p.Host.Name, p.status(), tail(p.Log(), 24000))
	}
	l.T.Log("\n" + b.String())
}

// tail returns the end of a long text.
func tail(s string, n int) string {
	if len(s) <= n {
		return s
	}
	s = s[len(s)-n:]
	return "[...]\n" + s[strings.IndexByte(s, '\n')+1:]
}
