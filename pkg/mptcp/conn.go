package mptcp

import (
	"errors"
	"os"
	"sync"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// receiveSize holds any message: the kernel caps the buffers of a dump at 32 KiB (netlink_dump in
	// net/netlink/af_netlink.c), and fills them only as far as the reader has shown that it can take.
	receiveSize = 64 << 10
	// replyTimeout ends a wait for an answer that does not come. The slowest request, a flush under many
	// connections, takes tens of milliseconds.
	replyTimeout = 10 * time.Second
	// dumpTries is how often a dump that changed while it was read is read at most.
	dumpTries = 5
)

// conn is one netlink socket with requests answered in order. Its lock is held for the length of a run or dump.
//
// Socket and requests are the library's, their execution is not: its Execute gives of a refusal neither the text nor
// the offset as such, and the path manager tells its refusals apart by nothing else.
type conn struct {
	sync.Mutex
	fd      int // never blocking
	seq     uint32
	in      []byte
	timeout time.Duration
	stale   bool
}

// open makes a socket in the network namespace of the calling thread.
func open(protocol int) (*conn, error) {
	lib, err := nl.Subscribe(protocol) // to no group
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer lib.Close()
	// The library's descriptor is in the hands of the runtime's poller, which every answer wakes up (0.8 us).
	fd, err := unix.FcntlInt(uintptr(lib.GetFd()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	// A connected netlink socket takes unicast messages from the kernel only (netlink_getsockbyportid).
	if err := unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("connect", err)
	}
	// Both have existed since 4.12 and cost only the text of errors where they fail.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	return &conn{fd: fd, in: make([]byte, receiveSize), timeout: replyTimeout}, nil
}

func (c *conn) close() error {
	c.Lock()
	defer c.Unlock()
	if c.fd < 0 {
		return nil
	}
	fd := c.fd
	c.fd = -1
	return os.NewSyscallError("close", unix.Close(fd))
}

// run sends a request and gives each answer's payload to handle, which must not keep it.
// The first error of handle is returned after the answers have been read to their end.
func (c *conn) run(r *nl.NetlinkRequest, handle func(payload []byte) error) error {
	if c.fd < 0 {
		return ErrClosed
	}
	if c.stale {
		c.drain()
	}
	c.seq++
	r.Seq = c.seq
	if err := c.send(r.Serialize()); err != nil {
		return os.NewSyscallError("send", err)
	}
	var first error
	interrupted := false
	for {
		n, err := c.receive()
		if err != nil {
			c.stale = true
			return os.NewSyscallError("receive", err)
		}
		done, err := c.answers(c.in[:n], handle, &first, &interrupted)
		if err != nil {
			return err
		}
		if done && first == nil && interrupted {
			return ErrInterrupted
		}
		if done {
			return first
		}
	}
}

// dump is run for a dump; restart forgets what handle has collected, before each reading.
func (c *conn) dump(r *nl.NetlinkRequest, restart func(), handle func(payload []byte) error) error {
	var err error
	for range dumpTries {
		restart()
		if err = c.run(r, handle); !errors.Is(err, ErrInterrupted) {
			return err
		}
	}
	return err
}

// answers reads one buffer of messages; done says that it held the last one.
func (c *conn) answers(b []byte, handle func([]byte) error, first *error, interrupted *bool) (done bool, err error) {
	for {
		h, payload, rest, ok := nextMessage(b)
		if !ok {
			return false, nil
		}
		b = rest
		if h.seq != c.seq {
			continue
		}
		if h.flags&unix.NLM_F_DUMP_INTR != 0 {
			*interrupted = true
		}
		switch h.typ {
		case unix.NLMSG_ERROR, unix.NLMSG_DONE:
			if reply := parseAck(h, payload); reply.errno != 0 {
				return true, reply
			}
			return true, nil
		case unix.NLMSG_NOOP:
		default:
			if handle == nil || *first != nil {
				continue
			}
			*first = handle(payload)
		}
	}
}

func (c *conn) send(b []byte) error {
	for {
		_, err := unix.Write(c.fd, b)
		if err != unix.EINTR {
			return err
		}
	}
}

func (c *conn) receive() (int, error) {
	for {
		n, err := unix.Read(c.fd, c.in)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			if err = c.wait(); err == nil {
				continue
			}
		case err == nil && n == len(c.in):
			return 0, unix.EMSGSIZE
		}
		return n, err
	}
}

// wait waits until there is something to read.
func (c *conn) wait() error {
	late := time.Now().Add(c.timeout)
	for left := c.timeout; ; left = time.Until(late) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}, int(max(left, 0).Milliseconds()))
		switch {
		case err == unix.EINTR:
			continue
		case err == nil && n == 0:
			return unix.ETIMEDOUT
		}
		return err
	}
}

// drain throws away what an exchange that broke off has left: while its dump is unread, another one is EBUSY.
func (c *conn) drain() {
	for range 10000 {
		_, _, err := unix.Recvfrom(c.fd, c.in, unix.MSG_DONTWAIT)
		if err == unix.EAGAIN {
			c.stale = false
			return
		}
	}
}

type header struct {
	typ, flags uint16
	seq        uint32
}

// nextMessage splits the first message off b.
func nextMessage(b []byte) (h header, payload, rest []byte, ok bool) {
	if len(b) < unix.NLMSG_HDRLEN {
		return h, nil, nil, false
	}
	n := u32At(b, 0)
	if n < unix.NLMSG_HDRLEN || uint64(n) > uint64(len(b)) {
		return h, nil, nil, false
	}
	h = header{typ: u16At(b, 4), flags: u16At(b, 6), seq: u32At(b, 8)}
	payload = b[unix.NLMSG_HDRLEN:n:n]
	if next := align4(int(n)); next < len(b) {
		rest = b[next:]
	}
	return h, payload, rest, true
}

// kernelReply is an error as the kernel gives it, before the request that it answers is known.
type kernelReply struct {
	errno  unix.Errno
	msg    string
	offset int
}

func (r kernelReply) Error() string { return r.errno.Error() }

// parseAck reads NLMSG_ERROR and the status in NLMSG_DONE, with the extended acknowledgement behind them.
func parseAck(h header, payload []byte) kernelReply {
	r := kernelReply{offset: -1}
	code := int32(u32At(payload, 0))
	cut := len(payload) < 4 && h.typ == unix.NLMSG_ERROR
	if code == 0 && !cut {
		return r
	}
	if cut || code > 0 || code < -4095 {
		code = -int32(unix.EPROTO)
	}
	r.errno = unix.Errno(-code)
	skip := 4
	if h.typ == unix.NLMSG_ERROR {
		skip += unix.NLMSG_HDRLEN
		if h.flags&unix.NLM_F_CAPPED == 0 {
			// Without a cap the whole request is echoed before the attributes.
			echoed := u32At(payload, 4)
			if echoed < unix.NLMSG_HDRLEN || uint64(echoed) > uint64(len(payload)) {
				return r
			}
			skip = 4 + align4(int(echoed))
		}
	}
	if h.flags&unix.NLM_F_ACK_TLVS == 0 || skip > len(payload) {
		return r
	}
	a := attrs(payload[skip:])
	for typ, v, ok := a.next(); ok; typ, v, ok = a.next() {
		switch typ {
		case nl.NLMSGERR_ATTR_MSG:
			r.msg = cString(v)
		case nl.NLMSGERR_ATTR_OFFS:
			r.offset = int(u32At(v, 0))
		}
	}
	return r
}
