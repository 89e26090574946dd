package kernel

import (
	"errors"
	"os"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// receiveSize holds any message: the kernel caps the buffers of a dump at
	// 32 KiB (netlink_dump in net/netlink/af_netlink.c).
	receiveSize = 64 << 10
	// replyTimeout ends a wait for an answer that does not come. The kernel
	// answers within the sendmsg call; only a held rtnl lock takes longer.
	replyTimeout = 10 * time.Second
	// dumpTries is how often a dump that changed while it was read is read.
	dumpTries = 5
)

// errInterrupted: what was listed kept changing while it was read.
var errInterrupted error = temporary("the list changed while it was read")

// temporary is an error that the next attempt will hardly meet.
type temporary string

func (t temporary) Error() string { return string(t) }

// Temporary says that one such failure is no news.
func (t temporary) Temporary() bool { return true }

// socket is one rtnetlink socket with strict checking of dump requests, without
// which the kernel ignores their filters (linux 4.20 and newer).
//
// The socket is the library's; requests and answers are not. It knows no batch,
// its Execute costs 4 us and 10 allocations beyond the 2 us of a small request,
// and of a refusal it gives a text alone. execute is for what is rare.
type socket struct {
	messages
	lib     nl.SocketHandle // for execute
	fd      int             // never blocking
	portid  uint32
	seq     uint32
	in      []byte
	timeout time.Duration // of a wait for an answer
	stale   bool          // an exchange broke off: its answers may still come
}

// openSocket makes a socket in the network namespace of the calling thread.
func openSocket() (*socket, error) {
	lib, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	tv := unix.NsecToTimeval(int64(replyTimeout))
	// Without NETLINK_CAP_ACK: on a shortened refusal Execute slices out of range.
	err = errors.Join(lib.SetReceiveTimeout(&tv), lib.SetExtAck(true))
	s := &socket{lib: nl.SocketHandle{Socket: lib}, in: make([]byte, receiveSize), timeout: replyTimeout}
	if err == nil {
		s.fd, s.portid, err = openRaw()
	}
	if err != nil {
		lib.Close()
		return nil, err
	}
	return s, nil
}

// openRaw gives a descriptor of a socket that the library made: the library's own
// is in the hands of the runtime's poller, which every answer wakes up (0.8 us,
// where a new path takes 7).
func openRaw() (fd int, portid uint32, err error) {
	lib, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		return -1, 0, os.NewSyscallError("socket", err)
	}
	defer lib.Close()
	if portid, err = lib.GetPid(); err != nil {
		return -1, 0, os.NewSyscallError("getsockname", err)
	}
	if fd, err = unix.FcntlInt(uintptr(lib.GetFd()), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		return -1, 0, os.NewSyscallError("fcntl", err)
	}
	err = errors.Join(
		os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)),
		os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)),
		os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)),
		// Connected, the socket takes unicast messages from the kernel only.
		os.NewSyscallError("connect", unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})),
	)
	if err != nil {
		unix.Close(fd)
	}
	return fd, portid, err
}

func (s *socket) close() error {
	if s.fd < 0 {
		return nil
	}
	fd := s.fd
	s.fd = -1
	s.lib.Close()
	return os.NewSyscallError("close", unix.Close(fd))
}

// reset forgets the messages that were built. Numbers start anew long before
// they would wrap within an exchange.
func (s *socket) reset() {
	s.messages.reset()
	if s.seq > 1<<31 {
		s.seq = 0
	}
}

func (s *socket) nextSeq() uint32 {
	s.seq++
	return s.seq
}

// send hands all messages that were built to the kernel in one call. The kernel
// carries each out before the call returns.
func (s *socket) send() error {
	if s.fd < 0 {
		return os.ErrClosed
	}
	if s.stale {
		s.drain()
	}
	faultpoint()
	defer faultpoint()
	for {
		_, err := unix.Write(s.fd, s.b)
		if err != unix.EINTR {
			return os.NewSyscallError("send", err)
		}
	}
}

func (s *socket) receive() ([]byte, error) {
	for {
		n, err := unix.Read(s.fd, s.in)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			if err = s.wait(); err == nil {
				continue
			}
		case err == nil && n == len(s.in):
			err = unix.EMSGSIZE
		}
		if err != nil {
			s.stale = true
			return nil, os.NewSyscallError("receive", err)
		}
		return s.in[:n], nil
	}
}

// wait waits until there is something to read.
func (s *socket) wait() error {
	late := time.Now().Add(s.timeout)
	for left := s.timeout; ; left = time.Until(late) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}, int(max(left, 0).Milliseconds()))
		switch {
		case err == unix.EINTR:
			continue
		case err == nil && n == 0:
			return unix.ETIMEDOUT
		}
		return err
	}
}

// drain throws away what is left of an exchange that broke off: while a dump is
// unread the next one is EBUSY.
func (s *socket) drain() {
	for range 100000 {
		if _, _, err := unix.Recvfrom(s.fd, s.in, unix.MSG_DONTWAIT); err == unix.EAGAIN {
			s.stale = false
			return
		}
	}
}

// exchange sends the messages that were built, numbered up to last, and gives
// every answer to handle until the last one is answered: by an acknowledgement,
// an error, the end of a dump, or, where lone says so, by a single message.
// handle must not keep the payload. An error is returned only when the exchange
// broke off or was interrupted; the kernel's refusals go to refused.
func (s *socket) exchange(first, last uint32, lone bool, handle func(h header, payload []byte), refused func(seq uint32, r reply)) error {
	if err := s.send(); err != nil {
		return err
	}
	interrupted := false
	for {
		b, err := s.receive()
		if err != nil {
			return err
		}
		for {
			h, payload, rest, ok := nextMessage(b)
			if !ok {
				break
			}
			b = rest
			if h.seq-first > last-first {
				continue
			}
			interrupted = interrupted || h.flags&unix.NLM_F_DUMP_INTR != 0
			switch h.typ {
			case unix.NLMSG_NOOP:
				continue
			case unix.NLMSG_ERROR, unix.NLMSG_DONE:
				if r := parseReply(h, payload); r.errno != 0 && refused != nil {
					refused(h.seq, r)
				}
			default:
				if handle != nil {
					handle(h, payload)
				}
				if !lone {
					continue
				}
			}
			if h.seq == last {
				if interrupted {
					return errInterrupted
				}
				return nil
			}
		}
	}
}

// dump carries out the one request that was built. restart forgets what handle
// collected; it is called before each try.
func (s *socket) dump(restart func(), handle func(h header, payload []byte)) error {
	var err error
	for range dumpTries {
		restart()
		var refusal reply
		err = s.exchange(s.seq, s.seq, false, handle, func(_ uint32, r reply) { refusal = r })
		if err == nil && refusal.errno != 0 {
			return refusal
		}
		if !errors.Is(err, errInterrupted) {
			return err
		}
	}
	return err
}

// execute carries out a rare request the library's way. It answers with the
// payloads of messages of one type.
func (s *socket) execute(r *nl.NetlinkRequest, typ uint16) ([][]byte, error) {
	if s.fd < 0 {
		return nil, os.ErrClosed
	}
	r.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: &s.lib}
	return r.Execute(unix.NETLINK_ROUTE, typ)
}

// reply is the kernel's refusal of one request.
type reply struct {
	errno unix.Errno
	msg   string
}

// Error reads "network is unreachable (ENETUNREACH): Nexthop has invalid gateway".
func (r reply) Error() string {
	s := r.errno.Error()
	if name := unix.ErrnoName(r.errno); name != "" {
		s += " (" + name + ")"
	}
	if r.msg != "" {
		s += ": " + r.msg
	}
	return s
}

// Unwrap gives the error number.
func (r reply) Unwrap() error { return r.errno }

// parseReply reads NLMSG_ERROR and the status in NLMSG_DONE with the extended
// acknowledgement behind them; errno 0 is success.
func parseReply(h header, payload []byte) reply {
	code := int32(u32At(payload, 0))
	cut := len(payload) < 4 && h.typ == unix.NLMSG_ERROR
	if code == 0 && !cut {
		return reply{}
	}
	if cut || code > 0 || code < -4095 {
		code = -int32(unix.EPROTO)
	}
	r := reply{errno: unix.Errno(-code)}
	skip := 4
	if h.typ == unix.NLMSG_ERROR {
		skip += unix.NLMSG_HDRLEN
		if h.flags&unix.NLM_F_CAPPED == 0 {
			echoed := u32At(payload, 4) // the whole request comes before the attributes
			if echoed < unix.NLMSG_HDRLEN || uint64(echoed) > uint64(len(payload)) {
				return r
			}
			skip = 4 + align4(int(echoed))
		}
	}
	if h.flags&unix.NLM_F_ACK_TLVS == 0 {
		return r
	}
	a := attrsAfter(payload, skip)
	for typ, v, ok := a.next(); ok; typ, v, ok = a.next() {
		if typ == nl.NLMSGERR_ATTR_MSG {
			r.msg = text(v)
		}
	}
	return r
}
