package supervise

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/run/filter"
)

// roleEnv makes this program the one that is supervised.
const roleEnv = "SUBFLOW_SUPERVISED"

func TestMain(m *testing.M) {
	if os.Getenv(roleEnv) != "" {
		if err := supervised(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// supervised sends its listener to descriptor 3 and prints what sockets it gets.
func supervised() error {
	runtime.LockOSThread()
	program, err := filter.Program(runtime.GOARCH)
	if err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	if err := unix.Sendmsg(3, []byte{0}, unix.UnixRights(int(fd)), nil, 0); err != nil {
		return err
	}
	unix.Close(int(fd))
	for _, kind := range []int{0, unix.SOCK_CLOEXEC, unix.SOCK_NONBLOCK} {
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|kind, 0)
		if err != nil {
			return err
		}
		protocol, _ := unix.GetsockoptInt(s, unix.SOL_SOCKET, unix.SO_PROTOCOL)
		file, _ := unix.FcntlInt(uintptr(s), unix.F_GETFD, 0)
		state, _ := unix.FcntlInt(uintptr(s), unix.F_GETFL, 0)
		fmt.Println(protocol, file&unix.FD_CLOEXEC != 0, state&unix.O_NONBLOCK != 0)
	}
	return nil
}

// serve lets a supervisor serve one program, and returns what that printed.
func serve(t *testing.T, s *Supervisor, killable bool) string {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "theirs")
	var out strings.Builder
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleEnv+"=1")
	cmd.ExtraFiles, cmd.Stdout, cmd.Stderr = []*os.File{theirs}, &out, &out
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(pair[0], make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
	unix.Close(pair[0])
	messages, err2 := unix.ParseSocketControlMessage(oob[:n])
	if err := errors.Join(err, err2); err != nil || len(messages) != 1 {
		_ = cmd.Wait()
		t.Fatalf("no listener: %v: %s", err, &out)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		t.Fatal(err)
	}
	// The kernel tells the end when the process is reaped.
	waited := make(chan error, 1)
	go func() { waited <- cmd.Wait() }()
	if err := errors.Join(s.Serve(fds[0], killable), <-waited); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
	unix.Close(fds[0])
	return out.String()
}

// TestKernels: the program cannot tell by which means the supervisor works, newest kernels' or oldest ones'.
func TestKernels(t *testing.T) {
	needSeccomp(t)
	const wanted = "262 false false\n262 true false\n262 false true\n"
	for _, c := range []struct {
		name     string
		killable bool
		look     lookFunc
	}{
		{"this kernel", true, lookBy()},
		{"before 5.19", false, lookBy()},
		{"before 6.13", true, lookByProc},
	} {
		s, err := New()
		if err != nil {
			t.Fatal(err)
		}
		s.look = c.look
		if s.self, err = s.look(os.Getpid()); err != nil {
			t.Fatal(err)
		}
		if found := serve(t, s, c.killable); found != wanted {
			t.Errorf("%s: %q, wanted %q", c.name, found, wanted)
		}
		if s.twoSteps != c.killable {
			t.Errorf("%s: answers took two steps: %v", c.name, s.twoSteps)
		}
	}
}

// TestWoken: what ends the wait for the last call ends nothing while there is a program.
func TestWoken(t *testing.T) {
	needSeccomp(t)
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-quit:
				return
			case <-time.After(100 * time.Microsecond):
			}
			threads, _ := os.ReadDir("/proc/self/task")
			for _, thread := range threads {
				tid, _ := strconv.Atoi(thread.Name())
				_ = unix.Tgkill(os.Getpid(), tid, wakeSignal)
			}
		}
	}()
	for range 20 {
		if found := serve(t, s, true); found != "262 false false\n262 true false\n262 false true\n" {
			t.Errorf("%q", found)
		}
	}
	close(quit)
	<-done
}

// TestOthersKeepTCP: what is not the supervisor's own gets no socket of it.
func TestOthersKeepTCP(t *testing.T) {
	needSeccomp(t)
	const wanted = "6 false false\n6 true false\n6 false true\n"
	for name, look := range map[string]lookFunc{
		"another control group": func(tid int) (identity, error) {
			id, err := lookByProc(tid)
			if tid != os.Getpid() {
				id.cgroup += "/elsewhere"
			}
			return id, err
		},
		"nobody knows": func(tid int) (identity, error) { return identity{}, unix.EPERM },
	} {
		s, err := New()
		if err != nil {
			t.Fatal(err)
		}
		s.look = look
		if found := serve(t, s, true); found != wanted {
			t.Errorf("%s: %q, wanted %q", name, found, wanted)
		}
	}
}

// needSeccomp skips where an ordinary user's sandbox has none.
func needSeccomp(t *testing.T) {
	t.Helper()
	action := uint32(unix.SECCOMP_RET_USER_NOTIF)
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action)))
	if errno != 0 && os.Geteuid() != 0 {
		t.Skipf("needs seccomp's user notification: %v", errno)
	}
}

func TestLook(t *testing.T) {
	byProc, err := lookByProc(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if byProc.uid != os.Geteuid() || byProc.gid != os.Getegid() {
		t.Errorf("user %d, group %d", byProc.uid, byProc.gid)
	}
	byPidfd, err := lookByPidfd(os.Getpid())
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTTY) {
		t.Log("this kernel tells it by /proc alone")
		return
	}
	if err != nil || byPidfd.uid != byProc.uid || byPidfd.gid != byProc.gid || byPidfd.cgroup == "" {
		t.Errorf("%+v, %v", byPidfd, err)
	}
	for _, look := range []lookFunc{lookByProc, lookByPidfd} {
		if id, err := look(1 << 22); err == nil {
			t.Errorf("a process that does not exist: %+v", id)
		}
	}
}

func TestFilesOfProc(t *testing.T) {
	const status = "Name:\tUid:\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n"
	if uid, gid := fileID([]byte(status), "\nUid:"), fileID([]byte(status), "\nGid:"); uid != 4 || gid != 8 {
		t.Errorf("user %d, group %d", uid, gid)
	}
	for _, s := range []string{"", "\nUid:\t1\t2\t3\n", "\nUid:\t1\t2\t3\tx\n"} {
		if uid := fileID([]byte(s), "\nUid:"); uid != -1 {
			t.Errorf("%q: user %d", s, uid)
		}
	}
	const groups = "9:memory:/a\n4:net_cls,net_prio:/b\n1:name=systemd:/c\n0::/d\n"
	if found := groupOfSockets([]byte(groups)); found != "4:net_cls,net_prio:/b\n0::/d\n" {
		t.Errorf("%q", found)
	}
}
