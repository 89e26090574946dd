package diff

import (
	"net/netip"
	"time"

	"github.com/subflowd/subflowd/internal/netstate"
)

// Ends name a subflow.
type Ends struct{ Local, Remote netip.AddrPort }

// sureWithin is how long ago the peer must have been heard of for a subflow to
// be taken for one that works now.
const sureWithin = time.Second

// Doubtful lists the subflows from an address over which the peer may not hear
// that they are backup no more: MP_PRIO (RFC 8684 section 3.3.8) is sent once,
// and a join under way has asked for backup already.
func Doubtful(conns []netstate.Connection, ip netip.Addr) map[Ends]bool {
	out := map[Ends]bool{}
	each(conns, ip, func(s *netstate.Subflow) {
		sure := s.State == netstate.Established && s.FullyEstablished && s.Backoff == 0 && s.CAState < caLoss &&
			min(s.LastRecv, s.LastAck) < sureWithin
		if !sure {
			out[Ends{s.Local, s.Remote}] = true
		}
	})
	return out
}

// HeardSince tells whether the peer was heard of over one of the doubtful
// subflows since it was told, so that telling it again helps; since is how long
// ago that was. It returns the subflows that are left to wait for.
func HeardSince(conns []netstate.Connection, ip netip.Addr, doubtful map[Ends]bool, since time.Duration) (again bool, left map[Ends]bool) {
	left = map[Ends]bool{}
	each(conns, ip, func(s *netstate.Subflow) {
		e := Ends{s.Local, s.Remote}
		switch {
		case !doubtful[e]:
		case s.State == netstate.Established && s.FullyEstablished && min(s.LastRecv, s.LastAck)+diagStep < since:
			again = true
		default:
			left[e] = true
		}
	})
	return again, left
}

// each visits the subflows from an address that the path manager may change.
func each(conns []netstate.Connection, ip netip.Addr, visit func(*netstate.Subflow)) {
	for i := range conns {
		if !counts(&conns[i]) {
			continue
		}
		for k := range conns[i].Subflows {
			if s := &conns[i].Subflows[k]; s.Local.Addr() == ip && onEndpoint(s) {
				visit(s)
			}
		}
	}
}
