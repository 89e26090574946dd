package supervise

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// notification is struct seccomp_notif with its struct seccomp_data. Nothing
// in it points anywhere: what the program wants is in the numbers themselves.
type notification struct {
	id      uint64
	pid     uint32 // of the thread, as the supervisor sees it; 0 if it does not
	flags   uint32
	nr      int32
	arch    uint32
	address uint64
	args    [6]uint64
}

// response is struct seccomp_notif_resp.
type response struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// addition is struct seccomp_notif_addfd.
type addition struct {
	id       uint64
	flags    uint32
	source   uint32
	target   uint32
	newFlags uint32
}

// listener is the descriptor that seccomp(2) gave for the filter.
type listener int

// ioctl tries again where a stop or a freeze comes before the listener's lock
// was had (EINTR): then nothing has happened, and the program would wait for
// ever.
func (l listener) ioctl(request uint, argument unsafe.Pointer) (int, error) {
	for {
		n, err := l.ioctlOnce(request, argument)
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

func (l listener) ioctlOnce(request uint, argument unsafe.Pointer) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l), uintptr(request), uintptr(argument))
	runtime.KeepAlive(argument)
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

// errUnused says that no process carries the filter any more.
var errUnused = errors.New("the program has ended")

// Timeouts of poll(2).
const (
	now  = 0
	wait = -1
)

// none is no descriptor: poll(2) passes over it.
const none = -1

// unused returns errUnused when no process carries the filter, or nil after the
// timeout or once the descriptor stop, if it is not negative, can be read. Other
// events do not wake it.
func (l listener) unused(timeout, stop int) error {
	fds := []unix.PollFd{{Fd: int32(l)}, {Fd: int32(stop), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, timeout)
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("wait for the end of the program: %w", err)
		case fds[0].Revents&unix.POLLHUP != 0:
			return errUnused
		case err == nil && n == 0, fds[1].Revents != 0:
			return nil
		}
		// POLLERR: a stop came before the listener's lock was had.
	}
}

// receive waits for the next call. A call can be interrupted by a signal until
// it has been received, so nothing comes before: no poll(2). ENOENT means that
// its program did not wait for the answer, errUnused that none is left.
func (l listener) receive(n *notification) error {
	for {
		*n = notification{} // the kernel refuses anything but zeroes
		_, err := l.ioctlOnce(unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(n))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
		// A stop, a freeze, or wake.
		if err := l.unused(now, none); err != nil {
			return err
		}
	}
}

// goOn lets the kernel do the call as if nobody had looked. The arguments are
// scalars, in registers: they cannot have changed since.
func (l listener) goOn(id uint64) error {
	r := response{id: id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	_, err := l.ioctl(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r))
	return err
}

// finish makes fd the result of the call: the second of two steps.
func (l listener) finish(id uint64, fd int) error {
	r := response{id: id, value: int64(fd)}
	_, err := l.ioctl(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r))
	return err
}

// add puts a copy of fd into the program, with O_CLOEXEC or without, and
// returns its number there. With SECCOMP_ADDFD_FLAG_SEND that number is the
// result of the call, and nothing is left to do.
func (l listener) add(id uint64, fd int, flags uint32, cloexec bool) (int, error) {
	a := addition{id: id, flags: flags, source: uint32(fd)}
	if cloexec {
		a.newFlags = unix.O_CLOEXEC
	}
	return l.ioctl(unix.SECCOMP_IOCTL_NOTIF_ADDFD, unsafe.Pointer(&a))
}

// valid tells whether the call still waits, and so whether what was read of
// its thread was not another's that has the number by now.
func (l listener) valid(id uint64) bool {
	_, err := l.ioctl(unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&id))
	return err == nil
}

// wakeOnSameCPU has the program and the supervisor hand the processor to each
// other, which halves the time of a call. Kernels before 6.6 do not have it.
func (l listener) wakeOnSameCPU() {
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(l), unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
}
