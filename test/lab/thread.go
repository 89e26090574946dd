package lab

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// onThread runs f in a goroutine of its own on a thread that nothing else uses and that dies with f. It returns at once.
// The first thread of the process is never taken: /proc/self and /proc/net show its namespace, and it cannot die.
func onThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		started := make(chan struct{})
		onThread(func() {
			close(started)
			f()
		})
		<-started
		runtime.UnlockOSThread()
	}()
}

// spawner is one thread that lives in a host's network namespace, with a mount namespace in which /sys belongs to it.
// Programs are started from here: they inherit both, and PR_SET_PDEATHSIG, which follows the thread, kills them when
// the test process dies in whatever way.
type spawner struct {
	calls chan func()
	done  chan struct{}
}

func newSpawner(ns *os.File) (*spawner, error) {
	s := &spawner{calls: make(chan func()), done: make(chan struct{})}
	ready := make(chan error)
	onThread(func() {
		defer close(s.done)
		err := enterFully(ns)
		ready <- err
		if err != nil {
			return
		}
		for f := range s.calls {
			f()
		}
	})
	return s, <-ready
}

func enterFully(ns *os.File) error {
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace: %w", err)
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare mounts: %w", err)
	}
	if err := unix.Mount("", "/", "none", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// sysfs shows the namespace of the process that mounted it.
	_ = unix.Unmount("/sys", unix.MNT_DETACH)
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return fmt.Errorf("mount sysfs: %w", err)
	}
	return nil
}

// call runs f on the thread and waits for it.
func (s *spawner) call(f func()) {
	back := make(chan struct{})
	s.calls <- func() {
		defer close(back)
		f()
	}
	<-back
}

func (s *spawner) close() {
	close(s.calls)
	<-s.done
}

// Do runs f on a thread inside the host's network namespace and waits for it. Sockets that f makes belong to the
// namespace; goroutines that f starts do not run in it. A t.Fatal inside f ends the test.
func (h *Host) Do(f func()) {
	h.Lab.T.Helper()
	if !h.do(f) {
		h.Lab.T.FailNow()
	}
}

// Go runs f like Do, without waiting; the channel is closed when f has returned.
func (h *Host) Go(f func()) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.do(f)
	}()
	return done
}

// do reports whether f returned, rather than ending its goroutine by t.Fatal.
func (h *Host) do(f func()) bool {
	done := make(chan struct{})
	returned := false
	onThread(func() {
		defer close(done)
		if err := unix.Setns(int(h.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			h.Lab.T.Errorf("enter namespace %s: %v", h.NS, err)
			return
		}
		f()
		returned = true
	})
	<-done
	return returned
}
