package kernel

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/pkg/mptcp"
)

// Meaning is what an error asks of the caller.
type Meaning uint8

// What an error number means.
const (
	Other      Meaning = iota // refused, and will be again until something changes
	Transient                 // the same request may succeed in a moment
	Permission                // CAP_NET_ADMIN is missing
	Gone                      // what the request is about does not exist (any more)
	InTheWay                  // another object has the key
	Unsupported
)

var meanings = map[unix.Errno]Meaning{
	unix.EAGAIN: Transient, unix.EBUSY: Transient, unix.EINTR: Transient, unix.ENOBUFS: Transient,
	unix.ENOMEM: Transient, unix.ETIMEDOUT: Transient,
	// A route by a link that is going down or is not up yet.
	unix.ENETDOWN: Transient, unix.ENETUNREACH: Transient, unix.EHOSTUNREACH: Transient,

	unix.EPERM: Permission, unix.EACCES: Permission,

	unix.ENOENT: Gone, unix.ESRCH: Gone, unix.ENODEV: Gone, unix.ENXIO: Gone, unix.EADDRNOTAVAIL: Gone,

	unix.EEXIST: InTheWay, unix.EADDRINUSE: InTheWay,

	unix.EOPNOTSUPP: Unsupported, unix.EPROTONOSUPPORT: Unsupported, unix.EAFNOSUPPORT: Unsupported,
}

// MeaningOf tells what an error of this package asks of the caller.
func MeaningOf(err error) Meaning {
	switch {
	case errors.Is(err, errInterrupted), errors.Is(err, mptcp.ErrInterrupted):
		return Transient
	case errors.Is(err, mptcp.ErrAbsent):
		return Gone
	// Kernels such as 6.1 have one EINVAL for both.
	case errors.Is(err, mptcp.ErrExist):
		return InTheWay
	case errors.Is(err, mptcp.ErrBusy):
		return Transient
	case errors.Is(err, mptcp.ErrUnsupported):
		return Unsupported
	}
	var n unix.Errno
	if !errors.As(err, &n) {
		return Other
	}
	return meanings[n]
}

// gone tells whether a delete failed because there was nothing to delete, or a
// read because its object has just vanished.
func gone(err error) bool { return MeaningOf(err) == Gone }
