package mptcp

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

const (
	// nlaTypeMask takes NLA_F_NESTED and NLA_F_NET_BYTEORDER off an attribute's type.
	nlaTypeMask = 0x3fff
	nlaNested   = 0x8000
)

func align4(n int) int { return (n + 3) &^ 3 }

// message builds one netlink request in a buffer that is used again.
type message struct{ b []byte }

func (m *message) begin(typ, flags uint16) {
	m.b = append(m.b[:0], make([]byte, unix.NLMSG_HDRLEN)...)
	binary.NativeEndian.PutUint16(m.b[4:], typ)
	binary.NativeEndian.PutUint16(m.b[6:], flags|unix.NLM_F_REQUEST)
}

// seal writes the length and the sequence number; a sealed message may be sealed again with another number.
func (m *message) seal(seq uint32) []byte {
	binary.NativeEndian.PutUint32(m.b[0:], uint32(len(m.b)))
	binary.NativeEndian.PutUint32(m.b[8:], seq)
	return m.b
}

func (m *message) genlHeader(cmd, version uint8) { m.b = append(m.b, cmd, version, 0, 0) }

func (m *message) attr(typ uint16, n int) []byte {
	at := len(m.b)
	m.b = append(m.b, make([]byte, 4+align4(n))...)
	binary.NativeEndian.PutUint16(m.b[at:], uint16(4+n))
	binary.NativeEndian.PutUint16(m.b[at+2:], typ)
	return m.b[at+4 : at+4+n]
}

func (m *message) u8(typ uint16, v uint8) { m.attr(typ, 1)[0] = v }
func (m *message) u16(typ uint16, v uint16) {
	binary.NativeEndian.PutUint16(m.attr(typ, 2), v)
}

func (m *message) u32(typ uint16, v uint32) {
	binary.NativeEndian.PutUint32(m.attr(typ, 4), v)
}

func (m *message) str(typ uint16, s string) { copy(m.attr(typ, len(s)+1), s) }

// nest opens a nested attribute and returns where it starts, for end.
func (m *message) nest(typ uint16) int {
	at := len(m.b)
	m.attr(typ|nlaNested, 0)
	return at
}

func (m *message) end(at int) {
	binary.NativeEndian.PutUint16(m.b[at:], uint16(len(m.b)-at))
}

// attrs walks netlink attributes; damaged ones end the walk.
type attrs []byte

func (a *attrs) next() (typ uint16, value []byte, ok bool) {
	b := *a
	if len(b) < 4 {
		return 0, nil, false
	}
	n := int(binary.NativeEndian.Uint16(b))
	if n < 4 || n > len(b) {
		return 0, nil, false
	}
	typ = binary.NativeEndian.Uint16(b[2:]) & nlaTypeMask
	value = b[4:n:n]
	if n = align4(n); n > len(b) {
		n = len(b)
	}
	*a = b[n:]
	return typ, value, true
}

// The readers below give zero for a field that the buffer does not hold: kernel structures grow at their end.

func u8At(b []byte, off int) uint8 {
	if off+1 > len(b) {
		return 0
	}
	return b[off]
}

func u16At(b []byte, off int) uint16 {
	if off+2 > len(b) {
		return 0
	}
	return binary.NativeEndian.Uint16(b[off:])
}

func u32At(b []byte, off int) uint32 {
	if off+4 > len(b) {
		return 0
	}
	return binary.NativeEndian.Uint32(b[off:])
}

func u64At(b []byte, off int) uint64 {
	if off+8 > len(b) {
		return 0
	}
	return binary.NativeEndian.Uint64(b[off:])
}

func be16At(b []byte, off int) uint16 {
	if off+2 > len(b) {
		return 0
	}
	return binary.BigEndian.Uint16(b[off:])
}

func addr4(b []byte) netip.Addr {
	if len(b) < 4 {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte(b))
}

func addr6(b []byte) netip.Addr {
	if len(b) < 16 {
		return netip.Addr{}
	}
	return netip.AddrFrom16([16]byte(b))
}

// cString is the text of a zero-terminated attribute.
func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
