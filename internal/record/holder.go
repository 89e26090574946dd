package record

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// peer is the process that bound the name.
type peer struct {
	known bool // it could be asked
	pid   int  // 0: not visible from here
	uid   uint32
}

func (p peer) String() string {
	switch {
	case !p.known:
		return "a process that does not answer"
	case p.pid == 0:
		return fmt.Sprintf("a process of uid %d", p.uid)
	}
	return fmt.Sprintf("pid %d, uid %d", p.pid, p.uid)
}

// trusted tells whether the process can be a daemon: one of root or of the
// user that asks.
func (p peer) trusted() bool {
	return p.known && (p.uid == 0 || int(p.uid) == os.Geteuid())
}

// ask finds who listens on the name. The kernel keeps the credentials that the
// other side had when it called listen (SO_PEERCRED, unix(7)). The error is
// ECONNREFUSED when nobody listens, and EAGAIN when its queue is full.
func ask() (peer, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return peer{}, err
	}
	defer func() { _ = unix.Close(fd) }()
	if err = unix.Connect(fd, &unix.SockaddrUnix{Name: socketName}); err != nil {
		return peer{}, err
	}
	c, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return peer{}, err
	}
	return peer{known: true, pid: int(c.Pid), uid: c.Uid}, nil
}

// Running tells whether a daemon runs in this network namespace, and its
// process id; 0 when that is not visible from here. It is for who only looks:
// it does not see a daemon that had to start without the socket, as Lock does.
func Running() (pid int, ok bool) {
	p, err := ask()
	if err != nil || !p.trusted() {
		return 0, false
	}
	return p.pid, true
}
