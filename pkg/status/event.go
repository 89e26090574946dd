package status

import "time"

// EventSource says who tells of an event.
type EventSource string

// Sources of events.
const (
	FromDaemon  EventSource = "subflowd" // GET /v1/events
	FromKernel  EventSource = "kernel"   // the path manager
	FromMonitor EventSource = "monitor"  // subflowctl, about the two others
)

// EventType says what has happened.
type EventType string

// The daemon's events, with what they have besides the text.
const (
	// EventHello begins a stream: State, Version and Namespace.
	EventHello EventType = "hello"
	// EventState: the daemon's state changed: State.
	EventState EventType = "state"
	// EventChange: a change of the kernel was made, or refused: Command, Reason,
	// Trigger, Error.
	EventChange EventType = "change"
	// EventPath: a path came, changed its state or went: Link, Family, PathState.
	EventPath EventType = "path"
	// EventCondition: something to know began: Code, Severity, Object, Remedy.
	EventCondition EventType = "condition"
	// EventConditionOver: it ended: Code, Severity, Object.
	EventConditionOver EventType = "condition-over"
	// EventLost: the reader was too slow for Lost events; 0: nobody knows how many.
	// The kernel's events can be lost too.
	EventLost EventType = "lost"
)

// The kernel's events, with what they have besides the text. Where Token is,
// ConnectionLocal and ConnectionRemote are the ends of the connection, if known.
const (
	EventConnectionCreated     EventType = "connection-created"     // Token, Local, Remote, Link, ServerSide
	EventConnectionEstablished EventType = "connection-established" // the same
	EventConnectionClosed      EventType = "connection-closed"      // Token
	EventAddressAnnounced      EventType = "address-announced"      // Token, Remote, RemoteID: by the peer
	EventAddressRemoved        EventType = "address-removed"        // Token, RemoteID: by the peer
	EventSubflowEstablished    EventType = "subflow-established"    // Token, Local, Remote, Link, LocalID, RemoteID, Backup
	EventSubflowClosed         EventType = "subflow-closed"         // the same, Error, ResetReason
	EventSubflowPriority       EventType = "subflow-priority"       // the same as of subflow-established
	EventListenerCreated       EventType = "listener-created"       // Local
	EventListenerClosed        EventType = "listener-closed"        // Local
)

// EventAway is the monitor's own: the daemon is not there, or went. Its
// EventHello says when it is there again.
const EventAway EventType = "away"

// PathGone is the state of a path that is none any more, in events.
const PathGone PathState = "gone"

// Event is one line of GET /v1/events and of `subflowctl -o json monitor`. Only
// the first five keys are always there; the others come with some types.
type Event struct {
	Schema int         `json:"schema"`
	Time   time.Time   `json:"time"`
	Source EventSource `json:"source"`
	Type   EventType   `json:"type"`
	Text   string      `json:"text"` // the event in words

	State     State  `json:"state,omitempty"`
	Version   string `json:"version,omitempty"`
	Namespace uint64 `json:"namespace,omitempty"` // as in Daemon

	Command string `json:"command,omitempty"` // as a command of ip(8)
	Reason  string `json:"reason,omitempty"`
	Trigger string `json:"trigger,omitempty"` // of the daemon's round
	Error   string `json:"error,omitempty"`   // why a change was refused, or a subflow failed

	Link      string    `json:"link,omitempty"`
	Ifindex   int       `json:"ifindex,omitempty"`
	Family    Family    `json:"family,omitempty"`
	PathState PathState `json:"path_state,omitempty"`

	Code     string   `json:"code,omitempty"`
	Severity Severity `json:"severity,omitempty"`
	Object   string   `json:"object,omitempty"`
	Remedy   string   `json:"remedy,omitempty"`

	Lost uint64 `json:"lost,omitempty"`

	Token            string `json:"token,omitempty"`
	ConnectionLocal  string `json:"connection_local,omitempty"`
	ConnectionRemote string `json:"connection_remote,omitempty"`
	Local            string `json:"local,omitempty"`
	Remote           string `json:"remote,omitempty"`
	LocalID          uint8  `json:"local_id,omitempty"` // absent: 0, of the first subflow
	RemoteID         uint8  `json:"remote_id,omitempty"`
	Backup           bool   `json:"backup,omitempty"`
	ServerSide       bool   `json:"server_side,omitempty"` // this host accepted the connection
	// ResetReason is what a peer says with its reset, in words (RFC 8684, section 3.6).
	ResetReason string `json:"reset_reason,omitempty"`
}
