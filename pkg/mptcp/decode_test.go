package mptcp

import (
	"encoding/binary"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func endpointBytes(build func(m *message)) []byte {
	return built(func(m *message) {
		m.genlHeader(cmdGetAddr, pmVersion)
		at := m.nest(attrAddr)
		build(m)
		m.end(at)
	})
}

var wholeEndpoint = endpointBytes(func(m *message) {
	m.address(netip.MustParseAddr("2001:db8::1"))
	m.u8(addrID, 3)
	m.u16(addrPort, 5000)
	m.u32(addrFlags, uint32(FlagSignal|FlagBackup))
	m.u32(addrIfIndex, 7)
	m.u32(63, 1)
})

func TestDecodeEndpoint(t *testing.T) {
	for _, tc := range []struct {
		name string
		b    []byte
		want Endpoint
		err  bool
	}{
		{"whole", wholeEndpoint, Endpoint{3, addr("2001:db8::1"), 5000, FlagSignal | FlagBackup, 7}, false},
		{"least", endpointBytes(func(m *message) {
			m.address(addr("10.0.0.1"))
			m.u8(addrID, 1)
		}), Endpoint{ID: 1, Addr: addr("10.0.0.1")}, false},
		{"no id", endpointBytes(func(m *message) { m.address(addr("10.0.0.1")) }), Endpoint{}, true},
		{"no address", endpointBytes(func(m *message) { m.u8(addrID, 1) }), Endpoint{}, true},
		{"short address", endpointBytes(func(m *message) { m.attr(addr6Attr, 4); m.u8(addrID, 1) }), Endpoint{}, true},
		{"empty", nil, Endpoint{}, true},
	} {
		got, err := decodeEndpoint(tc.b)
		if (err != nil) != tc.err || (err == nil && got != tc.want) {
			t.Errorf("%s: got %+v, %v, want %+v", tc.name, got, err, tc.want)
		}
	}
}

var wholeLimits = built(func(m *message) {
	m.genlHeader(cmdGetLimits, pmVersion)
	m.u32(attrRcvAddAddrs, 4)
	m.u32(attrSubflows, 8)
})

func TestDecodeLimits(t *testing.T) {
	if got, want := decodeLimits(wholeLimits), (Limits{Subflows: 8, AddAddrAccepted: 4}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := decodeLimits(wholeLimits[:2]); got != (Limits{}) {
		t.Errorf("cut: got %v", got)
	}
}

// socketBytes is struct inet_diag_msg of 10.0.0.1:1000 -> 10.0.0.2:2000, or of an IPv6 socket.
func socketBytes(family uint8, local, remote string, build func(m *message)) []byte {
	return built(func(m *message) {
		at := len(m.b)
		m.b = append(m.b, make([]byte, diagMsgLen)...)
		b := m.b[at:]
		b[0], b[1] = family, uint8(StateEstablished)
		binary.BigEndian.PutUint16(b[4:], 1000)
		binary.BigEndian.PutUint16(b[6:], 2000)
		putDiagAddr(b[8:24], family, addr(local))
		putDiagAddr(b[24:40], family, addr(remote))
		for i, v := range []uint32{5, 0xaaaa, 0xbbbb, 0, 11, 12, 1000, 4242} {
			binary.NativeEndian.PutUint32(b[40+4*i:], v)
		}
		build(m)
	})
}

// filled is a structure whose byte n holds n.
func filled(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

func info(n int) func(m *message) {
	return func(m *message) { copy(m.attr(diagInfo, n), filled(n)) }
}

func u32Of(off byte) uint32 {
	return binary.NativeEndian.Uint32([]byte{off, off + 1, off + 2, off + 3})
}

func u64Of(off byte) uint64 {
	return binary.NativeEndian.Uint64([]byte{off, off + 1, off + 2, off + 3, off + 4, off + 5, off + 6, off + 7})
}

func ms(off byte) time.Duration { return time.Duration(u32Of(off)) * time.Millisecond }
func us(off byte) time.Duration { return time.Duration(u32Of(off)) * time.Microsecond }

func TestDecodeConnection(t *testing.T) {
	base := Connection{
		Family: unix.AF_INET, State: StateEstablished,
		Local: netip.MustParseAddrPort("10.0.0.1:1000"), Remote: netip.MustParseAddrPort("10.0.0.2:2000"),
		IfIndex: 5, UID: 1000, Inode: 4242, Cookie: 0xbbbb0000aaaa, ReceiveQueue: 11, SendQueue: 12,
	}
	old := base
	old.Token, old.Flags = u32Of(12), ConnectionFlags(u32Of(8))
	old.ExtraSubflows, old.AddAddrSignal, old.AddAddrAccepted = 0, 1, 2
	old.SubflowsMax, old.AddAddrSignalMax, old.AddAddrAcceptedMax = 3, 4, 5
	current := old
	current.LocalAddrUsed, current.LocalAddrMax, current.Checksum = 40, 41, true
	current.Retransmits, current.BytesRetrans, current.BytesSent = u32Of(44), u64Of(48), u64Of(56)
	current.BytesReceived, current.BytesAcked, current.SubflowsTotal = u64Of(64), u64Of(72), 80
	current.LastDataSent, current.LastDataRecv, current.LastAckRecv = ms(84), ms(88), ms(92)
	mapped := base
	mapped.Family = unix.AF_INET6

	for _, tc := range []struct {
		name string
		b    []byte
		want Connection
	}{
		{"current", socketBytes(unix.AF_INET, "10.0.0.1", "10.0.0.2", info(96)), current},
		{"newer than this package", socketBytes(unix.AF_INET, "10.0.0.1", "10.0.0.2", info(200)), current},
		{"Linux 5.10", socketBytes(unix.AF_INET, "10.0.0.1", "10.0.0.2", info(40)), old},
		{"no info", socketBytes(unix.AF_INET, "10.0.0.1", "10.0.0.2", func(*message) {}), base},
		{"mapped", socketBytes(unix.AF_INET6, "10.0.0.1", "10.0.0.2", func(*message) {}), mapped},
	} {
		s, ok := parseDiag(tc.b)
		var got Connection
		if ok {
			decodeConnection(&got, &s)
		}
		tc.want.Fallback = tc.want.Flags&ConnectionFallback != 0
		if !ok || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", tc.name, got, tc.want)
		}
	}
}

func ulp(build func(m *message)) func(m *message) {
	return func(m *message) {
		outer := m.nest(diagULPInfo)
		m.str(1, "mptcp")
		inner := m.nest(ulpMPTCP)
		build(m)
		m.end(inner)
		m.end(outer)
	}
}

var wholeULP = ulp(func(m *message) {
	m.u32(ulpTokenRem, 0x11)
	m.u32(ulpTokenLoc, 0x22)
	m.u32(ulpFlags, uint32(SubflowJoinLocal|SubflowJoinRemote|SubflowBackupLocal|SubflowFullyEstablished))
	m.u8(ulpIDRem, 3)
	m.u8(ulpIDLoc, 4)
})

func TestDecodeSubflow(t *testing.T) {
	bare := Subflow{
		Token: 0x22, RemoteToken: 0x11, Family: unix.AF_INET6, State: StateEstablished,
		Local: netip.MustParseAddrPort("[2001:db8::1]:1000"), Remote: netip.MustParseAddrPort("[2001:db8::2]:2000"),
		IfIndex: 5, LocalID: 4, RemoteID: 3, UID: 1000, Inode: 4242, Cookie: 0xbbbb0000aaaa,
		Flags:            SubflowJoinLocal | SubflowJoinRemote | SubflowBackupLocal | SubflowFullyEstablished,
		FullyEstablished: true, JoinLocal: true, JoinRemote: true, BackupLocal: true,
	}
	whole := bare
	whole.CAState, whole.Retransmits, whole.Backoff = 1, 2, 4
	whole.RTO, whole.RTT, whole.RTTVar, whole.MinRTT = us(8), us(68), us(72), us(148)
	whole.MSS, whole.Unacked, whole.Lost, whole.Retrans = u32Of(16), u32Of(24), u32Of(32), u32Of(36)
	whole.LastDataSent, whole.LastDataRecv, whole.LastAckRecv = ms(44), ms(52), ms(56)
	whole.Cwnd, whole.TotalRetrans, whole.NotSent = u32Of(80), u32Of(100), u32Of(144)
	whole.PacingRate, whole.DeliveryRate = u64Of(104), u64Of(160)
	whole.BytesAcked, whole.BytesReceived, whole.BytesSent, whole.BytesRetrans = u64Of(120), u64Of(128), u64Of(200), u64Of(208)

	socket := func(parts ...func(*message)) []byte {
		return socketBytes(unix.AF_INET6, "2001:db8::1", "2001:db8::2", func(m *message) {
			for _, part := range parts {
				part(m)
			}
		})
	}
	for _, tc := range []struct {
		name string
		b    []byte
		want Subflow
		ok   bool
	}{
		{"whole", socket(info(232), wholeULP), whole, true},
		{"no tcp_info", socket(wholeULP), bare, true},
		{"plain TCP", socket(info(232)), Subflow{}, false},
		{"another ULP", socket(info(232), func(m *message) {
			outer := m.nest(diagULPInfo)
			m.str(1, "tls")
			m.end(outer)
		}), Subflow{}, false},
		{"hidden token", socket(ulp(func(m *message) { m.u32(ulpFlags, 1) })), Subflow{}, false},
	} {
		s, ok := parseDiag(tc.b)
		var got Subflow
		ok = ok && decodeSubflow(&got, &s)
		if ok != tc.ok || (ok && got != tc.want) {
			t.Errorf("%s: %t\ngot  %+v\nwant %+v", tc.name, ok, got, tc.want)
		}
	}
	if _, ok := parseDiag(make([]byte, diagMsgLen-1)); ok {
		t.Error("cut: taken")
	}
}

func eventBytes(typ EventType, build func(m *message)) []byte {
	return built(func(m *message) {
		m.genlHeader(uint8(typ), pmVersion)
		build(m)
	})
}

func (m *message) be16(typ, v uint16) { binary.BigEndian.PutUint16(m.attr(typ, 2), v) }

var wholeEvent = eventBytes(EventSubflowClosed, func(m *message) {
	m.u32(evToken, 0x1234)
	m.u16(evFamily, unix.AF_INET)
	m.u8(evLocalID, 1)
	m.u8(evRemoteID, 2)
	copy(m.attr(evLocal4, 4), []byte{10, 0, 0, 1})
	mapped := addr("::ffff:10.0.0.2").As16()
	copy(m.attr(evRemote6, 16), mapped[:])
	m.be16(evLocalPort, 1000)
	m.be16(evRemotePort, 2000)
	m.u8(evBackup, 1)
	m.u8(evError, uint8(unix.ECONNRESET))
	m.u16(evFlags, uint16(EventDenyJoinID0|EventServerSide))
	m.u32(evTimeout, 5)
	m.u32(evIfIndex, 9)
	m.u32(evResetReason, 6)
	m.u32(evResetFlags, 1)
	m.u32(99, 1)
})

func TestDecodeEvent(t *testing.T) {
	for _, tc := range []struct {
		name string
		b    []byte
		want Event
		text string
	}{
		{"whole", wholeEvent, Event{
			Type: EventSubflowClosed, Token: 0x1234, Family: unix.AF_INET, LocalID: 1, RemoteID: 2,
			Local: netip.MustParseAddrPort("10.0.0.1:1000"), Remote: netip.MustParseAddrPort("10.0.0.2:2000"),
			Backup: true, ServerSide: true, Flags: EventDenyJoinID0 | EventServerSide, IfIndex: 9, Errno: unix.ECONNRESET,
			Reset: true, ResetReason: 6, ResetFlags: 1, Timeout: 5 * time.Millisecond,
		}, `[       SF_CLOSED] token=00001234 remid=2 locid=1 local=10.0.0.1:1000 remote=10.0.0.2:2000 backup ifindex=9 error="connection reset by peer" reset_reason=6 reset_flags=0x1 server_side`},
		{
			"token alone", eventBytes(EventClosed, func(m *message) { m.u32(evToken, 1) }),
			Event{Type: EventClosed, Token: 1},
			"[          CLOSED] token=00000001",
		},
		{
			"announced address without port", eventBytes(EventAnnounced, func(m *message) {
				m.u32(evToken, 1)
				m.u8(evRemoteID, 0)
				copy(m.attr(evRemote4, 4), []byte{10, 0, 0, 9})
			}),
			Event{Type: EventAnnounced, Token: 1, Remote: netip.MustParseAddrPort("10.0.0.9:0")},
			"[       ANNOUNCED] token=00000001 remid=0 remote=10.0.0.9:0",
		},
		{
			"server side of older kernels", eventBytes(EventCreated, func(m *message) { m.u8(evServerSide, 1) }),
			Event{Type: EventCreated, ServerSide: true},
			"[         CREATED] server_side",
		},
	} {
		got, ok := decodeEvent(tc.b)
		if !ok || got != tc.want {
			t.Errorf("%s: %t\ngot  %+v\nwant %+v", tc.name, ok, got, tc.want)
		}
		if got.String() != tc.text {
			t.Errorf("%s:\ngot  %s\nwant %s", tc.name, got, tc.text)
		}
	}
	for name, b := range map[string][]byte{"empty": nil, "unknown": eventBytes(4, func(*message) {})} {
		if got, ok := decodeEvent(b); ok {
			t.Errorf("%s: taken as %v", name, got)
		}
	}
}
