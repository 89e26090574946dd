package mptcp

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The path manager's generic netlink family (Documentation/netlink/specs/mptcp_pm.yaml).
const (
	familyName  = "mptcp_pm"
	groupEvents = "mptcp_pm_events"
	pmVersion   = 1

	cmdAddAddr    = 1
	cmdDelAddr    = 2
	cmdGetAddr    = 3
	cmdFlushAddrs = 4
	cmdSetLimits  = 5
	cmdGetLimits  = 6
	cmdSetFlags   = 7
	cmdAnnounce   = 8
)

// Client asks and changes the path manager of one network namespace: the one in which the thread that called
// [Dial] was. It may be used from any thread and by several goroutines at once.
type Client struct {
	genl   *conn
	diag   *conn
	family genlFamily
	cookie uint64
}

// Dial opens the sockets in the network namespace of the calling thread: lock the thread
// (runtime.LockOSThread) where it is not the process's own. It needs no privilege. The error is ErrUnsupported
// where the kernel has no Multipath TCP.
func Dial() (*Client, error) {
	family, err := resolve(familyName)
	if err != nil {
		const what = "generic netlink family " + familyName
		if errors.Is(err, unix.ENOENT) {
			return nil, &Error{Op: "find", Object: what, Errno: unix.ENOENT, Offset: -1, meaning: ErrUnsupported}
		}
		return nil, fmt.Errorf("find %s: %w", what, err)
	}
	genl, err := open(unix.NETLINK_GENERIC)
	if err != nil {
		return nil, fmt.Errorf("open generic netlink: %w", err)
	}
	c := &Client{genl: genl, family: family}
	if c.diag, err = open(unix.NETLINK_SOCK_DIAG); err != nil {
		genl.close()
		return nil, fmt.Errorf("open sock_diag: %w", err)
	}
	// SO_NETNS_COOKIE came with 5.14. Without it sockets opened later cannot be compared, and are not.
	c.cookie, _ = unix.GetsockoptUint64(genl.fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	return c, nil
}

// Close closes the client's sockets; event streams live on. A request under way is waited for. Later requests
// return ErrClosed.
func (c *Client) Close() error {
	return errors.Join(c.genl.close(), c.diag.close())
}

// sameNamespace says whether fd, made by the calling thread, is in the client's namespace.
func (c *Client) sameNamespace(fd int) error {
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if errors.Is(err, unix.ENOPROTOOPT) {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	if cookie != c.cookie {
		return ErrNamespace
	}
	return nil
}

// genlFamily is what the generic netlink controller tells of a family. Ids are dynamic (net/netlink/genetlink.c).
type genlFamily struct {
	id     uint16
	ops    uint64 // bit n: command n
	groups map[string]uint32
}

// resolve asks the controller for a family in the namespace of the calling thread.
func resolve(name string) (genlFamily, error) {
	known, err := netlink.GenlFamilyGet(name)
	if err != nil {
		return genlFamily{}, err
	}
	f := genlFamily{id: known.ID, groups: make(map[string]uint32, len(known.Groups))}
	for _, op := range known.Ops {
		if op.ID < 64 {
			f.ops |= 1 << op.ID
		}
	}
	for _, g := range known.Groups {
		f.groups[g.Name] = g.ID
	}
	return f, nil
}
