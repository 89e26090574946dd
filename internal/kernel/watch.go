package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
)

// watchBuffer holds some 2000 notifications; the default holds 250.
const watchBuffer = 1 << 20

// watchGroups are what a snapshot depends on. One socket for all of them keeps
// their order, and an overflow is one state.
var watchGroups = []int{
	unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE,
	unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE, unix.RTNLGRP_NEXTHOP,
}

// Pauses between attempts to subscribe again.
const (
	firstPause = 10 * time.Millisecond
	stormPause = 500 * time.Millisecond // while events keep getting lost
	longPause  = 5 * time.Second
)

// ErrNamespace says that the calling thread is in another network namespace than the
// one that was opened.
var ErrNamespace = errors.New("the thread is in another network namespace")

// Watcher tells when something in the namespace of a Kernel may have changed.
// What the Kernel itself applied is no news.
type Watcher struct {
	kernel    *Kernel
	overflows atomic.Uint64
}

// Watcher makes a watcher. It may run beside everything else.
func (k *Kernel) Watcher() *Watcher { return &Watcher{kernel: k} }

// Overflows counts how often events were lost, or the socket died, since the start.
func (w *Watcher) Overflows() uint64 { return w.overflows.Load() }

// Unread tells whether the kernel has told something that Watch has not looked at
// yet, or may have: where events were lost, until the full hint for them was
// emitted. Any goroutine may ask.
func (w *Watcher) Unread() bool {
	s := w.kernel.watch.Load()
	return s == nil || s.unread()
}

// Watch calls emit for every hint until ctx ends, and then returns its error.
// The goroutine's thread must be in the namespace that was opened
// (ErrNamespace), also later: a lost subscription is made again, and a full hint
// follows. ready is called once when the first one stands; its failure is
// returned.
func (w *Watcher) Watch(ctx context.Context, ready func(), emit func(netstate.Hints)) error {
	s, err := w.subscribe()
	if err != nil {
		return fmt.Errorf("subscribe to network changes: %w", err)
	}
	defer w.kernel.main.watched.Store(false)
	defer w.kernel.watch.Store(nil)
	// What was read before the subscription stood may have changed since.
	w.kernel.main.touch(0)
	if ready != nil {
		ready()
	}
	pause := firstPause
	for {
		w.kernel.watch.Store(s)
		w.kernel.main.watched.Store(true)
		if w.kernel.options.Load() != s.options { // since the filter was made
			s.interrupt()
		}
		began := time.Now()
		err = s.run(ctx, w.kernel, emit)
		w.kernel.main.watched.Store(false)
		s.close()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		reason := "overflow: events were lost"
		switch {
		case s.interrupted.Load():
			reason = "the configuration of routing changed"
		case time.Since(began) > longPause:
			pause = firstPause
			w.overflows.Add(1)
		default:
			// Events that come faster than they can be read must not be read
			// everything for at every turn.
			w.overflows.Add(1)
			if err := sleep(ctx, pause); err != nil {
				return err
			}
			pause = min(2*pause, stormPause)
		}
		if s, err = w.again(ctx, err); err != nil {
			return err
		}
		emit(netstate.Hints{Full: true, Kinds: netstate.KindAll, Reason: reason})
	}
}

// again subscribes until it succeeds or ctx ends. A namespace that has changed
// under the thread is final.
func (w *Watcher) again(ctx context.Context, cause error) (*subscription, error) {
	for pause := firstPause; ; pause = min(2*pause, longPause) {
		s, err := w.subscribe()
		if err == nil {
			return s, nil
		}
		if errors.Is(err, ErrNamespace) {
			return nil, fmt.Errorf("subscribe to network changes again after %w: %w", cause, err)
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// subscription is one socket. Closing it is what ends a Receive that waits.
type subscription struct {
	*receiver
	portid      uint32
	options     *Options // by which its filter was made
	closed      sync.Once
	interrupted atomic.Bool
}

func (w *Watcher) subscribe() (*subscription, error) {
	options := w.kernel.options.Load()
	lib, err := nl.Subscribe(unix.NETLINK_ROUTE) // the groups follow
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer lib.Close()
	if err := w.join(lib); err != nil {
		return nil, err
	}
	portid, err := lib.GetPid()
	if err != nil {
		return nil, os.NewSyscallError("getsockname", err)
	}
	r, err := newReceiver(lib.GetFd())
	if err != nil {
		return nil, err
	}
	return &subscription{receiver: r, portid: portid, options: options}, nil
}

func (w *Watcher) join(lib *nl.NetlinkSocket) error {
	fd := lib.GetFd()
	if err := w.kernel.sameNamespace(fd); err != nil {
		return err
	}
	// The plain option is capped by net.core.rmem_max, and serves where forcing
	// is not allowed.
	if lib.SetReceiveBufferSize(watchBuffer, true) != nil {
		_ = lib.SetReceiveBufferSize(watchBuffer, false)
	}
	// Before the groups are joined: no event passes unfiltered.
	if err := attachFilter(fd, eventFilter(w.kernel.watchedProtocols(), w.kernel.rt.portid)); err != nil {
		return err
	}
	// Connected, the socket takes unicast messages from the kernel only.
	if err := unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("connect", err)
	}
	for _, g := range watchGroups {
		if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}

// sameNamespace tells ErrNamespace where fd is in another namespace; kernels
// before 5.14 cannot tell.
func (k *Kernel) sameNamespace(fd int) error {
	if k.cookie == 0 {
		return nil
	}
	cookie, err := cookieOf(fd)
	if err == nil && cookie != k.cookie {
		err = ErrNamespace
	}
	return err
}

func (s *subscription) close() { s.closed.Do(func() { s.file.Close() }) }

// interrupt ends run.
func (s *subscription) interrupt() {
	s.interrupted.Store(true)
	s.close()
}

// run emits the hints of what is received until an error: ENOBUFS after an
// overflow, any at the end of ctx or when interrupted.
func (s *subscription) run(ctx context.Context, k *Kernel, emit func(netstate.Hints)) error {
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	decode := decoder{options: *k.options.Load(), names: k.names.Load, busy: k.busy.Load, main: &k.main}
	for {
		b, from, err := s.receive()
		if err != nil {
			return err
		}
		if from != 0 { // whoever may send to a group, only the kernel is believed
			continue
		}
		for {
			h, payload, rest, ok := nextMessage(b)
			if !ok {
				break
			}
			b = rest
			if hint, ok := decode.hint(h, payload); ok {
				emit(hint)
			}
		}
	}
}
