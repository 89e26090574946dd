package mptcp

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Sentinels for [errors.Is]. They name what the path manager means, which its error numbers alone often do not.
var (
	// ErrExist: the address is an endpoint already. An IPv4 address and its ::ffff: form are one address,
	// whatever their flags, device and (without a port on both) port are.
	ErrExist = errors.New("mptcp: the address is an endpoint already")
	// ErrBusy: the id belongs to another endpoint.
	ErrBusy = errors.New("mptcp: the id is in use")
	// ErrFull: the kernel's table of endpoints is full (8, from Linux 7.2 on 64).
	ErrFull = errors.New("mptcp: too many endpoints")
	// ErrAbsent: there is no such endpoint, connection or subflow.
	ErrAbsent = errors.New("mptcp: no such entry")
	// ErrUnsupported: the kernel lacks Multipath TCP, or this part of it.
	ErrUnsupported = errors.New("mptcp: not supported by this kernel")
	// ErrPermission: CAP_NET_ADMIN in the user namespace that owns the network namespace is missing.
	ErrPermission = errors.New("mptcp: CAP_NET_ADMIN is needed")
	// ErrNoID: an operation that needs an endpoint's id was given id 0; see [Client.DeleteEndpoint].
	ErrNoID = errors.New("mptcp: an endpoint id is needed")
	// ErrInterrupted: what was listed kept changing while it was read.
	ErrInterrupted = errors.New("mptcp: the list changed while it was read")
	// ErrOverflow: the kernel dropped events because they were not read fast enough. The stream goes on.
	ErrOverflow = errors.New("mptcp: events were lost")
	// ErrClosed: the client or the stream was closed.
	ErrClosed = errors.New("mptcp: closed")
	// ErrNamespace: the calling thread is in another network namespace than the client.
	ErrNamespace = errors.New("mptcp: the thread is in another network namespace than the client")
)

// Error is a request that the kernel refused. It unwraps to its error number and answers [errors.Is] for the
// sentinels of this package.
type Error struct {
	// Op is what was asked, such as "add", and Object what for, such as "endpoint 10.0.0.1 subflow".
	Op, Object string
	// Errno is the kernel's error number.
	Errno unix.Errno
	// Msg is the kernel's own text (NLMSGERR_ATTR_MSG), often empty.
	Msg string
	// Offset is the byte in the request that the kernel points at (NLMSGERR_ATTR_OFFS), or -1.
	Offset int

	meaning error
}

// Error reads "add endpoint 10.0.0.1 subflow: file exists (the kernel's text)".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	b.WriteByte(' ')
	b.WriteString(e.Object)
	b.WriteString(": ")
	b.WriteString(e.Errno.Error())
	if e.Msg != "" {
		fmt.Fprintf(&b, " (%s)", e.Msg)
	}
	return b.String()
}

// Unwrap gives the error number.
func (e *Error) Unwrap() error { return e.Errno }

// Is reports whether target is the sentinel for this error.
func (e *Error) Is(target error) bool { return e.meaning != nil && target == e.meaning }

// textAbsent is what the path manager says where others would give ENOENT (net/mptcp/pm_kernel.c).
const textAbsent = "address not found"

// textDuplicate goes with one EINVAL for a duplicate address, an id in use and a full table in older kernels (6.1
// is one); newer ones tell them apart by number.
const textDuplicate = "too many addresses or duplicate one"

// meaningOf finds the sentinel for an answer to op.
func meaningOf(op string, r kernelReply) error {
	switch r.errno {
	case unix.EEXIST:
		return ErrExist
	case unix.EBUSY:
		return ErrBusy
	case unix.ERANGE:
		return ErrFull
	case unix.EPERM, unix.EACCES:
		return ErrPermission
	case unix.ENOENT, unix.ESRCH:
		return ErrAbsent
	case unix.EOPNOTSUPP, unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT:
		return ErrUnsupported
	case unix.EINVAL:
		switch {
		case strings.Contains(r.msg, textAbsent):
			return ErrAbsent
		case op == opFlags && r.msg == "":
			// In older kernels a missing endpoint is the one refusal of SET_FLAGS that has no text.
			return ErrAbsent
		case op == opFlags && strings.Contains(r.msg, "family"):
			// Before 5.17 SET_FLAGS needs the address.
			return ErrUnsupported
		}
	}
	return nil
}

// fail turns what a conn returned into the error of one request.
func fail(op, object string, err error) error {
	var r kernelReply
	if !errors.As(err, &r) {
		return fmt.Errorf("%s %s: %w", op, object, err)
	}
	return &Error{Op: op, Object: object, Errno: r.errno, Msg: r.msg, Offset: r.offset, meaning: meaningOf(op, r)}
}
