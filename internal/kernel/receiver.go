package kernel

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// receiver reads a socket of notifications without allocating. The library's
// Receive takes 64 KiB anew for each message, also for those that are of no
// interest.
type receiver struct {
	file *os.File // in the hands of the runtime's poller; closing it ends a read that waits
	raw  syscall.RawConn
	read func(fd uintptr) (done bool) // made once, because a closure is an allocation
	in   []byte
	n    int
	from unix.RawSockaddrNetlink
	err  unix.Errno
}

// newReceiver takes a duplicate of a socket that never blocks.
func newReceiver(socket int) (*receiver, error) {
	fd, err := unix.FcntlInt(uintptr(socket), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	r := &receiver{file: os.NewFile(uintptr(fd), "rtnetlink"), in: make([]byte, receiveSize)}
	if r.raw, err = r.file.SyscallConn(); err != nil {
		r.file.Close()
		return nil, err
	}
	r.read = r.once
	return r, nil
}

// once is one attempt; it has to be repeated when there is nothing to read.
func (r *receiver) once(fd uintptr) bool {
	size := uint32(unix.SizeofSockaddrNetlink)
	for {
		// unix.Recvfrom would make an address for each message.
		n, _, errno := unix.Syscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&r.in[0])), uintptr(len(r.in)), 0,
			uintptr(unsafe.Pointer(&r.from)), uintptr(unsafe.Pointer(&size)))
		r.n, r.err = int(n), errno
		if errno != unix.EINTR {
			return errno != unix.EAGAIN
		}
	}
}

// receive waits for messages, which last until the next call. The port is that
// of the sender: 0 for the kernel. The error is ENOBUFS when messages were lost.
func (r *receiver) receive() (messages []byte, port uint32, err error) {
	if err := r.raw.Read(r.read); err != nil {
		return nil, 0, err
	}
	if r.err != 0 {
		return nil, 0, os.NewSyscallError("receive", r.err)
	}
	if r.n == len(r.in) {
		return nil, 0, os.NewSyscallError("receive", unix.EMSGSIZE)
	}
	return r.in[:r.n], r.from.Pid, nil
}

// unread tells whether there are messages that were not received yet, or could
// be: who has closed the socket, or cannot ask, does not know.
func (r *receiver) unread() bool {
	yes := true
	err := r.raw.Control(func(fd uintptr) {
		list := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(list, 0)
		yes = err != nil || n > 0
	})
	return yes || err != nil
}
