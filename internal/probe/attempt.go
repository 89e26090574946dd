package probe

import (
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/pkg/mptcp"
	"github.com/subflowd/subflowd/pkg/status"
)

// attempt is one connection with Multipath TCP and what came of it.
type attempt struct {
	status.ProbeConnection
	// spoke is what the server says of how it was reached; empty: it is none of ours.
	spoke string
	// asked tells that the first packet had the option at all.
	asked bool
	// ended tells that the server closed the connection at once: it takes no joins any more.
	ended bool
	sock  *socket // open where there is a connection
	info  info
}

// greetingWait bounds how long a server that may greet is waited for after it
// has acknowledged the first data.
const greetingWait = 250 * time.Millisecond

// try connects, sends one byte and waits until it is acknowledged: some boxes
// let the handshake pass and take the options of the data away.
func try(to netip.AddrPort, v via, timeout time.Duration) *attempt {
	a := &attempt{asked: true, ProbeConnection: status.ProbeConnection{Link: v.link}}
	if v.from.IsValid() {
		a.Source = v.from.String()
	}
	before, _ := mptcp.ReadCounters()
	begun := time.Now()
	s, err := dial(protocolMPTCP, to, v, begun.Add(timeout))
	if err != nil {
		a.fail(err)
		if a.Outcome == status.ProbeTimeout {
			a.withoutOption(to, v, timeout)
		}
		return a
	}
	a.sock, a.Outcome = s, status.ProbeMPTCP
	a.HandshakeSeconds = time.Since(begun).Seconds()
	a.Source = s.local().Addr().String()
	if a.info = s.info(); !a.info.mptcp {
		a.Outcome = status.ProbeFallback
		after, err := mptcp.ReadCounters()
		_, counted := after[counterAsked]
		a.asked = err != nil || !counted || after.Sub(before)[counterAsked] > 0
	}
	a.exchange(to, timeout)
	return a
}

// counterAsked counts the first packets with MP_CAPABLE. After a path has
// swallowed some, the kernel leaves the option out for a time
// (net.mptcp.blackhole_timeout).
const counterAsked = "MPCapableSYNTX"

// fail sets the outcome of a connect.
func (a *attempt) fail(err error) {
	a.Text = err.Error()
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		a.Outcome, a.Text = status.ProbeRefused, ""
	case errors.Is(err, unix.ETIMEDOUT):
		a.Outcome, a.Text = status.ProbeTimeout, ""
	case errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH):
		a.Outcome = status.ProbeUnreachable
	case errors.Is(err, unix.ENOPROTOOPT): // mptcp_init_sock, net/mptcp/protocol.c
		a.Outcome, a.Text = status.ProbeFailed, "Multipath TCP is switched off on this host (sysctl net.mptcp.enabled)"
	case errors.Is(err, unix.EPROTONOSUPPORT):
		a.Outcome, a.Text = status.ProbeFailed, "the kernel of this host has no Multipath TCP"
	default:
		a.Outcome = status.ProbeFailed
	}
}

// withoutOption tells whether plain TCP gets through where the option does not.
func (a *attempt) withoutOption(to netip.AddrPort, v via, timeout time.Duration) {
	s, err := dial(unix.IPPROTO_TCP, to, v, time.Now().Add(timeout))
	if err == nil {
		a.Outcome = status.ProbeBlocked
		s.close()
	}
}

// exchange sends the first byte and reads a greeting.
func (a *attempt) exchange(to netip.AddrPort, timeout time.Duration) {
	begun := time.Now()
	if _, err := unix.Write(a.sock.fd, []byte{firstByte(to.Port())}); err != nil {
		a.broken(err)
		return
	}
	var text []byte
	closed := false
	end := begun.Add(timeout)
	for time.Now().Before(end) {
		left := a.sock.unacknowledged()
		if left <= 0 && a.EchoSeconds == 0 {
			a.EchoSeconds = time.Since(begun).Seconds()
			end = earliest(end, time.Now().Add(greetingWait))
		}
		if closed && a.EchoSeconds > 0 {
			break
		}
		if !closed {
			var err error
			if text, closed, err = a.read(text, earliest(end, time.Now().Add(time.Millisecond))); err != nil {
				a.broken(err)
				return
			}
			a.ended = closed && len(text) < enough
		} else {
			time.Sleep(time.Millisecond)
		}
		if a.spoke = heard(string(text)); a.spoke != "" && a.EchoSeconds > 0 {
			break
		}
	}
	switch still := a.sock.info(); {
	case a.EchoSeconds == 0:
		a.Outcome, a.Text = status.ProbeFailed, "the connection was made, and what is sent over it is not acknowledged"
	case a.Outcome == status.ProbeMPTCP && !still.mptcp:
		a.Outcome, a.Text = status.ProbeStripped, "the handshake speaks Multipath TCP, and the first data lost its options"
	}
}

// enough text is no greeting of ours.
const enough = 512

// read adds to text what comes until a time, up to a length at which no
// greeting is expected any more.
func (a *attempt) read(text []byte, until time.Time) (all []byte, closed bool, err error) {
	if err := a.sock.poll(unix.POLLIN, until); err != nil {
		if errors.Is(err, unix.ETIMEDOUT) {
			return text, false, nil
		}
		return text, false, err
	}
	b := make([]byte, enough)
	n, err := unix.Read(a.sock.fd, b)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return text, false, nil
	case err != nil:
		return text, false, err
	}
	return append(text, b[:n]...), n == 0 || len(text) >= enough, nil
}

// broken sets the outcome of a connection that ended while it was used.
func (a *attempt) broken(err error) {
	made, end := "the connection was made", " and broke at the first data: "+err.Error()
	if a.info.mptcp {
		made += ", with Multipath TCP,"
	}
	if errors.Is(err, unix.ECONNRESET) {
		end = " and reset at the first data: the server closes at once, or something on the way resets it"
	}
	a.Outcome, a.Text = status.ProbeFailed, made+end
}

func (a *attempt) close() {
	if a.sock != nil {
		a.sock.close()
		a.sock = nil
	}
}

// firstByte begins what the protocol of a port expects, and never ends it, so
// that the server waits for more: a TLS record, or else the end of an empty line.
func firstByte(port uint16) byte {
	switch port {
	case 443, 465, 563, 636, 853, 990, 993, 995, 5061, 8443:
		return 0x16
	}
	return '\r'
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
