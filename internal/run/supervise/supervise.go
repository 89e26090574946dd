// Package supervise answers the socket calls of programs that carry the filter
// of package filter: with an MPTCP socket, or by letting the call go on.
package supervise

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Supervisor answers on one listener. It is for one thread.
type Supervisor struct {
	listener listener
	look     lookFunc
	self     identity
	here     namespace // of the thread
	homeFile int       // its own namespace
	home     namespace
	twoSteps bool // see give
}

var errOther = errors.New("it would not be the program's own socket")

// New prepares a supervisor. It fails where /proc is missing: without it the
// namespaces of callers cannot be told.
func New() (*Supervisor, error) {
	s := &Supervisor{look: lookBy()}
	var err error
	if s.self, err = s.look(os.Getpid()); err != nil {
		return nil, err
	}
	const own = "/proc/thread-self/ns/net"
	if s.home, err = namespaceAt(own); err != nil {
		return nil, err
	}
	s.here = s.home
	if s.homeFile, err = unix.Open(own, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("open %s: %w", own, err)
	}
	return s, nil
}

// Serve answers until no process carries the filter any more, which the kernel
// tells by POLLHUP (5.9), and leaves nothing that runs. After an error the
// process has to end. Killable says that a call ends for no signal but a fatal
// one once it is received.
func (s *Supervisor) Serve(fd int, killable bool) error {
	s.listener, s.twoSteps = listener(fd), killable
	s.listener.wakeOnSameCPU()
	thread, answers, end := make(chan int, 1), make(chan error, 1), make(chan error, 1)
	go func() { answers <- s.answer(thread) }()
	// Whoever answers may learn of the end, and who only waits for it may not.
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		stop = none
	}
	go func() { end <- s.listener.unused(wait, stop) }()
	select {
	case err = <-answers:
		if stop != none {
			_, _ = unix.Write(stop, []byte{1, 0, 0, 0, 0, 0, 0, 1}) // any number, in any order of bytes
			if told := <-end; err == nil {
				err = told
			}
		}
	case err = <-end:
		if errors.Is(err, errUnused) {
			err = wake(<-thread, answers)
		}
	}
	if stop != none {
		unix.Close(stop)
	}
	if errors.Is(err, errUnused) {
		return nil
	}
	return err
}

// answer tells its thread, and answers until there is an error.
func (s *Supervisor) answer(thread chan<- int) error {
	runtime.LockOSThread()
	err := blockSignals()
	thread <- unix.Gettid()
	for err == nil {
		err = s.next()
	}
	return err
}

// wakeSignal is SIGRTMAX: nothing sends it, and Go's handler does nothing.
const wakeSignal = unix.Signal(64)

// blockSignals keeps the runtime from interrupting this thread, which it does
// to share the processor among goroutines (SIGURG). Only wake does.
func blockSignals() error {
	var most unix.Sigset_t
	for i := range most.Val {
		most.Val[i]--
	}
	const bits = 8 * int(unsafe.Sizeof(most.Val[0]))
	most.Val[(int(wakeSignal)-1)/bits] &^= 1 << ((int(wakeSignal) - 1) % bits)
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &most, nil); err != nil {
		return fmt.Errorf("block signals: %w", err)
	}
	return nil
}

// wake ends the wait for a call that will not come: kernels before 6.11 do not
// tell those who wait that no process is left. A signal before the wait is lost,
// so there may have to be several.
func wake(thread int, answers <-chan error) error {
	for {
		select {
		case err := <-answers:
			return err
		case <-time.After(time.Millisecond):
			_ = unix.Tgkill(os.Getpid(), thread, wakeSignal)
		}
	}
}

// next answers one call. Whatever keeps it from an MPTCP socket, MPTCP switched
// off as well as descriptors running out, lets the call go on, and the kernel
// tell the program.
func (s *Supervisor) next() error {
	var n notification
	err := s.listener.receive(&n)
	switch {
	case gone(err):
		// Since 6.11 the kernel says the same when no process is left. Whoever
		// waits for the control group to be empty waits for this process.
		return s.listener.unused(now, none)
	case err != nil:
		return fmt.Errorf("receive system call: %w", err)
	}
	fd, err := s.socket(&n)
	if err == nil {
		err = s.give(n.id, fd, uint32(n.args[1])&unix.SOCK_CLOEXEC != 0)
		unix.Close(fd)
	}
	if err != nil {
		_ = s.listener.goOn(n.id)
	}
	return nil
}

// gone tells that a call waits no more: a signal, a kill. That is as good as
// answered.
func gone(err error) bool { return errors.Is(err, unix.ENOENT) }

// give ends the call with fd as its result.
//
// SECCOMP_ADDFD_FLAG_SEND (5.14) does that in one step, and is the only way to
// leave no descriptor behind when a signal takes the program out of the call.
// But where the supervisor is interrupted in it, by a stop or by the freezer of
// a suspend, the call has ended with 0, the program's standard input, and
// nothing can be done about that (seccomp_notify_addfd, kernel/seccomp.c; seen
// on 6.18). So calls that no signal reaches are ended in two steps, which may be
// interrupted and cost two microseconds more.
func (s *Supervisor) give(id uint64, fd int, cloexec bool) error {
	if !s.twoSteps {
		_, err := s.listener.add(id, fd, unix.SECCOMP_ADDFD_FLAG_SEND, cloexec)
		if err == nil || gone(err) {
			return nil
		}
		if !errors.Is(err, unix.EINVAL) {
			return err
		}
		s.twoSteps = true
	}
	there, err := s.listener.add(id, fd, 0, cloexec)
	if err == nil {
		err = s.listener.finish(id, there)
	}
	if gone(err) {
		return nil
	}
	return err
}

// socket makes the socket that the caller would have made itself.
func (s *Supervisor) socket(n *notification) (int, error) {
	tid := int(n.pid)
	if tid == 0 {
		return -1, errOther
	}
	who, err := s.look(tid)
	if err != nil {
		return -1, err
	}
	if who.cgroup != s.self.cgroup {
		// Somebody may have moved this process too.
		if s.self, err = s.look(os.Getpid()); err != nil {
			return -1, err
		}
		if who.cgroup != s.self.cgroup {
			return -1, errOther
		}
	}
	where, err := namespaceAt(namespacePath(tid))
	if err != nil {
		return -1, err
	}
	if where != s.here {
		if err := s.enter(n, where); err != nil {
			return -1, err
		}
		// A namespace lives as long as a process is in it.
		defer s.leave()
	}
	kind := unix.SOCK_STREAM | unix.SOCK_CLOEXEC | int(uint32(n.args[1]))&unix.SOCK_NONBLOCK
	return s.as(who, func() (int, error) {
		return unix.Socket(int(uint32(n.args[0])), kind, unix.IPPROTO_MPTCP)
	})
}

// enter changes to the caller's namespace, which takes CAP_SYS_ADMIN in it.
func (s *Supervisor) enter(n *notification, where namespace) error {
	fd, err := unix.Open(namespacePath(int(n.pid)), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !s.listener.valid(n.id) {
		return unix.ENOENT
	}
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return err
	}
	s.here = where
	return nil
}

func (s *Supervisor) leave() {
	if unix.Setns(s.homeFile, unix.CLONE_NEWNET) == nil {
		s.here = s.home
	}
}

// as calls open with the caller's user and group, where they are not the
// supervisor's: firewalls look at those of the socket's file.
func (s *Supervisor) as(who identity, open func() (int, error)) (int, error) {
	if who.uid == s.self.uid && who.gid == s.self.gid {
		return open()
	}
	defer func() {
		_, _ = unix.SetfsuidRetUid(s.self.uid)
		_, _ = unix.SetfsgidRetGid(s.self.gid)
	}()
	_, _ = unix.SetfsgidRetGid(who.gid)
	_, _ = unix.SetfsuidRetUid(who.uid)
	// They return the value before, and never an error: asking tells.
	uid, _ := unix.SetfsuidRetUid(-1)
	gid, _ := unix.SetfsgidRetGid(-1)
	if uid != who.uid || gid != who.gid {
		return -1, errOther
	}
	return open()
}
