package mptcp

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// eventBuffer is the socket's receive buffer. An event takes about 800 bytes of it, so thousands fit.
const eventBuffer = 4 << 20

// EventStream gives the path manager's events. [EventStream.Receive] is for one goroutine at a time.
//
// Its socket is not the library's, whose Receive ends with Close alone: a stream outlives the context of one Receive,
// and the group of the events can lie beyond the 32 that nl.Subscribe can express.
type EventStream struct {
	file   *os.File
	raw    syscall.RawConn
	closed atomic.Bool

	mu   sync.Mutex
	in   []byte
	rest []byte
}

// SubscribeEvents opens a stream of the events of the client's namespace. The calling thread must be in that
// namespace (else ErrNamespace, from Linux 5.14 on). It needs CAP_NET_ADMIN (ErrPermission) and Linux 5.12
// (ErrUnsupported). No event is sent for changes of endpoints or limits.
func (c *Client) SubscribeEvents() (*EventStream, error) {
	const what = "path manager events"
	group, ok := c.family.groups[groupEvents]
	if !ok {
		return nil, &Error{Op: "subscribe to", Object: what, Errno: unix.EOPNOTSUPP, Offset: -1, meaning: ErrUnsupported}
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_GENERIC)
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", what, os.NewSyscallError("socket", err))
	}
	file := os.NewFile(uintptr(fd), "mptcp_pm_events")
	if err := c.join(fd, group); err != nil {
		file.Close()
		var errno unix.Errno
		if errors.As(err, &errno) {
			return nil, fail("subscribe to", what, kernelReply{errno: errno, offset: -1})
		}
		return nil, fmt.Errorf("subscribe to %s: %w", what, err)
	}
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("subscribe to %s: %w", what, err)
	}
	return &EventStream{file: file, raw: raw, in: make([]byte, receiveSize)}, nil
}

func (c *Client) join(fd int, group uint32) error {
	if err := c.sameNamespace(fd); err != nil {
		return err
	}
	// The plain option is capped by net.core.rmem_max, and serves where forcing is not allowed.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, eventBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, eventBuffer)
	}
	kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	if err := unix.Bind(fd, kernel); err != nil {
		return err
	}
	if err := unix.Connect(fd, kernel); err != nil {
		return err
	}
	return unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, int(group))
}

// Receive waits for the next event. It returns the context's error when that ends first, ErrClosed after Close,
// and ErrOverflow where the kernel has dropped events: what the events had told must be read anew, and every event
// from then on is received. Messages that are no known event are passed over.
func (s *EventStream) Receive(ctx context.Context) (Event, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for len(s.rest) > 0 {
			h, payload, rest, ok := nextMessage(s.rest)
			s.rest = rest
			if !ok {
				break
			}
			if h.typ < unix.NLMSG_MIN_TYPE {
				continue
			}
			if e, ok := decodeEvent(payload); ok {
				return e, nil
			}
		}
		n, err := s.read(ctx)
		if err != nil {
			return Event{}, err
		}
		s.rest = s.in[:n]
	}
}

// Close ends the stream and a Receive that waits.
func (s *EventStream) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	return s.file.Close()
}

func (s *EventStream) read(ctx context.Context) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if ctx.Done() != nil {
		expired := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			defer close(expired)
			_ = s.file.SetReadDeadline(time.Unix(1, 0))
		})
		defer func() {
			// A deadline that came too late for this read must not end the next one.
			if !stop() {
				<-expired
				_ = s.file.SetReadDeadline(time.Time{})
			}
		}()
	}
	var n int
	var errno error
	err := s.raw.Read(func(fd uintptr) bool {
		for {
			n, errno = unix.Read(int(fd), s.in)
			if errno != unix.EINTR {
				return errno != unix.EAGAIN
			}
		}
	})
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil:
		return 0, ctx.Err()
	case err != nil && s.closed.Load():
		return 0, ErrClosed
	case err != nil:
		return 0, fmt.Errorf("receive events: %w", err)
	case errno == unix.ENOBUFS:
		s.drain()
		return 0, fmt.Errorf("receive events: %w", ErrOverflow)
	case errno != nil:
		return 0, fmt.Errorf("receive events: %w", errno)
	case n == len(s.in): // cut off: what it told is lost
		return 0, fmt.Errorf("receive events: %w", ErrOverflow)
	}
	return n, nil
}

// drain empties the socket. After an overflow the kernel drops every further event, without another error, until
// the queue has been read to its end (NETLINK_S_CONGESTED in net/netlink/af_netlink.c): whoever reads the state
// anew before that would miss what happens afterwards.
func (s *EventStream) drain() {
	_ = s.raw.Read(func(fd uintptr) bool {
		for range 1 << 20 {
			if _, err := unix.Read(int(fd), s.in); err == unix.EAGAIN {
				break
			}
		}
		return true
	})
}
