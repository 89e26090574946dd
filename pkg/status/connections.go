package status

import (
	"encoding/json"
	"slices"
	"time"
)

// Connections is what `subflowctl -o json connections` prints: the Multipath TCP
// connections of a network namespace, with their subflows and the links that
// carry them. It comes from the kernel, with or without the daemon.
type Connections struct {
	Schema int       `json:"schema"`
	Time   time.Time `json:"time"` // of the look
	// IntervalSeconds is the time between the two looks that rates are of; 0: there
	// was one look, and there are no rates.
	IntervalSeconds float64 `json:"interval_seconds"`
	// SubflowsHidden tells that the kernel shows subflows to CAP_NET_ADMIN alone.
	SubflowsHidden bool         `json:"subflows_hidden"`
	Connections    []Connection `json:"connections"`
	Links          []Carrier    `json:"links"`
}

// Connection is one Multipath TCP socket with a peer.
type Connection struct {
	Token  string `json:"token"`  // 8 hexadecimal digits, as in events and in ss(8)
	Local  string `json:"local"`  // address:port of the first subflow
	Remote string `json:"remote"` // address:port
	State  string `json:"state"`  // as ss(8) names it
	// Fallback: plain TCP is spoken; there is one subflow and will be no other.
	Fallback bool   `json:"fallback"`
	UID      uint32 `json:"uid"` // of the socket's owner
	// Inode is that of the socket's descriptor; 0: no process holds it any more.
	Inode uint32 `json:"inode"`
	// Program and PID are of the process that has the descriptor, of several the one
	// with the lowest number; absent: the asker may not see it.
	Program string `json:"program,omitempty"` // as ps(1) names it by comm
	PID     int    `json:"pid,omitempty"`
	// Run: that process was started by `subflowctl run`, or by one that was. Absent:
	// it was not, or it cannot be told.
	Run bool `json:"run,omitempty"`
	// SubflowLimit is how many subflows beside the first one it may have.
	SubflowLimit uint8 `json:"subflow_limit"`
	// Bytes of the application's stream; retransmitted ones went by another subflow again.
	SentBytes          uint64 `json:"sent_bytes"`
	AckedBytes         uint64 `json:"acked_bytes"` // that reached the peer
	ReceivedBytes      uint64 `json:"received_bytes"`
	RetransmittedBytes uint64 `json:"retransmitted_bytes"`
	// Bytes that wait in the socket.
	SendQueueBytes    uint32 `json:"send_queue_bytes"`
	ReceiveQueueBytes uint32 `json:"receive_queue_bytes"`
	// Rate is absent without a second look, and when the connection is younger than the first.
	Rate     *Rate     `json:"rate,omitempty"`
	Subflows []Subflow `json:"subflows"`
}

// Rate is how fast bytes moved between two looks: of a link those that left it
// and came, of a connection or subflow those that reached the peer and came.
type Rate struct {
	SentBytesPerSecond     uint64 `json:"sent_bytes_per_second"`
	ReceivedBytesPerSecond uint64 `json:"received_bytes_per_second"`
}

// Subflow is one TCP connection of a Connection.
type Subflow struct {
	// Link is the one that carries it: what its socket is bound to, or else the
	// kernel's route; empty: there is no route.
	Link    string `json:"link"`
	Ifindex int    `json:"ifindex"`
	// AddressLink is the link that has the local address, where that is another
	// one: packets leave by the wrong link.
	AddressLink string `json:"address_link,omitempty"`
	Local       string `json:"local"`  // address:port
	Remote      string `json:"remote"` // address:port
	State       string `json:"state"`  // as ss(8) names it
	// LocalID and RemoteID are the address ids of the protocol; 0: of the first subflow.
	LocalID  uint8 `json:"local_id"`
	RemoteID uint8 `json:"remote_id"`
	// Initial: the connection began with it.
	Initial bool `json:"initial"`
	// Established: the peer has acknowledged Multipath TCP on it.
	Established bool `json:"established"`
	// BackupLocal: this host asked for it to be backup; BackupRemote: the peer did.
	BackupLocal  bool `json:"backup_local"`
	BackupRemote bool `json:"backup_remote"`

	RTTSeconds    float64 `json:"rtt_seconds"`
	MinRTTSeconds float64 `json:"min_rtt_seconds"`
	RTOSeconds    float64 `json:"rto_seconds"`
	// Congestion is TCP's congestion state: "open", "disorder", "cwr", "recovery" or "loss".
	Congestion  string `json:"congestion"`
	Cwnd        uint32 `json:"cwnd"`        // congestion window in packets
	MSS         uint32 `json:"mss"`         // bytes of a packet
	Unacked     uint32 `json:"unacked"`     // packets in flight
	Lost        uint32 `json:"lost"`        // packets that are taken for lost now
	Retransmits uint32 `json:"retransmits"` // packets sent again, in all
	Timeouts    uint8  `json:"timeouts"`    // in a row, now

	// SentBytes counts what was sent again too, AckedBytes what reached the peer.
	SentBytes          uint64 `json:"sent_bytes"`
	AckedBytes         uint64 `json:"acked_bytes"`
	ReceivedBytes      uint64 `json:"received_bytes"`
	RetransmittedBytes uint64 `json:"retransmitted_bytes"`
	NotSentBytes       uint32 `json:"not_sent_bytes"`
	// DeliveryBytesPerSecond is the rate at which the peer last acknowledged data, while there was some.
	DeliveryBytesPerSecond uint64 `json:"delivery_bytes_per_second"`
	Rate                   *Rate  `json:"rate,omitempty"`
	// Time since the last of each.
	LastSentSeconds     float64 `json:"last_sent_seconds"`
	LastReceivedSeconds float64 `json:"last_received_seconds"`
	LastAckSeconds      float64 `json:"last_ack_seconds"`
}

// Carrier is a link with what it carries: everything, and of that the subflows
// that live.
type Carrier struct {
	Link    string `json:"link"`
	Ifindex int    `json:"ifindex"`
	// Bytes since the link was made, of all protocols, with the headers.
	SentBytes     uint64 `json:"sent_bytes"`
	ReceivedBytes uint64 `json:"received_bytes"`
	Rate          *Rate  `json:"rate,omitempty"`
	// Connections and Subflows count those that use the link now.
	Connections int `json:"connections"`
	Subflows    int `json:"subflows"`
	// Bytes of the subflows that live, without headers: that reached the peer, and that came.
	SubflowSentBytes     uint64 `json:"subflow_sent_bytes"`
	SubflowReceivedBytes uint64 `json:"subflow_received_bytes"`
	SubflowRate          *Rate  `json:"subflow_rate,omitempty"`
}

// MarshalJSON writes empty lists as [] and the schema number. Connections have
// no method of their own: of thousands that would take most of the time.
func (c Connections) MarshalJSON() ([]byte, error) {
	type plain Connections
	c.Schema = Schema
	fill(&c.Connections)
	fill(&c.Links)
	for i := range c.Connections {
		if c.Connections[i].Subflows == nil {
			c.Connections = slices.Clone(c.Connections)
			for k := range c.Connections {
				fill(&c.Connections[k].Subflows)
			}
			break
		}
	}
	return json.Marshal(plain(c))
}
