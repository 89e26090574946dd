package run

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/run/filter"
)

// seccomp returns the listener of a new filter, or the bare errno.
func seccomp(operation, flags uintptr, argument unsafe.Pointer) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_SECCOMP, operation, flags, uintptr(argument))
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

// marked tells whether this process carries the filter of an outer run.
func marked() bool {
	fd, err := unix.Socket(filter.MarkFamily, 0, 0)
	if err == nil {
		unix.Close(fd)
	}
	return errors.Is(err, filter.MarkErrno)
}

// notifies fails on a kernel, or in a sandbox, that has no user notification.
func notifies() error {
	action := uint32(unix.SECCOMP_RET_USER_NOTIF)
	if _, err := seccomp(unix.SECCOMP_GET_ACTION_AVAIL, 0, unsafe.Pointer(&action)); err != nil {
		return fmt.Errorf("ask for seccomp's user notification: %w", err)
	}
	return nil
}

// listener is the kernel's end of a filter.
type listener struct {
	fd       int
	killable bool // no signal but a fatal one ends a call that is being answered
}

// install puts the filter on the calling thread alone: the others of this
// program end with execve(2).
func install(program []unix.SockFilter) (listener, error) {
	runtime.LockOSThread()
	l, err := installAs(program)
	// Who has CAP_SYS_ADMIN needs no promise never to gain privileges, and
	// then set-user-ID programs work as before.
	if errors.Is(err, unix.EACCES) {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return listener{}, fmt.Errorf("set no_new_privs: %w", err)
		}
		l, err = installAs(program)
	}
	switch {
	case errors.Is(err, unix.EBUSY):
		err = fmt.Errorf("another program answers this one's system calls: %w", err)
	case err != nil:
		err = fmt.Errorf("install filter: %w", err)
	}
	return l, err
}

// installAs asks for the best that the kernel has. Without SPEC_ALLOW, kernels
// before 5.16 slow the program down as if it were a sandbox; with
// WAIT_KILLABLE_RECV (5.19) a signal does not interrupt a call that is being
// answered, for programs expect no EINTR of socket(2).
func installAs(program []unix.SockFilter) (listener, error) {
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	fd, err := seccomp(unix.SECCOMP_SET_MODE_FILTER, flags|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, unsafe.Pointer(&prog))
	killable := !errors.Is(err, unix.EINVAL)
	if !killable {
		fd, err = seccomp(unix.SECCOMP_SET_MODE_FILTER, flags, unsafe.Pointer(&prog))
	}
	runtime.KeepAlive(program)
	return listener{fd, killable}, err
}
