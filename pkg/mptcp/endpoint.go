package mptcp

import (
	"net/netip"
	"strconv"
	"strings"
)

// Flags say what an endpoint is used for (MPTCP_PM_ADDR_FLAG_* in include/uapi/linux/mptcp.h, ip-mptcp(8)).
type Flags uint32

// The flags of an endpoint.
const (
	// FlagSignal announces the address to the peer (ADD_ADDR); the peer may join to it.
	FlagSignal Flags = 1 << 0
	// FlagSubflow opens subflows from the address.
	FlagSubflow Flags = 1 << 1
	// FlagBackup asks the peer to use the subflow only where no other is left.
	FlagBackup Flags = 1 << 2
	// FlagFullmesh opens a subflow to every address of the peer (5.15). Not together with FlagSignal.
	FlagFullmesh Flags = 1 << 3
	// FlagImplicit is set by the kernel for an endpoint that it made by itself (5.18); it cannot be asked for.
	FlagImplicit Flags = 1 << 4
	// FlagLaminar is used for subflows that answer an announced address (6.18).
	FlagLaminar Flags = 1 << 5
)

var flagNames = [...]string{"signal", "subflow", "backup", "fullmesh", "implicit", "laminar"}

// String names the flags as `ip mptcp endpoint` does, parted by blanks; unknown ones follow as one number.
func (f Flags) String() string { return string(f.appendTo(nil)) }

func (f Flags) appendTo(b []byte) []byte {
	for i, name := range flagNames {
		if f&(1<<i) == 0 {
			continue
		}
		if len(b) > 0 {
			b = append(b, ' ')
		}
		b = append(b, name...)
	}
	if rest := f >> len(flagNames) << len(flagNames); rest != 0 {
		if len(b) > 0 {
			b = append(b, ' ')
		}
		b = append(b, "0x"...)
		b = strconv.AppendUint(b, uint64(rest), 16)
	}
	return b
}

// Endpoint is one entry of the path manager's table. Endpoints can be compared with ==.
type Endpoint struct {
	// ID is 1 to 255 in what is read. For [Client.AddEndpoint] 0 lets the kernel choose.
	ID uint8
	// Addr is an IPv4 or IPv6 address. It need not be on any interface: the kernel does not look.
	Addr netip.Addr
	// Port is announced with the address, 0 for the connection's own (FlagSignal only, 5.12).
	Port uint16
	// Flags say what the endpoint is for; none at all is allowed and opens nothing.
	Flags Flags
	// IfIndex binds the endpoint's subflows to one interface, 0 for none. An endpoint outlives its interface,
	// and another interface can get the same index later.
	IfIndex int32
}

// String is [Endpoint.Format] with interfaces as ip(8) shows unknown ones: "if3".
func (e Endpoint) String() string { return e.Format(nil) }

// Format writes the endpoint as `ip mptcp endpoint` lists it and takes it for arguments:
//
//	10.1.1.2 id 1 subflow backup dev eth0
//
// The function gives the name of an interface; where it is nil or returns "" the name is "if" and the index.
func (e Endpoint) Format(name func(ifindex int) string) string {
	var b strings.Builder
	if e.Addr.IsValid() {
		b.WriteString(e.Addr.String())
	}
	if e.Port != 0 {
		word(&b, "port "+strconv.Itoa(int(e.Port)))
	}
	if e.ID != 0 {
		word(&b, "id "+strconv.Itoa(int(e.ID)))
	}
	if e.Flags != 0 {
		word(&b, e.Flags.String())
	}
	if e.IfIndex != 0 {
		dev := ""
		if name != nil {
			dev = name(int(e.IfIndex))
		}
		if dev == "" {
			dev = "if" + strconv.Itoa(int(e.IfIndex))
		}
		word(&b, "dev "+dev)
	}
	if b.Len() == 0 {
		return "none"
	}
	return b.String()
}

func word(b *strings.Builder, s string) {
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	b.WriteString(s)
}

// Limits bound every connection of the namespace that is made after they were set; a server's connections keep
// the limits that they were accepted with. The peer's limits count as well.
type Limits struct {
	// Subflows is the number of additional subflows of one connection; the kernel's default is 2.
	Subflows uint32
	// AddAddrAccepted is the number of announced addresses that are accepted and joined; the default is 0.
	AddAddrAccepted uint32
}

// String writes the limits as `ip mptcp limits` does.
func (l Limits) String() string {
	return "add_addr_accepted " + strconv.FormatUint(uint64(l.AddAddrAccepted), 10) +
		" subflows " + strconv.FormatUint(uint64(l.Subflows), 10)
}
