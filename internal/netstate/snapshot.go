package netstate

import "net/netip"

// Snapshot is what the kernel holds now. Slices are in the kernel's own order,
// which is part of the meaning for rules and addresses. A reader must not
// change a snapshot that it was handed.
type Snapshot struct {
	Links     []Link
	Addrs     []Addr
	Routes    []Route // of main, of tables that rules lead to, and of ours
	Rules     []Rule
	Endpoints []Endpoint
	Limits    Limits
	// Preferred is the source that the kernel picks for an unbound lookup of
	// the fixed probe destinations out of a link with several usable addresses.
	Preferred map[LinkFamily]netip.Addr
	// Outbound names the links by which unbound and unmarked lookups of two
	// fixed destinations leave, one in each half of a family's global space;
	// 0: no route.
	Outbound map[Family][2]int
	// Unbound is by which link and with which source unbound traffic of a family
	// leaves; it is asked only where a tunnel exists, or a default route by a
	// link that has no address of its own.
	Unbound map[Family]Way
	// LeaseGateways are routers that a DHCP lease names and no route shows.
	LeaseGateways map[LinkFamily]netip.Addr
	MPTCP         MPTCP
	// Named are the names of Links, made once for snapshots that share them; nil:
	// Names makes them.
	Named Names
	// Unsure says that a large table was not walked for what its events told; a
	// hint with Walk does.
	Unsure bool
}

// Way is where traffic leaves.
type Way struct {
	Link   int // ifindex
	Source netip.Addr
}

// MPTCP is the state of Multipath TCP in the kernel.
type MPTCP struct {
	Present      bool   // the kernel has the path manager's netlink family
	Enabled      bool   // net.mptcp.enabled of the namespace
	UserspacePM  bool   // a userspace path manager is chosen; ours does nothing
	MaxEndpoints int    // as probed, 0: unknown; see Slots
	MaxLimit     uint32 // as probed, 0: unknown; see HighestLimit
}

// oldMaximum is MPTCP_PM_ADDR_MAX, for endpoints and for each limit, of kernels
// before 7.2; it counts where the probe found none.
const oldMaximum = 8

// Slots is how many endpoints the kernel takes.
func (m MPTCP) Slots() int {
	if m.MaxEndpoints == 0 {
		return oldMaximum
	}
	return m.MaxEndpoints
}

// HighestLimit is the highest value of each limit.
func (m MPTCP) HighestLimit() uint32 {
	if m.MaxLimit == 0 {
		return oldMaximum
	}
	return m.MaxLimit
}

// Names maps every link of the snapshot to its name.
func (s *Snapshot) Names() Names {
	if s.Named != nil {
		return s.Named
	}
	n := make(Names, len(s.Links))
	for _, l := range s.Links {
		n[l.Index] = l.Name
	}
	return n
}

// LinkByIndex finds a link.
func (s *Snapshot) LinkByIndex(ifindex int) (Link, bool) {
	for _, l := range s.Links {
		if l.Index == ifindex {
			return l, true
		}
	}
	return Link{}, false
}
