package control

import (
	"errors"
	"fmt"
	"net"
	"os/user"
	"slices"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// peer is who opened a connection, as the kernel recorded it at connect(2)
// (SO_PEERCRED, unix(7)).
type peer struct {
	uid, gid uint32
}

// peerOf asks the kernel who is at the other end.
func peerOf(c net.Conn) (peer, error) {
	var cred *unix.Ucred
	err := onSocket(c, func(fd int) (err error) {
		cred, err = unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		return err
	})
	if err != nil {
		return peer{}, fmt.Errorf("read the peer's credentials: %w", err)
	}
	return peer{uid: cred.Uid, gid: cred.Gid}, nil
}

// groupsOf are the supplementary groups of the other end (SO_PEERGROUPS, Linux 4.13).
func groupsOf(c net.Conn) ([]uint32, error) {
	groups := make([]uint32, 64)
	err := onSocket(c, func(fd int) error {
		for {
			size := uint32(4 * len(groups))
			_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
				uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
			// ERANGE comes with the size that is needed, at most 65536 groups (NGROUPS_MAX).
			if errno == unix.ERANGE && int(size/4) > len(groups) {
				groups = make([]uint32, size/4)
				continue
			}
			if errno != 0 {
				return errno
			}
			groups = groups[:size/4]
			return nil
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read the peer's groups: %w", err)
	}
	return groups, nil
}

func onSocket(c net.Conn, f func(fd int) error) error {
	s, ok := c.(syscall.Conn)
	if !ok {
		return errors.ErrUnsupported
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// mayWrite tells whether the other end of the connection may change the
// daemon's state: root, the daemon's own user, and the members of the group,
// which is looked up anew because it may be made after the daemon's start.
func (s *Server) mayWrite(c *conn) bool {
	if c.privileged {
		return true
	}
	gid, ok := s.groupID()
	if !ok {
		return false
	}
	if c.peer.gid == gid {
		return true
	}
	groups, err := groupsOf(c.Conn)
	return err == nil && slices.Contains(groups, gid)
}

func (s *Server) groupID() (uint32, bool) {
	g, err := user.LookupGroup(s.opts.Group)
	if err != nil {
		return 0, false
	}
	id, err := strconv.ParseUint(g.Gid, 10, 32)
	return uint32(id), err == nil
}
