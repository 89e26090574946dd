package mptcp

import (
	"errors"
	"fmt"
	"os"

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
	joiner joiner
}

// Dial opens the sockets in the network namespace of the calling thread: lock the thread
// (runtime.LockOSThread) where it is not the process's own. It needs no privilege. The error is ErrUnsupported
// where the kernel has no Multipath TCP.
func Dial() (*Client, error) {
	genl, err := open(unix.NETLINK_GENERIC)
	if err != nil {
		return nil, fmt.Errorf("open generic netlink: %w", err)
	}
	c := &Client{genl: genl}
	if c.family, err = genl.resolve(familyName); err != nil {
		genl.close()
		e := fail("find", "generic netlink family "+familyName, err)
		if kernel := (*Error)(nil); errors.As(e, &kernel) && kernel.Errno == unix.ENOENT {
			kernel.meaning = ErrUnsupported
		}
		return nil, e
	}
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

// genlFamily is what the generic netlink controller tells of a family.
type genlFamily struct {
	id     uint16
	ops    uint64 // bit n: command n
	groups map[string]uint32
}

// resolve asks the controller for a family; ids and groups are dynamic (net/netlink/genetlink.c).
func (c *conn) resolve(name string) (genlFamily, error) {
	c.Lock()
	defer c.Unlock()
	c.begin(unix.GENL_ID_CTRL, unix.NLM_F_ACK)
	c.genlHeader(unix.CTRL_CMD_GETFAMILY, 1)
	c.str(unix.CTRL_ATTR_FAMILY_NAME, name)
	var f genlFamily
	err := c.run(func(b []byte) error {
		f = decodeFamily(b)
		return nil
	})
	if err == nil && f.id == 0 {
		err = unix.EPROTO
	}
	return f, err
}

func decodeFamily(b []byte) genlFamily {
	f := genlFamily{groups: map[string]uint32{}}
	if len(b) < unix.GENL_HDRLEN {
		return f
	}
	a := attrs(b[unix.GENL_HDRLEN:])
	for typ, v, ok := a.next(); ok; typ, v, ok = a.next() {
		switch typ {
		case unix.CTRL_ATTR_FAMILY_ID:
			f.id = u16At(v, 0)
		case unix.CTRL_ATTR_OPS:
			eachNested(v, func(op attrs) {
				for t, o, ok := op.next(); ok; t, o, ok = op.next() {
					if n := u32At(o, 0); t == unix.CTRL_ATTR_OP_ID && n < 64 {
						f.ops |= 1 << n
					}
				}
			})
		case unix.CTRL_ATTR_MCAST_GROUPS:
			eachNested(v, func(group attrs) {
				name, id := "", uint32(0)
				for t, g, ok := group.next(); ok; t, g, ok = group.next() {
					switch t {
					case unix.CTRL_ATTR_MCAST_GRP_NAME:
						name = cString(g)
					case unix.CTRL_ATTR_MCAST_GRP_ID:
						id = u32At(g, 0)
					}
				}
				f.groups[name] = id
			})
		}
	}
	return f
}

func eachNested(b []byte, do func(attrs)) {
	a := attrs(b)
	for _, v, ok := a.next(); ok; _, v, ok = a.next() {
		do(attrs(v))
	}
}
