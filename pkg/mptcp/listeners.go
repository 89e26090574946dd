package mptcp

import (
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Listener is one listening stream socket of the namespace.
type Listener struct {
	Local netip.AddrPort // an unspecified address: all; IPv4 addresses are unmapped
	// MPTCP: the program listens with IPPROTO_MPTCP; otherwise with plain TCP.
	MPTCP bool
	// IfIndex is the interface that the socket is bound to, or 0.
	IfIndex int32
	// UID owns the socket; Inode is that of its descriptor.
	UID, Inode uint32
}

// Listeners lists the listening TCP and MPTCP sockets of the namespace, MPTCP
// first. It needs no privilege. Where the kernel has no sock_diag for MPTCP
// (before 5.18 for listeners) all show as plain TCP.
func (c *Client) Listeners() ([]Listener, error) {
	c.diag.Lock()
	defer c.diag.Unlock()
	var list []Listener
	for _, mptcp := range []bool{true, false} {
		for _, family := range families {
			found, err := c.dumpListeners(family, mptcp)
			if err := withoutFamily(family, err); err != nil && !mptcp {
				return nil, fail(opList, "listeners", err)
			}
			for _, l := range found {
				// The TCP socket below an MPTCP listener shows the same descriptor.
				if !slices.ContainsFunc(list, func(o Listener) bool { return o.Inode == l.Inode && o.Local == l.Local }) {
					list = append(list, l)
				}
			}
		}
	}
	return list, nil
}

func (c *Client) dumpListeners(family uint8, mptcp bool) ([]Listener, error) {
	r := diagRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP, diagHeader(family, States(StateListen)))
	if mptcp {
		r.AddData(nl.NewRtAttr(diagReqProtocol, nl.Uint32Attr(protocolMPTCP)))
	}
	var list []Listener
	err := c.diag.dump(r, func() { list = list[:0] }, func(b []byte) error {
		s, ok := parseDiag(b)
		if !ok {
			return errShort
		}
		list = append(list, Listener{Local: s.local(), MPTCP: mptcp, IfIndex: int32(u32At(s.msg, 40)), UID: u32At(s.msg, 64), Inode: u32At(s.msg, 68)})
		return nil
	})
	return list, err
}
