package mptcp

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Sizes and attributes of sock_diag (include/uapi/linux/inet_diag.h).
const (
	diagMsgLen = 72

	diagInfo    = 2
	diagULPInfo = 19
	ulpMPTCP    = 3

	ulpTokenRem = 1
	ulpTokenLoc = 2
	ulpFlags    = 8
	ulpIDRem    = 9
	ulpIDLoc    = 10
)

// diagSocket is struct inet_diag_msg and where its two interesting attributes lie in the receive buffer.
type diagSocket struct {
	family uint8
	state  State
	msg    []byte
	info   []byte
	ulp    []byte
}

// parseDiag splits one answer of a dump.
func parseDiag(b []byte) (diagSocket, bool) {
	if len(b) < diagMsgLen {
		return diagSocket{}, false
	}
	s := diagSocket{family: b[0], state: State(b[1]), msg: b[:diagMsgLen]}
	a := attrs(b[diagMsgLen:])
	for typ, v, ok := a.next(); ok; typ, v, ok = a.next() {
		switch typ {
		case diagInfo:
			s.info = v
		case diagULPInfo:
			ulp := attrs(v)
			for typ, v, ok := ulp.next(); ok; typ, v, ok = ulp.next() {
				if typ == ulpMPTCP {
					s.ulp = v
				}
			}
		}
	}
	return s, true
}

func (s *diagSocket) local() netip.AddrPort  { return s.addrPort(8, 4) }
func (s *diagSocket) remote() netip.AddrPort { return s.addrPort(24, 6) }

func (s *diagSocket) addrPort(addr, port int) netip.AddrPort {
	var a netip.Addr
	if s.family == unix.AF_INET {
		a = addr4(s.msg[addr:])
	} else {
		a = addr6(s.msg[addr:]).Unmap()
	}
	return netip.AddrPortFrom(a, be16At(s.msg, port))
}

func (s *diagSocket) cookie() uint64 {
	return uint64(u32At(s.msg, 44)) | uint64(u32At(s.msg, 48))<<32
}

func milliseconds(b []byte, off int) time.Duration {
	return time.Duration(u32At(b, off)) * time.Millisecond
}

func microseconds(b []byte, off int) time.Duration {
	return time.Duration(u32At(b, off)) * time.Microsecond
}

// decodeConnection fills c from an answer of the MPTCP dump; offsets are those of struct mptcp_info.
func decodeConnection(c *Connection, s *diagSocket) {
	i := s.info
	flags := ConnectionFlags(u32At(i, 8))
	*c = Connection{
		Token:   u32At(i, 12),
		Family:  s.family,
		State:   s.state,
		Local:   s.local(),
		Remote:  s.remote(),
		IfIndex: int32(u32At(s.msg, 40)),
		UID:     u32At(s.msg, 64),
		Inode:   u32At(s.msg, 68),
		Cookie:  s.cookie(),

		Flags:    flags,
		Fallback: flags&ConnectionFallback != 0,

		ExtraSubflows:      u8At(i, 0),
		AddAddrSignal:      u8At(i, 1),
		AddAddrAccepted:    u8At(i, 2),
		SubflowsMax:        u8At(i, 3),
		AddAddrSignalMax:   u8At(i, 4),
		AddAddrAcceptedMax: u8At(i, 5),
		LocalAddrUsed:      u8At(i, 40),
		LocalAddrMax:       u8At(i, 41),
		Checksum:           u8At(i, 42) != 0,
		Retransmits:        u32At(i, 44),
		BytesRetrans:       u64At(i, 48),
		BytesSent:          u64At(i, 56),
		BytesReceived:      u64At(i, 64),
		BytesAcked:         u64At(i, 72),
		SubflowsTotal:      u8At(i, 80),
		LastDataSent:       milliseconds(i, 84),
		LastDataRecv:       milliseconds(i, 88),
		LastAckRecv:        milliseconds(i, 92),

		ReceiveQueue: u32At(s.msg, 56),
		SendQueue:    u32At(s.msg, 60),
	}
}

// decodeSubflow fills f from an answer of the TCP dump; offsets are those of struct tcp_info. It gives false for
// sockets that are no subflows.
func decodeSubflow(f *Subflow, s *diagSocket) bool {
	if s.ulp == nil {
		return false
	}
	*f = Subflow{
		Family:  s.family,
		State:   s.state,
		Local:   s.local(),
		Remote:  s.remote(),
		IfIndex: int32(u32At(s.msg, 40)),
		UID:     u32At(s.msg, 64),
		Inode:   u32At(s.msg, 68),
		Cookie:  s.cookie(),
	}
	f.decodeULP(s.ulp)
	f.decodeInfo(s.info)
	return f.Token != 0
}

func (f *Subflow) decodeULP(ulp attrs) {
	for typ, v, ok := ulp.next(); ok; typ, v, ok = ulp.next() {
		switch typ {
		case ulpTokenRem:
			f.RemoteToken = u32At(v, 0)
		case ulpTokenLoc:
			f.Token = u32At(v, 0)
		case ulpFlags:
			f.Flags = SubflowFlags(u32At(v, 0))
		case ulpIDRem:
			f.RemoteID = u8At(v, 0)
		case ulpIDLoc:
			f.LocalID = u8At(v, 0)
		}
	}
	f.FullyEstablished = f.Flags&SubflowFullyEstablished != 0
	f.JoinLocal = f.Flags&SubflowJoinLocal != 0
	f.JoinRemote = f.Flags&SubflowJoinRemote != 0
	f.BackupLocal = f.Flags&SubflowBackupLocal != 0
	f.BackupRemote = f.Flags&SubflowBackupRemote != 0
}

func (f *Subflow) decodeInfo(i []byte) {
	f.CAState = CAState(u8At(i, 1))
	f.Retransmits = u8At(i, 2)
	f.Backoff = u8At(i, 4)
	f.RTO = microseconds(i, 8)
	f.MSS = u32At(i, 16)
	f.Unacked = u32At(i, 24)
	f.Lost = u32At(i, 32)
	f.Retrans = u32At(i, 36)
	f.LastDataSent = milliseconds(i, 44)
	f.LastDataRecv = milliseconds(i, 52)
	f.LastAckRecv = milliseconds(i, 56)
	f.RTT = microseconds(i, 68)
	f.RTTVar = microseconds(i, 72)
	f.Cwnd = u32At(i, 80)
	f.TotalRetrans = u32At(i, 100)
	f.PacingRate = u64At(i, 104)
	f.BytesAcked = u64At(i, 120)
	f.BytesReceived = u64At(i, 128)
	f.NotSent = u32At(i, 144)
	f.MinRTT = microseconds(i, 148)
	f.DeliveryRate = u64At(i, 160)
	f.BytesSent = u64At(i, 200)
	f.BytesRetrans = u64At(i, 208)
}
