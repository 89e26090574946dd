package netstate

import (
	"net/netip"
	"time"
)

// SockState is a TCP_ state number (net/tcp_states.h).
type SockState uint8

// States of sockets.
const (
	Established SockState = 1
	SynSent     SockState = 2
	SynRecv     SockState = 3
	FinWait1    SockState = 4
	FinWait2    SockState = 5
	TimeWait    SockState = 6
	Closed      SockState = 7
	CloseWait   SockState = 8
	LastAck     SockState = 9
	Listen      SockState = 10
	Closing     SockState = 11
)

// Connection is one Multipath TCP connection as sock_diag shows it.
type Connection struct {
	Token    uint32
	State    SockState
	Local    netip.AddrPort
	Remote   netip.AddrPort
	Fallback bool // carries plain TCP; the path manager does not touch it
	Subflows []Subflow
}

// Subflow is one TCP connection below a Connection.
type Subflow struct {
	State            SockState
	Local            netip.AddrPort // never v4-mapped
	Remote           netip.AddrPort
	Link             int  // ifindex that the socket is bound to; 0: none
	FullyEstablished bool // MPTCP_SUBFLOW_FLAG_FULLY_ESTABLISHED
	Opened           bool // this host opened it, as the initial one or as a further one
	JoinLocal        bool // the path manager of this host made it
	JoinRemote       bool // the peer made it
	Backup           bool // either side calls it backup
	Backoff          uint8
	CAState          uint8         // tcpi_ca_state: 0 open ... 4 loss
	LastRecv         time.Duration // since data came, 1 ms steps
	LastAck          time.Duration // since an acknowledgement came, 1 ms steps
}
