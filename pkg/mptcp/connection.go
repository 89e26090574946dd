package mptcp

import (
	"net/netip"
	"time"
)

// State is the TCP state of a socket (include/net/tcp_states.h). An MPTCP socket has one too.
type State uint8

// The states of a socket.
const (
	StateEstablished State = 1
	StateSynSent     State = 2
	StateSynRecv     State = 3
	StateFinWait1    State = 4
	StateFinWait2    State = 5
	StateTimeWait    State = 6
	StateClose       State = 7
	StateCloseWait   State = 8
	StateLastAck     State = 9
	StateListen      State = 10
	StateClosing     State = 11
	StateNewSynRecv  State = 12
)

var stateNames = [...]string{
	"UNKNOWN", "ESTAB", "SYN-SENT", "SYN-RECV", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT",
	"UNCONN", "CLOSE-WAIT", "LAST-ACK", "LISTEN", "CLOSING", "NEW-SYN-RECV",
}

// String names the state as ss(8) does.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return stateNames[0]
}

// StateSet is a set of states.
type StateSet uint32

// States makes a set.
func States(states ...State) StateSet {
	var set StateSet
	for _, s := range states {
		set |= 1 << s
	}
	return set
}

// Has says whether the set holds s.
func (set StateSet) Has(s State) bool { return set&(1<<s) != 0 }

// AllStates are all states but LISTEN, CLOSE, TIME-WAIT and NEW-SYN-RECV: what a connection can be in that still
// matters to somebody. A connection whose one side has shut down is in FIN-WAIT-2 with established subflows.
const AllStates StateSet = 1<<StateEstablished | 1<<StateSynSent | 1<<StateSynRecv | 1<<StateFinWait1 |
	1<<StateFinWait2 | 1<<StateCloseWait | 1<<StateLastAck | 1<<StateClosing

// ConnectionFlags are MPTCP_INFO_FLAG_*.
type ConnectionFlags uint32

// The flags of a connection.
const (
	// ConnectionFallback: the connection fell back to plain TCP.
	ConnectionFallback ConnectionFlags = 1 << 0
	// ConnectionRemoteKey: the peer's key is known.
	ConnectionRemoteKey ConnectionFlags = 1 << 1
)

// Connection is one MPTCP socket of the namespace (struct mptcp_info and struct inet_diag_msg). Fields that the
// kernel is too old to have are zero. IPv4 addresses on an IPv6 socket are unmapped. Bytes are those of the
// application's stream, whatever subflow carried them.
type Connection struct {
	// Token names the connection in this namespace, here as in events and in its subflows.
	Token uint32
	// Family is AF_INET or AF_INET6, of the socket: a subflow can have the other one.
	Family uint8
	State  State
	// Local and Remote are those of the first subflow, which may be gone.
	Local, Remote netip.AddrPort
	// IfIndex is the interface that the application bound the socket to, or 0.
	IfIndex int32
	// UID owns the socket; Inode is that of its descriptor, 0 when no process holds it any more.
	UID, Inode uint32
	Cookie     uint64
	Flags      ConnectionFlags
	// Fallback: plain TCP is spoken; there is one subflow and will be no other.
	Fallback bool

	// ExtraSubflows counts the subflows beside the initial one, SubflowsMax is their limit. Where the
	// initial one is gone the two differ from what Subflows shows.
	ExtraSubflows, SubflowsMax uint8
	// SubflowsTotal counts all subflows (6.5), 0 where the kernel does not say.
	SubflowsTotal uint8
	// AddAddrSignal counts the announced addresses, AddAddrAccepted the peer's that were accepted.
	AddAddrSignal, AddAddrSignalMax     uint8
	AddAddrAccepted, AddAddrAcceptedMax uint8
	// LocalAddrUsed counts the endpoints that have had their attempt.
	LocalAddrUsed, LocalAddrMax uint8
	// Checksum: data checksums are in use.
	Checksum bool

	// Retransmits counts retransmissions on another subflow; BytesRetrans are their bytes.
	Retransmits                                        uint32
	BytesSent, BytesRetrans, BytesAcked, BytesReceived uint64 // 6.6
	// Time since the last of each, in milliseconds' steps (6.10).
	LastDataSent, LastDataRecv, LastAckRecv time.Duration
	// Bytes waiting in the socket's queues.
	ReceiveQueue, SendQueue uint32

	// Subflows is in no particular order, and nil where it was not asked for.
	Subflows []Subflow
}

// SubflowCount is how many subflows the connection says that it has. Kernels before 6.5 do not say whether the initial
// one still exists; it is counted.
func (c *Connection) SubflowCount() int {
	if c.SubflowsTotal > 0 {
		return int(c.SubflowsTotal)
	}
	return 1 + int(c.ExtraSubflows)
}

// SubflowFlags are MPTCP_SUBFLOW_FLAG_* (include/uapi/linux/mptcp.h).
type SubflowFlags uint32

// The flags of a subflow. LOC means what this host asked for, REM what the peer did.
const (
	SubflowCapableRemote    SubflowFlags = 1 << 0
	SubflowCapableLocal     SubflowFlags = 1 << 1
	SubflowJoinRemote       SubflowFlags = 1 << 2
	SubflowJoinLocal        SubflowFlags = 1 << 3
	SubflowBackupRemote     SubflowFlags = 1 << 4
	SubflowBackupLocal      SubflowFlags = 1 << 5
	SubflowFullyEstablished SubflowFlags = 1 << 6
	SubflowConnected        SubflowFlags = 1 << 7
	SubflowMapValid         SubflowFlags = 1 << 8
)

// CAState is TCP's congestion state (enum tcp_ca_state).
type CAState uint8

// The congestion states. Recovery and Loss mean that packets were lost and not yet made up for.
const (
	CAOpen     CAState = 0
	CADisorder CAState = 1
	CACWR      CAState = 2
	CARecovery CAState = 3
	CALoss     CAState = 4
)

var caNames = [...]string{"open", "disorder", "cwr", "recovery", "loss"}

// String names the state in lower case.
func (s CAState) String() string {
	if int(s) < len(caNames) {
		return caNames[s]
	}
	return "unknown"
}

// Subflow is one TCP socket of an MPTCP connection (struct inet_diag_msg, struct tcp_info and the MPTCP part of
// INET_DIAG_ULP_INFO). A dead idle subflow is in StateEstablished, fully established, with no backoff and nothing
// unacknowledged, like a healthy one: only progress shows that it lives.
type Subflow struct {
	// Token is that of the connection, RemoteToken the peer's.
	Token, RemoteToken uint32
	// Family is AF_INET or AF_INET6, of the socket.
	Family        uint8
	State         State
	Local, Remote netip.AddrPort
	// IfIndex is the interface that the socket is bound to (endpoints with dev), or 0.
	IfIndex int32
	// LocalID and RemoteID are the address ids on the wire: 0 for the initial subflow's, whatever the endpoint.
	LocalID, RemoteID uint8
	Flags             SubflowFlags
	// FullyEstablished: the peer has acknowledged Multipath TCP on this subflow.
	FullyEstablished bool
	// JoinLocal: this host's path manager opened it as a further subflow. JoinRemote: the join was accepted,
	// by the peer (then both are set) or by this host (then JoinRemote alone is).
	JoinLocal, JoinRemote bool
	// BackupLocal: this host asked for backup; BackupRemote: the peer did.
	BackupLocal, BackupRemote bool

	// CAState is the congestion state, Backoff the number of timeouts in a row, Retransmits those of the oldest
	// unacknowledged packet.
	CAState              CAState
	Backoff, Retransmits uint8
	RTO, RTT, RTTVar     time.Duration
	MinRTT               time.Duration
	// Packets in flight, lost, to be retransmitted, and retransmitted in all.
	Unacked, Lost, Retrans, TotalRetrans uint32
	// Cwnd is the congestion window in packets, MSS the size of one in bytes.
	Cwnd, MSS uint32
	// Time since the last of each, in milliseconds' steps. The handshake counts as receiving.
	LastDataSent, LastDataRecv, LastAckRecv time.Duration
	// Bytes of this TCP socket; BytesSent and BytesRetrans count what was sent, BytesAcked what arrived.
	BytesSent, BytesRetrans, BytesAcked, BytesReceived uint64
	NotSent                                            uint32
	// DeliveryRate and PacingRate are in bytes per second; PacingRate is all ones where there is no limit.
	DeliveryRate, PacingRate uint64

	UID, Inode uint32
	Cookie     uint64
}

// Counts are the plain numbers of [Client.ConnectionCounts].
type Counts struct {
	// Connections counts the MPTCP sockets, Fallback those among them that speak plain TCP.
	Connections, Fallback int
	// Subflows is the sum of their SubflowCount.
	Subflows int
}
