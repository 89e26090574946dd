// Package record keeps the state record and the lock.
//
// Endpoints and limits carry no mark of who made them, so the record names
// ours. It is written before the change that it names, lives on a tmpfs, and
// belongs to one boot and one network namespace: what another boot or
// namespace wrote counts for nothing. The files: record (the store), encoding
// (the file's content), write (how it gets there), lock (one daemon for each namespace), holder (who has
// the lock).
package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
)

// FileName is the name of the record in the state directory.
const FileName = "state.json"

// maxSize bounds what is read: 255 endpoints take about 20 kB.
const maxSize = 1 << 20

// Store is the record in memory, and on disk after each method that returns
// nil. One that returns an error has changed the record in memory alone; the
// next call writes all of it. It is used by one goroutine.
type Store struct {
	dir      string
	inMemory bool
	bootID   []byte // as JSON
	cookie   uint64
	now      netstate.Ownership // its map and what it points to are never changed
	disk     []byte             // what the file holds, without padding; nil: unknown or none
	page     []byte             // next as it is written over a file
	filled   int                // how much of page is not padding
	next     []byte             // what it is to hold, in memory that is used again
	fd       int                // of the file, where it can be written over; -1: not open
}

// Open reads the record in dir, which need not exist, for the boot and the
// network namespace (SO_NETNS_COOKIE) that the caller is in. It always returns
// a store. The ownership is not Known when there is no record of this boot and
// namespace. The error says in what way a record that is there cannot be used,
// and what follows; a missing one and one of another boot are no errors.
func Open(dir, bootID string, cookie uint64) (*Store, netstate.Ownership, error) {
	inMemory := volatile(dir)
	if inMemory {
		bootID = anyBoot
	}
	s := &Store{dir: dir, inMemory: inMemory, cookie: cookie, fd: -1}
	s.bootID, _ = json.Marshal(bootID) // a string has no error
	b, err := read(s.path())
	if errors.Is(err, fs.ErrNotExist) {
		return s, s.now, nil
	}
	var own netstate.Ownership
	if err == nil {
		own, err = decode(b, bootID, cookie)
	}
	if err != nil {
		return s, s.now, fmt.Errorf("read state record %s: %w: endpoints made before count as foreign unless they are exactly as planned", s.path(), err)
	}
	if own.Known {
		s.now, s.disk = own, bytes.TrimRight(b, " ")
	}
	return s, s.now, nil
}

// anyBoot stands for the boot id where the file cannot outlive its boot. There
// the id would only do harm: in a container a service with a /proc of its own
// reads another one than a shell does.
const anyBoot = "volatile"

// volatile tells whether the directory, or the one in which it will be made,
// lies in memory (linux/magic.h).
func volatile(dir string) bool {
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	for errors.Is(err, unix.ENOENT) && filepath.Dir(dir) != dir {
		dir = filepath.Dir(dir)
		err = unix.Statfs(dir, &st)
	}
	if err != nil {
		return false
	}
	// Signed and of another width on every architecture.
	return uint32(st.Type) == unix.TMPFS_MAGIC || uint32(st.Type) == unix.RAMFS_MAGIC //nolint:gosec // the magics have 32 bits
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, bare(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err == nil && len(b) > maxSize {
		err = errors.New("too large")
	}
	return b, bare(err)
}

// bare drops the operation and the path, which the callers name.
func bare(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

func (s *Store) path() string { return filepath.Join(s.dir, FileName) }

// Owned is what the record says now. It is not changed by later calls.
func (s *Store) Owned() netstate.Ownership { return s.now }

// Announce names endpoints that are about to be added. Their ids are the
// kernel's choice and not known yet.
func (s *Store) Announce(eps ...netstate.Endpoint) error {
	return s.endpoints(true, eps, func(m map[netip.Addr]netstate.Endpoint, e netstate.Endpoint) {
		m[e.Addr] = netstate.Endpoint{Addr: e.Addr, Link: e.Link}
	})
}

// Settle names endpoints of ours that exist, with their ids.
func (s *Store) Settle(eps ...netstate.Endpoint) error {
	return s.endpoints(false, eps, func(m map[netip.Addr]netstate.Endpoint, e netstate.Endpoint) {
		m[e.Addr] = netstate.Endpoint{Addr: e.Addr, Link: e.Link, ID: e.ID}
	})
}

// Forget takes endpoints out that do not exist, or are not ours.
func (s *Store) Forget(eps ...netstate.Endpoint) error {
	return s.endpoints(false, eps, func(m map[netip.Addr]netstate.Endpoint, e netstate.Endpoint) {
		delete(m, e.Addr)
	})
}

func (s *Store) endpoints(haste bool, eps []netstate.Endpoint, change func(map[netip.Addr]netstate.Endpoint, netstate.Endpoint)) error {
	m := maps.Clone(s.now.Endpoints)
	if m == nil {
		m = map[netip.Addr]netstate.Endpoint{}
	}
	for _, e := range eps {
		e.Addr = e.Addr.Unmap()
		change(m, e)
	}
	s.now.Endpoints = m
	return s.write(haste)
}

// SetLimits says which limits are about to be set, and which are there. What is
// not of our making is what somebody wants back.
func (s *Store) SetLimits(found, set netstate.Limits) error {
	if s.now.OwnsLimits(found) {
		s.now.LimitsBefore = &found
	} else {
		s.now.LimitsFound, s.now.LimitsBefore = &found, nil
	}
	s.now.LimitsSet = &set
	return s.write(false)
}

// SetProtocols says under which protocols rules and routes of ours are made, or
// were and may be in the kernel still.
func (s *Store) SetProtocols(p ...uint8) error {
	s.now.Protocols = slices.Compact(slices.Sorted(slices.Values(p)))
	return s.write(false)
}

// Remove deletes the record and all that it says.
func (s *Store) Remove() error {
	s.now, s.disk = netstate.Ownership{}, nil
	s.Close()
	if err := os.Remove(s.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove state record %s: %w", s.path(), bare(err))
	}
	return nil
}

// write changes the file at once, so that a crash leaves the old or the new
// content. There is no fsync: the record must not outlive the boot.
func (s *Store) write(haste bool) error {
	s.now.Known = true
	s.next = appendDocument(s.next[:0], s.now, s.bootID, s.cookie)
	if s.disk != nil && bytes.Equal(s.next, s.disk) {
		return nil
	}
	if s.overwrite(haste) {
		s.disk, s.next = s.next, s.disk
		return nil
	}
	if err := s.replace(s.next); err != nil {
		return fmt.Errorf("write state record %s: %w: after a restart, endpoints that it does not name count as foreign unless they are exactly as planned", s.path(), err)
	}
	s.disk, s.next = s.next, s.disk
	return nil
}
