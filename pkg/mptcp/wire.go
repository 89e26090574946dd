package mptcp

import (
	"encoding/binary"
	"net/netip"
)

// nlaTypeMask takes NLA_F_NESTED and NLA_F_NET_BYTEORDER off an attribute's type.
const nlaTypeMask = 0x3fff

func align4(n int) int { return (n + 3) &^ 3 }

// attrs walks netlink attributes; damaged ones end the walk. The library's ParseRouteAttr allocates for each message,
// which counts where thousands of sockets are listed, and leaves NLA_F_NESTED in the type.
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
