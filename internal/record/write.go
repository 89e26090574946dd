package record

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// padded is how long a file in memory is that can be written over: the smallest
// page. A write inside one page of a tmpfs is not broken off by a signal
// (generic_perform_write, mm/filemap.c), and allocates nothing.
const padded = 4096

// overwrite writes over a file in memory and tells whether that was possible.
// Making a file and renaming it takes several times as long, and every new path
// waits for it. In haste the file is not looked up again: one that was moved away
// is missed until the next write that is not.
func (s *Store) overwrite(haste bool) bool {
	if !s.inMemory || len(s.next) > padded {
		return false
	}
	if haste && s.fd >= 0 && s.writeOver(max(len(s.next), s.filled)) {
		return true
	}
	s.Close()
	var err error
	if s.fd, err = openFile(s.path(), unix.O_WRONLY|unix.O_NOFOLLOW); err != nil {
		return false
	}
	return s.writeOver(padded)
}

// writeOver writes the first bytes over the file that is open, if it has its name
// still. What was written into it before was whole, so that in haste the spaces
// that are there already need not be.
func (s *Store) writeOver(size int) bool {
	var st unix.Stat_t
	if unix.Fstat(s.fd, &st) != nil || st.Size != padded || st.Nlink != 1 {
		return false
	}
	n, err := unix.Pwrite(s.fd, s.pad(s.next)[:size], 0)
	return err == nil && n == size
}

// Close closes the file of the record, which stays. A later call opens it again.
func (s *Store) Close() {
	if s.fd >= 0 {
		unix.Close(s.fd)
		s.fd = -1
	}
}

// pad fills up with what JSON ignores. Only what differs from the last time is
// written, byte by byte.
func (s *Store) pad(b []byte) []byte {
	if s.page == nil {
		s.page = bytes.Repeat([]byte{' '}, padded)
	}
	n := copy(s.page, b)
	for i := n; i < s.filled; i++ {
		s.page[i] = ' '
	}
	s.filled = n
	return s.page
}

func (s *Store) replace(b []byte) error {
	// One name is enough, because the lock lets one daemon write; what a crash
	// left under it is overwritten.
	temp := s.path() + ".new"
	s.Close()
	if s.inMemory && len(b) <= padded {
		b = s.pad(b)
	}
	err := writeFile(temp, b)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(s.dir, 0o755); err == nil {
			err = writeFile(temp, b)
		}
	}
	if err == nil {
		err = unix.Rename(temp, s.path())
	}
	if err != nil {
		_ = os.Remove(temp)
		s.disk = nil // the next call tries again, whatever it has to say
		return bare(err)
	}
	return nil
}

// writeFile is os.WriteFile without the runtime's poller, which takes a regular
// file to be one and is refused. Each endpoint waits for this.
func writeFile(path string, b []byte) error {
	fd, err := openFile(path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC)
	if err != nil {
		return err
	}
	for len(b) > 0 && err == nil {
		var n int
		if n, err = unix.Write(fd, b); err == unix.EINTR {
			err = nil
			continue
		}
		if err == nil && n == 0 {
			err = io.ErrShortWrite
		}
		b = b[max(n, 0):]
	}
	if closed := unix.Close(fd); err == nil {
		err = closed
	}
	return err
}

func openFile(path string, flags int) (fd int, err error) {
	for {
		if fd, err = unix.Open(path, flags|unix.O_CLOEXEC, 0o644); err != unix.EINTR {
			return fd, err
		}
	}
}
