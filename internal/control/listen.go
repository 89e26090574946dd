package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrInUse says that another process answers on the socket.
var ErrInUse = errors.New("another process answers there")

const (
	socketMode = 0o666 // connecting to a Unix socket takes write permission (unix(7))
	dirMode    = 0o755
	dialTime   = time.Second
)

// Listen opens the control socket at path. It makes the directory where that is
// missing and removes a socket that a killed daemon left, but only if nobody
// answers on it. Closing the listener removes the file, if it still is the one
// that was made. Errors: ErrInUse, and those of the file system and of bind(2).
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return nil, fmt.Errorf("make the directory of socket %s: %w", path, err)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on socket %s: %w", path, err)
	}
	// The standard library would remove whatever has the name by then.
	l.SetUnlinkOnClose(false)
	file, err := hold(path)
	if err == nil {
		err = os.Chmod(path, socketMode)
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("set the mode of socket %s: %w", path, err)
	}
	return &socket{UnixListener: l, path: path, file: file}, nil
}

// hold opens the file itself, whatever it is, without connecting. While it is
// held no other file can get its inode number, which file systems hand out
// again at once.
func hold(path string) (*os.File, error) {
	return os.OpenFile(path, unix.O_PATH|unix.O_NOFOLLOW, 0)
}

// removeStale removes a socket that refuses connections. Anything else that has
// the name stays, and is an error.
func removeStale(path string) error {
	file, err := hold(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at socket %s: %w", path, err)
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("listen on socket %s: %w, and is no socket", path, fs.ErrExist)
	}
	c, err := net.DialTimeout("unix", path, dialTime)
	switch {
	case err == nil:
		c.Close()
		return fmt.Errorf("listen on socket %s: %w", path, ErrInUse)
	case errors.Is(err, syscall.EAGAIN) || errors.Is(err, os.ErrDeadlineExceeded):
		// A full backlog has a listener behind it.
		return fmt.Errorf("listen on socket %s: %w", path, ErrInUse)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("ask who listens on socket %s: %w", path, err)
	}
	return removeHeld(path, file)
}

// removeHeld removes the file unless another took its name meanwhile.
func removeHeld(path string, file *os.File) error {
	was, err := file.Stat()
	if err != nil {
		return fmt.Errorf("look at socket %s: %w", path, err)
	}
	now, err := os.Lstat(path)
	if err == nil && os.SameFile(was, now) {
		err = os.Remove(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove socket %s: %w", path, err)
	}
	return nil
}

type socket struct {
	*net.UnixListener
	path string
	file *os.File
	once sync.Once
}

// Close removes the file first: a client that comes now learns at once that
// nobody is there, and the next daemon may take the name.
func (s *socket) Close() error {
	err := error(net.ErrClosed)
	s.once.Do(func() {
		err = errors.Join(removeHeld(s.path, s.file), s.file.Close(), s.UnixListener.Close())
	})
	return err
}
