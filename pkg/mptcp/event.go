package mptcp

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// EventType says what has happened (enum mptcp_event_type in include/uapi/linux/mptcp_pm.h).
type EventType uint8

// The events, with the fields that they carry beside the token.
const (
	// EventCreated: a connection began. Local, Remote, ServerSide, Flags, IfIndex.
	EventCreated EventType = 1
	// EventEstablished: a connection can have further subflows now. The fields are those of EventCreated.
	EventEstablished EventType = 2
	// EventClosed: a connection ended.
	EventClosed EventType = 3
	// EventAnnounced: the peer announced an address: RemoteID and Remote, with port 0 for the connection's own.
	EventAnnounced EventType = 6
	// EventRemoved: the peer withdrew the address with RemoteID.
	EventRemoved EventType = 7
	// EventSubflowEstablished: LocalID, RemoteID, Local, Remote, Backup, IfIndex.
	EventSubflowEstablished EventType = 10
	// EventSubflowClosed: those of EventSubflowEstablished, Errno, and a reset's ResetReason and ResetFlags.
	EventSubflowClosed EventType = 11
	// EventSubflowPriority: the backup flag changed. The fields are those of EventSubflowEstablished.
	EventSubflowPriority EventType = 13
	// EventListenerCreated: Local is listened on for an endpoint with a port (6.2). There is no token.
	EventListenerCreated EventType = 15
	// EventListenerClosed: it is no more.
	EventListenerClosed EventType = 16
)

// String names the event as `ip mptcp monitor` does.
func (t EventType) String() string {
	switch t {
	case EventCreated:
		return "CREATED"
	case EventEstablished:
		return "ESTABLISHED"
	case EventClosed:
		return "CLOSED"
	case EventAnnounced:
		return "ANNOUNCED"
	case EventRemoved:
		return "REMOVED"
	case EventSubflowEstablished:
		return "SF_ESTABLISHED"
	case EventSubflowClosed:
		return "SF_CLOSED"
	case EventSubflowPriority:
		return "SF_PRIO"
	case EventListenerCreated:
		return "LISTENER_CREATED"
	case EventListenerClosed:
		return "LISTENER_CLOSED"
	}
	return fmt.Sprintf("EVENT_%d", uint8(t))
}

// EventFlags are MPTCP_PM_EV_FLAG_* (6.18 for the second).
type EventFlags uint16

// The flags of an event.
const (
	// EventDenyJoinID0: the peer accepts no join to the address of the first handshake.
	EventDenyJoinID0 EventFlags = 1 << 0
	// EventServerSide: this host accepted the connection.
	EventServerSide EventFlags = 1 << 1
)

// Event is one message of the path manager. Which fields are set depends on the type; IPv4 addresses on IPv6
// sockets are unmapped.
type Event struct {
	Type  EventType
	Token uint32
	// Family is the socket's: unix.AF_INET or AF_INET6, 0 where the kernel does not tell.
	Family            uint8
	Local, Remote     netip.AddrPort
	LocalID, RemoteID uint8
	Backup            bool
	ServerSide        bool
	Flags             EventFlags
	IfIndex           int32
	// Errno is the subflow's socket error, 0 for none.
	Errno unix.Errno
	// Reset: the subflow was closed by a TCP reset with an MP_TCPRST option; ResetReason and ResetFlags are its
	// fields (RFC 8684, section 3.6).
	Reset                   bool
	ResetReason, ResetFlags uint32
	// Timeout is reserved by the kernel.
	Timeout time.Duration
}

// String writes the event on one line, in the manner of `ip mptcp monitor`.
func (e Event) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "[%16s]", e.Type)
	if e.Token != 0 {
		fmt.Fprintf(&b, " token=%08x", e.Token)
	}
	if e.RemoteID != 0 || e.Type == EventAnnounced || e.Type == EventRemoved {
		fmt.Fprintf(&b, " remid=%d", e.RemoteID)
	}
	if e.LocalID != 0 {
		fmt.Fprintf(&b, " locid=%d", e.LocalID)
	}
	if e.Local.IsValid() {
		fmt.Fprintf(&b, " local=%v", e.Local)
	}
	if e.Remote.IsValid() {
		fmt.Fprintf(&b, " remote=%v", e.Remote)
	}
	if e.Backup {
		b.WriteString(" backup")
	}
	if e.IfIndex != 0 {
		fmt.Fprintf(&b, " ifindex=%d", e.IfIndex)
	}
	if e.Errno != 0 {
		fmt.Fprintf(&b, " error=%q", e.Errno.Error())
	}
	if e.Reset {
		fmt.Fprintf(&b, " reset_reason=%d reset_flags=%#x", e.ResetReason, e.ResetFlags)
	}
	if e.ServerSide {
		b.WriteString(" server_side")
	}
	return b.String()
}

// Attributes of an event (enum mptcp_event_attr).
const (
	evToken       = 1
	evFamily      = 2
	evLocalID     = 3
	evRemoteID    = 4
	evLocal4      = 5
	evLocal6      = 6
	evRemote4     = 7
	evRemote6     = 8
	evLocalPort   = 9
	evRemotePort  = 10
	evBackup      = 11
	evError       = 12
	evFlags       = 13
	evTimeout     = 14
	evIfIndex     = 15
	evResetReason = 16
	evResetFlags  = 17
	evServerSide  = 18
)

// decodeEvent reads the payload of a message; false means that it is no event that this package knows. Ports are
// in network order here, unlike those of endpoints.
func decodeEvent(b []byte) (Event, bool) {
	if len(b) < unix.GENL_HDRLEN {
		return Event{}, false
	}
	e := Event{Type: EventType(b[0])}
	switch e.Type {
	case EventCreated, EventEstablished, EventClosed, EventAnnounced, EventRemoved, EventSubflowEstablished,
		EventSubflowClosed, EventSubflowPriority, EventListenerCreated, EventListenerClosed:
	default:
		return Event{}, false
	}
	var local, remote netip.Addr
	var localPort, remotePort uint16
	a := attrs(b[unix.GENL_HDRLEN:])
	for typ, v, ok := a.next(); ok; typ, v, ok = a.next() {
		switch typ {
		case evLocal4:
			local = addr4(v)
		case evLocal6:
			local = addr6(v).Unmap()
		case evRemote4:
			remote = addr4(v)
		case evRemote6:
			remote = addr6(v).Unmap()
		case evLocalPort:
			localPort = be16At(v, 0)
		case evRemotePort:
			remotePort = be16At(v, 0)
		default:
			e.attribute(typ, v)
		}
	}
	if local.IsValid() {
		e.Local = netip.AddrPortFrom(local, localPort)
	}
	if remote.IsValid() {
		e.Remote = netip.AddrPortFrom(remote, remotePort)
	}
	// Linux 6.18 sends the side as a flag and keeps the attribute for a while.
	e.ServerSide = e.ServerSide || e.Flags&EventServerSide != 0
	return e, true
}

func (e *Event) attribute(typ uint16, v []byte) {
	switch typ {
	case evToken:
		e.Token = u32At(v, 0)
	case evFamily:
		e.Family = uint8(u16At(v, 0))
	case evLocalID:
		e.LocalID = u8At(v, 0)
	case evRemoteID:
		e.RemoteID = u8At(v, 0)
	case evBackup:
		e.Backup = u8At(v, 0) != 0
	case evError:
		e.Errno = unix.Errno(u8At(v, 0))
	case evFlags:
		e.Flags = EventFlags(u16At(v, 0))
	case evTimeout:
		e.Timeout = milliseconds(v, 0)
	case evIfIndex:
		e.IfIndex = int32(u32At(v, 0))
	case evResetReason:
		e.Reset, e.ResetReason = true, u32At(v, 0)
	case evResetFlags:
		e.Reset, e.ResetFlags = true, u32At(v, 0)
	case evServerSide:
		e.ServerSide = u8At(v, 0) != 0
	}
}
