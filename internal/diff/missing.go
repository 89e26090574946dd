package diff

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/subflowd/subflowd/internal/netstate"
)

// Missed is an endpoint from which some connections could have a subflow and
// have none.
type Missed struct {
	Endpoint    netstate.Endpoint
	Connections int // that lack it
	// Used tells that some connection has a subflow from its address that a
	// delete would close.
	Used bool
	// Initial tells that one of the connections that lack it began on its
	// address. A delete then tells the peer to drop address id 0, and the
	// subflow that comes next has that very id (mptcp_pm_remove_anno_addr).
	Initial bool
}

// Missing finds the endpoints that connections lack. A connection can have a
// further subflow when this host opened it, both ends have confirmed Multipath
// TCP, it is not being closed, and the limits leave room. A subflow in any
// state counts: an attempt may be under way.
//
// Each endpoint is tried once for a connection (id_avail_bitmap,
// net/mptcp/pm_kernel.c), so one whose attempt failed never gets its subflow
// by itself.
func Missing(conns []netstate.Connection, endpoints []netstate.Endpoint, limits netstate.Limits) []Missed {
	lack, used, initial := map[netip.Addr]int{}, map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for i := range conns {
		c := &conns[i]
		has := attached(c)
		if counts(c) {
			for ip := range has {
				used[ip] = true
			}
		}
		if !joinable(c) || !confirmed(c) || further(c) >= limits.Subflows {
			continue
		}
		for _, e := range endpoints {
			if offered(e, c) && !has[e.Addr] {
				lack[e.Addr]++
				initial[e.Addr] = initial[e.Addr] || c.Local.Addr() == e.Addr
			}
		}
	}
	var out []Missed
	for _, e := range endpoints {
		if n := lack[e.Addr]; n > 0 {
			out = append(out, Missed{Endpoint: e, Connections: n, Used: used[e.Addr], Initial: initial[e.Addr]})
		}
	}
	slices.SortFunc(out, func(x, y Missed) int {
		return cmp.Or(cmp.Compare(y.Connections, x.Connections), x.Endpoint.Addr.Compare(y.Endpoint.Addr))
	})
	return out
}

// Unconfirmed names, by token, the connections that this host opened and over
// which nothing was sent yet: the kernel makes no further subflow before the
// peer has answered the first data. One that was opened while no endpoint
// existed is not looked at again then.
func Unconfirmed(conns []netstate.Connection) []uint32 {
	var out []uint32
	for i := range conns {
		if c := &conns[i]; joinable(c) && !confirmed(c) {
			out = append(out, c.Token)
		}
	}
	return out
}

// joinable tells whether further subflows are for this host to make. A peer on
// this very host is reached by the loopback alone.
func joinable(c *netstate.Connection) bool {
	ip := c.Remote.Addr()
	if c.Fallback || c.State != netstate.Established || ip.IsLoopback() || ip == c.Local.Addr() {
		return false
	}
	return slices.ContainsFunc(c.Subflows, func(s netstate.Subflow) bool { return s.Opened })
}

func confirmed(c *netstate.Connection) bool {
	return slices.ContainsFunc(c.Subflows, func(s netstate.Subflow) bool {
		return s.State == netstate.Established && s.FullyEstablished
	})
}

// attached is the addresses that the connection has subflows from.
func attached(c *netstate.Connection) map[netip.Addr]bool {
	ips := map[netip.Addr]bool{}
	for k := range c.Subflows {
		if s := &c.Subflows[k]; !detached(c, s) {
			ips[s.Local.Addr()] = true
		}
	}
	return ips
}

// detached tells whether a subflow is none of its connection's any more. When
// one was closed alone, with its endpoint or by the peer, its TCP socket lives
// on until it has sent what it had, for minutes on a dark path; sock_diag shows
// it under the connection's token all the same.
func detached(c *netstate.Connection, s *netstate.Subflow) bool {
	switch s.State {
	case netstate.FinWait1, netstate.FinWait2, netstate.Closing, netstate.LastAck:
		return c.State == netstate.Established
	}
	return !onEndpoint(s)
}

// further counts the subflows besides the initial one, as the limit does.
func further(c *netstate.Connection) uint32 {
	var n uint32
	for k := range c.Subflows {
		if s := &c.Subflows[k]; (s.JoinLocal || s.JoinRemote) && !detached(c, s) {
			n++
		}
	}
	return n
}

// offered tells whether the path manager would use the endpoint for the
// connection.
func offered(e netstate.Endpoint, c *netstate.Connection) bool {
	return e.Flags&netstate.SubflowFlag != 0 && e.Port == 0 &&
		netstate.FamilyOf(e.Addr) == netstate.FamilyOf(c.Remote.Addr())
}

// kickPrefix is TEST-NET-1 (RFC 5737): no host has an address in it.
var kickPrefix = netip.MustParsePrefix("192.0.2.0/24")

// Kick is an endpoint that does nothing. Adding it makes the kernel go over
// all connections and offer them the endpoints that they were never offered;
// it is deleted at once. None when there is no free slot.
func Kick(s *netstate.Snapshot) (netstate.Endpoint, bool) {
	if !s.MPTCP.Present || len(s.Endpoints) >= s.MPTCP.Slots() {
		return netstate.Endpoint{}, false
	}
	for ip := kickPrefix.Addr().Next(); kickPrefix.Contains(ip); ip = ip.Next() {
		taken := slices.ContainsFunc(s.Endpoints, func(e netstate.Endpoint) bool { return e.Addr == ip }) ||
			slices.ContainsFunc(s.Addrs, func(a netstate.Addr) bool { return a.IP() == ip })
		if !taken {
			return netstate.Endpoint{Addr: ip}, true
		}
	}
	return netstate.Endpoint{}, false
}
