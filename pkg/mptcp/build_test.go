package mptcp

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

const nlaNested = 0x8000

// message builds one netlink message as the kernel would.
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

func (m *message) address(a netip.Addr) {
	typ, family := uint16(addr6Attr), uint16(unix.AF_INET6)
	if a.Is4() {
		typ, family = addr4Attr, unix.AF_INET
	}
	m.u16(addrFamily, family)
	copy(m.attr(typ, a.BitLen()/8), a.AsSlice())
}
