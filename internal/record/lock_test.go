package record

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/test/lab"
)

// TestMain makes the test program play the other process of a test.
func TestMain(m *testing.M) {
	switch os.Getenv("RECORD_TEST_PLAY") {
	case "":
		goleak.VerifyTestMain(m)
	case "daemon":
		_, warning, err := Lock(os.Args[1])
		fmt.Println("ready", warning, err)
	case "squatter": // holds the name as another user
		err := syscall.Setuid(65534)
		if err == nil {
			_, err = net.ListenUnix("unix", &net.UnixAddr{Name: socketName, Net: "unix"})
		}
		fmt.Println("ready", err)
	case "mute": // holds the name and never listens
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err == nil {
			err = unix.Bind(fd, &unix.SockaddrUnix{Name: socketName})
		}
		fmt.Println("ready", err)
	}
	_, _ = os.Stdin.Read(make([]byte, 1)) // until the test is over
}

// inOwnNamespace runs f on a thread of its own that has left the namespaces of
// the flags; the thread ends with it.
func inOwnNamespace(t *testing.T, flags int, f func()) {
	t.Helper()
	lab.Need(t, lab.Root)
	done := make(chan error)
	go func() {
		err := errors.New("the test ended early")
		defer func() { done <- err }()
		runtime.LockOSThread()
		if err = unix.Unshare(flags | unix.CLONE_FS); err == nil {
			f()
		}
	}()
	if err := <-done; err != nil {
		t.Fatalf("unshare: %v", err)
	}
}

// play starts the other process in the namespace of the calling thread and
// returns when it stands.
func play(t *testing.T, what, dir string) *exec.Cmd {
	t.Helper()
	c := exec.Command(os.Args[0], dir)
	c.Env = append(os.Environ(), "RECORD_TEST_PLAY="+what)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := c.StdinPipe()
	must(t, err)
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	t.Cleanup(func() { in.Close(); _ = c.Process.Kill(); _ = c.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasSuffix(line, " <nil>\n") {
		t.Fatalf("%s: %q %v", what, line, err)
	}
	return c
}

func mustLock(t *testing.T, dir string) *Held {
	t.Helper()
	h, warning, err := Lock(dir)
	if err != nil || warning != "" {
		t.Fatalf("lock: %v, warning %q", err, warning)
	}
	return h
}

func TestOneDaemon(t *testing.T) {
	inOwnNamespace(t, unix.CLONE_NEWNET, func() {
		dir := t.TempDir()
		if pid, ok := Running(); ok {
			t.Errorf("pid %d runs in an empty namespace", pid)
		}
		h := mustLock(t, dir)
		if pid, ok := Running(); !ok || pid != os.Getpid() {
			t.Errorf("running: %d %v", pid, ok)
		}
		want := fmt.Sprintf("pid %d, uid %d", os.Getpid(), os.Geteuid())
		if _, _, err := Lock(t.TempDir()); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), want) {
			t.Errorf("second lock: %v", err)
		}
		h.Release()
		mustLock(t, dir).Release()
	})
}

func TestManyAtOnce(t *testing.T) {
	inOwnNamespace(t, unix.CLONE_NEWNET, func() {
		// Threads that are started from here share the namespace.
		dir := t.TempDir()
		var won, lost atomic.Int32
		var all sync.WaitGroup
		procs := make(chan string, 8)
		for range cap(procs) {
			c := exec.Command(os.Args[0], dir)
			c.Env = append(os.Environ(), "RECORD_TEST_PLAY=daemon")
			in, err := c.StdinPipe()
			must(t, err)
			out, err := c.StdoutPipe()
			must(t, err)
			must(t, c.Start())
			all.Add(1)
			go func() {
				defer all.Done()
				line, _ := bufio.NewReader(out).ReadString('\n')
				procs <- line
				if strings.Contains(line, "<nil>") {
					won.Add(1)
				} else if strings.Contains(line, ErrLocked.Error()) {
					lost.Add(1)
				}
			}()
			defer func() { in.Close(); _ = c.Wait() }()
		}
		all.Wait()
		close(procs)
		if won.Load() != 1 || lost.Load() != 7 {
			for line := range procs {
				t.Log(line)
			}
			t.Errorf("%d have the lock, %d were refused", won.Load(), lost.Load())
		}
	})
}

func TestKillFreesTheLock(t *testing.T) {
	inOwnNamespace(t, unix.CLONE_NEWNET, func() {
		dir := t.TempDir()
		c := play(t, "daemon", dir)
		if pid, ok := Running(); !ok || pid != c.Process.Pid {
			t.Errorf("running: %d %v, wanted %d", pid, ok, c.Process.Pid)
		}
		if _, _, err := Lock(dir); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("pid %d,", c.Process.Pid)) {
			t.Errorf("lock: %v", err)
		}
		must(t, c.Process.Kill())
		_ = c.Wait()
		mustLock(t, dir).Release()
	})
}

// Any user can bind the name. That must not keep the daemon from starting, and
// two daemons must still not run.
func TestStranger(t *testing.T) {
	for _, who := range []string{"squatter", "mute"} {
		t.Run(who, func(t *testing.T) {
			inOwnNamespace(t, unix.CLONE_NEWNET, func() {
				dir := t.TempDir()
				stranger := play(t, who, dir)
				if pid, ok := Running(); ok {
					t.Errorf("pid %d passes for a daemon", pid)
				}
				h, warning, err := Lock(dir)
				must(t, err)
				defer h.Release()
				if !strings.Contains(warning, dir) {
					t.Errorf("warning: %q", warning)
				}
				if _, _, err = Lock(dir); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("(pid %d)", os.Getpid())) {
					t.Errorf("second lock: %v", err)
				}
				must(t, stranger.Process.Kill())
				_ = stranger.Wait()
				if _, _, err = Lock(dir); !errors.Is(err, ErrLocked) {
					t.Errorf("second lock when the stranger is gone: %v", err)
				}
			})
		})
	}
}

func TestSharedDirectory(t *testing.T) {
	dir := t.TempDir()
	inOwnNamespace(t, unix.CLONE_NEWNET, func() {
		c := play(t, "daemon", dir)
		inOwnNamespace(t, unix.CLONE_NEWNET, func() {
			want := fmt.Sprintf("(pid %d) for another network namespace", c.Process.Pid)
			if _, _, err := Lock(dir); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), want) {
				t.Errorf("lock: %v", err)
			}
			mustLock(t, t.TempDir()).Release()
		})
	})
}

func TestDirectoryThatCannotBeMade(t *testing.T) {
	inOwnNamespace(t, unix.CLONE_NEWNET, func() {
		dir := filepath.Join(t.TempDir(), "file")
		must(t, os.WriteFile(dir, nil, 0o644))
		h := mustLock(t, dir)
		defer h.Release()
		if _, _, err := Lock(dir); !errors.Is(err, ErrLocked) {
			t.Errorf("second lock: %v", err)
		}
	})
}

// The queue of a holder that nobody serves would fill up, and then nobody
// could find out who it is.
func TestQueueDoesNotFillUp(t *testing.T) {
	inOwnNamespace(t, unix.CLONE_NEWNET, func() {
		h := mustLock(t, t.TempDir())
		defer h.Release()
		until := time.Now().Add(time.Minute)
		for i := 0; i < 5000; {
			_, err := ask()
			switch {
			case err == nil:
				i++
			case !errors.Is(err, unix.EAGAIN) || time.Now().After(until):
				t.Fatalf("after %d: %v", i, err)
			default:
				time.Sleep(time.Millisecond) // let the holder catch up
			}
		}
	})
}
