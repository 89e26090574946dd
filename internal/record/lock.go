package record

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrLocked is wrapped by the error of Lock when another daemon is here.
var ErrLocked = errors.New("another subflowd runs here")

// socketName is an abstract name (unix(7)): it exists once in each network
// namespace, and goes with the process that bound it, however that ends.
const socketName = "@subflowd"

// lockName is the file in the state directory that is locked as well. It keeps
// two daemons from one record, and counts alone where a stranger has the socket.
const lockName = "lock"

// Held is the lock of this process. It ends with Release or with the process.
type Held struct {
	listener *net.UnixListener
	done     chan struct{}
	file     *os.File
}

// Lock makes this process the only daemon of its network namespace, and the
// only one that uses the state directory. The error wraps ErrLocked and names
// the holder when there is another. The warning, if not empty, says that a
// stranger holds the name and that the state directory alone is locked; any
// user can bind the name, and must not keep the daemon from starting by it.
func Lock(dir string) (*Held, string, error) {
	h := &Held{}
	warning := ""
	holder, err := h.listen()
	switch {
	case err == nil:
	case errors.Is(err, unix.EADDRINUSE) && holder.trusted():
		return nil, "", fmt.Errorf("lock network namespace: %w (%s)", ErrLocked, holder)
	case errors.Is(err, unix.EADDRINUSE):
		warning = fmt.Sprintf("the socket %s, which says that subflowd runs, is held by %s; only the state directory %s is locked", socketName, holder, dir)
	default:
		warning = fmt.Sprintf("bind socket %s: %v; only the state directory %s is locked", socketName, err, dir)
	}
	if err = h.lockFile(dir); err == nil {
		return h, warning, nil
	}
	if h.listener != nil && !errors.Is(err, ErrLocked) {
		// The record cannot be written there either, and says so.
		return h, "", nil
	}
	h.Release()
	return nil, "", err
}

// listen binds the name, or finds who has it. Between its bind and its listen
// another daemon cannot be asked, so that is tried for a while.
func (h *Held) listen() (peer, error) {
	var who peer
	for try := range 20 {
		if try > 0 {
			time.Sleep(5 * time.Millisecond)
		}
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socketName, Net: "unix"})
		if err == nil {
			h.listener, h.done = l, make(chan struct{})
			go h.answer()
			return peer{}, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			var op *net.OpError
			if errors.As(err, &op) {
				err = op.Err
			}
			return peer{}, err
		}
		if who, err = ask(); err == nil {
			break
		}
	}
	return who, unix.EADDRINUSE
}

// answer takes and closes connections, so that their queue never fills up and
// the holder can always be asked.
func (h *Held) answer() {
	defer close(h.done)
	for {
		c, err := h.listener.AcceptUnix()
		switch {
		case err == nil:
			c.Close()
		case errors.Is(err, net.ErrClosed):
			return
		default:
			time.Sleep(100 * time.Millisecond) // out of descriptors
		}
	}
}

func (h *Held) lockFile(dir string) error {
	path := filepath.Join(dir, lockName)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("lock state directory: %w", err)
	}
	// Who can open the file can lock it: nobody else may.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("lock state directory: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		defer f.Close()
		return fmt.Errorf("lock state directory %s: %w%s", dir, ErrLocked, fileHolder(f))
	case err != nil:
		f.Close()
		return fmt.Errorf("lock %s: %w", path, err)
	}
	if err = f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	h.file = f
	return nil
}

// fileHolder names the process that wrote its id into the lock file, and the
// remedy when it runs in another namespace and the two only share a directory.
func fileHolder(f *os.File) string {
	b := make([]byte, 16)
	n, _ := f.ReadAt(b, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil || pid <= 0 {
		return ""
	}
	theirs, err1 := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	ours, err2 := os.Readlink("/proc/thread-self/ns/net")
	if err1 == nil && err2 == nil && theirs != ours {
		return fmt.Sprintf(" (pid %d) for another network namespace: give each its own --state-dir", pid)
	}
	return fmt.Sprintf(" (pid %d)", pid)
}

// Release gives the lock back.
func (h *Held) Release() {
	if h.listener != nil {
		h.listener.Close()
		<-h.done
	}
	if h.file != nil {
		h.file.Close()
	}
}
