package observe

import (
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/pkg/mptcp"
	"github.com/subflowd/subflowd/pkg/status"
)

var eventTypes = map[mptcp.EventType]status.EventType{
	mptcp.EventCreated:            status.EventConnectionCreated,
	mptcp.EventEstablished:        status.EventConnectionEstablished,
	mptcp.EventClosed:             status.EventConnectionClosed,
	mptcp.EventAnnounced:          status.EventAddressAnnounced,
	mptcp.EventRemoved:            status.EventAddressRemoved,
	mptcp.EventSubflowEstablished: status.EventSubflowEstablished,
	mptcp.EventSubflowClosed:      status.EventSubflowClosed,
	mptcp.EventSubflowPriority:    status.EventSubflowPriority,
	mptcp.EventListenerCreated:    status.EventListenerCreated,
	mptcp.EventListenerClosed:     status.EventListenerClosed,
}

// Event is the public form of an event of the path manager, with names. The
// directory learns connections from it.
func (d *Directory) Event(e mptcp.Event, at time.Time) status.Event {
	d.learn(&e)
	defer d.forget(&e)
	out := status.Event{
		Schema: status.Schema, Time: at.UTC().Truncate(time.Millisecond), Source: status.FromKernel, Type: eventTypes[e.Type],
		LocalID: e.LocalID, RemoteID: e.RemoteID, Backup: e.Backup, ServerSide: e.ServerSide,
	}
	if e.Token != 0 {
		out.Token = Token(e.Token)
	}
	if ends, ok := d.Connection(e.Token); ok && e.Token != 0 {
		out.ConnectionLocal, out.ConnectionRemote = ends.Local.String(), ends.Remote.String()
	}
	if e.Local.IsValid() {
		out.Local = e.Local.String()
		out.Ifindex, out.Link = d.Link(int(e.IfIndex), e.Local.Addr())
	}
	if e.Remote.IsValid() {
		out.Remote = e.Remote.String()
		if e.Type == mptcp.EventAnnounced && e.Remote.Port() == 0 {
			out.Remote = e.Remote.Addr().String()
		}
	}
	if e.Errno != 0 {
		out.Error = e.Errno.Error()
	}
	if e.Reset {
		out.ResetReason = resetReason(e.ResetReason)
	}
	out.Text = eventText(&out, e.Errno)
	return out
}

// resetReasons are those of the option MP_TCPRST (RFC 8684, section 3.6).
var resetReasons = [...]string{
	"no reason given", "an error of Multipath TCP", "lack of resources", "administratively prohibited",
	"too much outstanding data", "unacceptable performance", "a middlebox interferes",
}

func resetReason(n uint32) string {
	if n < uint32(len(resetReasons)) {
		return resetReasons[n]
	}
	return "reason " + strconv.FormatUint(uint64(n), 10)
}

// eventText says it in words.
func eventText(e *status.Event, errno unix.Errno) string {
	of := " of connection " + e.Token
	if e.ConnectionRemote != "" {
		of = " of " + e.ConnectionLocal + " > " + e.ConnectionRemote
	}
	var s string
	switch e.Type {
	case status.EventConnectionCreated:
		s = "connection " + e.Local + " > " + e.Remote + " began"
		if e.ServerSide {
			s = "connection " + e.Local + " < " + e.Remote + " was accepted"
		}
		return s + on(e)
	case status.EventConnectionEstablished:
		return "connection " + e.Local + " > " + e.Remote + " is established: it can have further subflows"
	case status.EventConnectionClosed:
		if e.ConnectionRemote == "" {
			return "connection " + e.Token + " ended"
		}
		return "connection " + e.ConnectionLocal + " > " + e.ConnectionRemote + " ended"
	case status.EventAddressAnnounced:
		return "the peer" + of + " announced " + e.Remote + ", id " + strconv.Itoa(int(e.RemoteID))
	case status.EventAddressRemoved:
		return "the peer" + of + " withdrew the address with id " + strconv.Itoa(int(e.RemoteID))
	case status.EventListenerCreated:
		return "listens on " + e.Local + " for an endpoint with a port"
	case status.EventListenerClosed:
		return "listens no more on " + e.Local
	}
	s = "subflow " + e.Local + " > " + e.Remote + on(e)
	switch e.Type {
	case status.EventSubflowEstablished:
		s += " is established"
	case status.EventSubflowPriority:
		s += " has another priority"
	case status.EventSubflowClosed:
		s += " closed"
	}
	var more []string
	if e.Backup {
		more = append(more, "backup")
	}
	if errno != 0 {
		more = append(more, e.Error)
	}
	if e.ResetReason != "" {
		more = append(more, "reset: "+e.ResetReason)
	}
	if len(more) > 0 {
		s += " (" + strings.Join(more, "; ") + ")"
	}
	if e.Local == e.ConnectionLocal && e.Remote == e.ConnectionRemote {
		return s + ", the connection's first"
	}
	return s + "," + of
}

func on(e *status.Event) string {
	if e.Link == "" {
		return ""
	}
	return " on " + e.Link
}
