package netstate

import (
	"net/netip"
	"strconv"
	"strings"
)

// EndpointFlags are the MPTCP_PM_ADDR_FLAG_ bits (linux/mptcp_pm.h).
type EndpointFlags uint32

// Flags of endpoints; see ip-mptcp(8).
const (
	SignalFlag   EndpointFlags = 1
	SubflowFlag  EndpointFlags = 2
	BackupFlag   EndpointFlags = 4
	FullmeshFlag EndpointFlags = 8
	ImplicitFlag EndpointFlags = 16 // made and owned by the kernel
	LaminarFlag  EndpointFlags = 32
)

var endpointFlagNames = []struct {
	bit  EndpointFlags
	name string
}{{SignalFlag, "signal"}, {SubflowFlag, "subflow"}, {BackupFlag, "backup"}, {FullmeshFlag, "fullmesh"}, {ImplicitFlag, "implicit"}, {LaminarFlag, "laminar"}}

// String is the flags in the words of ip-mptcp(8), separated by blanks.
func (f EndpointFlags) String() string {
	var names []string
	for _, n := range endpointFlagNames {
		if f&n.bit != 0 {
			names = append(names, n.name)
			f &^= n.bit
		}
	}
	if f != 0 {
		names = append(names, "0x"+strconv.FormatUint(uint64(f), 16))
	}
	return strings.Join(names, " ")
}

// Endpoint is one address that the path manager knows. The kernel keys it by
// address and port; the id is the kernel's choice.
type Endpoint struct {
	ID    uint8      // 0 in a plan: the kernel chooses
	Addr  netip.Addr // never v4-mapped
	Link  int        // ifindex; 0: none
	Port  uint16     // host order; 0: none
	Flags EndpointFlags
}

// Text is the endpoint as the arguments of `ip mptcp endpoint add`.
func (e Endpoint) Text(n Names) string {
	var b strings.Builder
	b.WriteString(e.Addr.String())
	if e.Port != 0 {
		b.WriteString(" port " + strconv.Itoa(int(e.Port)))
	}
	if e.Link != 0 {
		b.WriteString(" dev " + n.Name(e.Link))
	}
	if e.ID != 0 {
		b.WriteString(" id " + strconv.Itoa(int(e.ID)))
	}
	if s := e.Flags.String(); s != "" {
		b.WriteString(" " + s)
	}
	return b.String()
}

// String is Text with numbers for links.
func (e Endpoint) String() string { return e.Text(nil) }

// Limits are the path manager's limits for each connection; see ip-mptcp(8).
type Limits struct {
	Subflows        uint32 // additional subflows
	AddAddrAccepted uint32 // addresses of the peer that are taken
}

// Text is the limits as the arguments of `ip mptcp limits set`.
func (l Limits) Text() string {
	return "subflows " + strconv.FormatUint(uint64(l.Subflows), 10) +
		" add_addr_accepted " + strconv.FormatUint(uint64(l.AddAddrAccepted), 10)
}

// String is Text.
func (l Limits) String() string { return l.Text() }

func (e Endpoint) deleteText() string { return "id " + strconv.Itoa(int(e.ID)) }

// changeText writes both changeable flags, because ip-mptcp(8) and the kernel
// take an absent one for cleared.
func (e Endpoint) changeText() string {
	s := "id " + strconv.Itoa(int(e.ID))
	if e.Flags&BackupFlag != 0 {
		s += " backup"
	} else {
		s += " nobackup"
	}
	if e.Flags&FullmeshFlag != 0 {
		return s + " fullmesh"
	}
	return s + " nofullmesh"
}
