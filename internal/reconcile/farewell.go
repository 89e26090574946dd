package reconcile

import (
	"net/netip"
	"time"

	"github.com/subflowd/subflowd/internal/netstate"
)

// farewellPause is how long an address stays without endpoint after a delete
// that connections heard of. The kernel tells their peers by another path
// (RM_ADDR, RFC 8684 section 3.4.2), which under load takes some 100 ms; where
// it comes after a new join from the same address, which has the same id, the
// peer resets the join, and the connection's one attempt is lost.
const farewellPause = time.Second

// farewells are addresses whose endpoints were deleted, with the time.
type farewells map[netip.Addr]time.Time

// bid notes a delete that connections heard of.
func (f *farewells) bid(e netstate.Endpoint, now time.Time) {
	if *f == nil {
		*f = farewells{}
	}
	(*f)[e.Addr] = now
}

// holds tells whether a change has to wait until peers have heard of a delete.
func (f farewells) holds(c netstate.Change, now time.Time) bool {
	t, ok := f[c.Endpoint.Addr]
	return ok && c.Op == netstate.EndpointAdd && now.Before(t.Add(farewellPause))
}

// due is when the first of them is over; zero: there is none.
func (f farewells) due() (first time.Time) {
	for _, t := range f {
		first = earlier(first, t.Add(farewellPause))
	}
	return first
}

// expire forgets those that are over.
func (f farewells) expire(now time.Time) {
	for ip, t := range f {
		if !now.Before(t.Add(farewellPause)) {
			delete(f, ip)
		}
	}
}
