// Package run starts a program whose TCP sockets are MPTCP ones. It installs a
// seccomp filter (package filter) that hands the program's socket(2) calls to
// a supervisor (package supervise), then executes the program in its place.
//
// The files: run (the order of things), install (seccomp and its conditions),
// detach (the supervisor's process), exec (finding and executing the program).
package run

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Program is what to execute.
type Program struct {
	Path string   // of the file
	Args []string // from argv[0] on
	Env  []string
	// Warn, unless nil, is told why the program starts without Multipath TCP,
	// or what keeps it from using it.
	Warn func(error)
}

// SupervisorError is a failure after which the program cannot be executed, for
// it carries the filter and nobody would answer its calls.
type SupervisorError struct{ Err error }

func (e *SupervisorError) Error() string { return "hand over to the supervisor: " + e.Err.Error() }
func (e *SupervisorError) Unwrap() error { return e.Err }

// Exec executes the program in place of this one, on the calling thread, which
// has to be the first of the process for the program to keep all that belongs
// to it. It returns only if that fails: with a SupervisorError, or with the
// errno of execve(2). Where Multipath TCP is impossible the program starts all
// the same, with the TCP that it would have had.
func Exec(p Program) error {
	warn := p.Warn
	if warn == nil {
		warn = func(error) {}
	}
	if marked() {
		if err := unanswered(); err != nil {
			warn(err)
		}
		return execute(p)
	}
	if err := mptcpOff(); err != nil {
		warn(err)
	}
	s, err := prepare(p)
	if err != nil {
		warn(fmt.Errorf("the program starts with plain TCP: %w", err))
		return execute(p)
	}
	l, err := install(s.program)
	if err != nil {
		s.dismiss()
		warn(fmt.Errorf("the program starts with plain TCP: %w", err))
		return execute(p)
	}
	if err := s.hand(l); err != nil {
		return &SupervisorError{Err: err}
	}
	return execute(p)
}

// unanswered tells, under an outer run, that its supervisor has been killed. No
// program gets rid of a filter, so there is nothing to be done here.
func unanswered() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	switch {
	case err == nil:
		unix.Close(fd)
	case errors.Is(err, unix.ENOSYS):
		return errors.New("somebody has killed the supervisor of the run around this one: the program gets no TCP sockets; leave that and start it anew")
	}
	return nil
}

// mptcpOff tells why no socket will be an MPTCP one for now. The supervisor
// tries at every call anew.
func mptcpOff() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP)
	switch {
	case err == nil:
		unix.Close(fd)
		return nil
	case errors.Is(err, unix.ENOPROTOOPT): // mptcp_init_sock, net/mptcp/protocol.c
		return errors.New("net.mptcp.enabled is 0: the program's connections are plain TCP while it is")
	}
	return fmt.Errorf("the program's connections are plain TCP: make an MPTCP socket: %w", err)
}
