package lease

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// Places in a BOOTP packet (RFC 951, section 3; RFC 2131, section 2).
const (
	packetReply   = 2 // op
	packetYiaddr  = 16
	packetSname   = 44
	packetFile    = 108
	packetCookie  = 236
	packetOptions = 240
)

// Options (RFC 2132).
const (
	optPad       = 0
	optRouters   = 3
	optLeaseTime = 51
	optOverload  = 52
	optType      = 53
	optClassless = 121
	optEnd       = 255

	typeAck = 5
)

// forever is the lease time that does not end (RFC 2131, section 3.3).
const forever = 0xffffffff

// decodePacket reads the acknowledgement of a server, as dhcpcd keeps it. The
// lease began when the file was written.
func decodePacket(b []byte, written time.Time) []lease {
	if len(b) < packetOptions || b[0] != packetReply || binary.BigEndian.Uint32(b[packetCookie:]) != 0x63825363 {
		return nil
	}
	o := packetOptionsOf(b)
	if t := o[optType]; t != nil && (len(t) != 1 || t[0] != typeAck) {
		return nil
	}
	l := lease{addr: netip.AddrFrom4([4]byte(b[packetYiaddr:]))}
	for r := o[optRouters]; len(r) >= 4; r = r[4:] {
		l.routers = append(l.routers, netip.AddrFrom4([4]byte(r)))
	}
	if c, ok := o[optClassless]; ok {
		l.setClassless(c)
	}
	if t := o[optLeaseTime]; len(t) == 4 && binary.BigEndian.Uint32(t) != forever {
		l.expires = written.Add(time.Duration(binary.BigEndian.Uint32(t)) * time.Second)
	}
	return []lease{l}
}

// packetOptionsOf collects the options. One that is there several times is one
// long one, in the order of RFC 3396, section 5.
func packetOptionsOf(b []byte) map[byte][]byte {
	o := map[byte][]byte{}
	collect(b[packetOptions:], o)
	var overload byte
	if v := o[optOverload]; len(v) == 1 {
		overload = v[0]
	}
	if overload&1 != 0 {
		collect(b[packetFile:packetCookie], o)
	}
	if overload&2 != 0 {
		collect(b[packetSname:packetFile], o)
	}
	return o
}

func collect(b []byte, o map[byte][]byte) {
	for len(b) > 0 && b[0] != optEnd {
		if b[0] == optPad {
			b = b[1:]
			continue
		}
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			return
		}
		o[b[0]] = append(o[b[0]], b[2:2+int(b[1])]...)
		b = b[2+int(b[1]):]
	}
}
