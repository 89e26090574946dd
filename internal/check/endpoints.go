package check

import (
	"fmt"
	"slices"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
)

// endpoints looks at what the path manager holds, whoever made it.
func (l *looker) endpoints() {
	for _, e := range l.Snapshot.Endpoints {
		if e.Flags&netstate.ImplicitFlag != 0 {
			continue
		}
		line := "ip mptcp endpoint: " + e.Text(l.names)
		remove := fmt.Sprintf("ip mptcp endpoint delete id %d", e.ID)
		link := l.addrLink(e.Addr)
		switch {
		case l.Daemon != nil && l.Daemon.Lingering[e.Addr]:
			continue
		case link == 0:
			l.find(plan.Warning, "endpoint-gone", e.Addr.String(), "has an endpoint and is an address of no link", remove, line)
		case e.Link != 0 && !l.has(e):
			l.find(plan.Warning, "endpoint-gone", e.Addr.String(),
				fmt.Sprintf("has an endpoint on %s and is an address of %s", l.names.Name(e.Link), l.names.Name(link)), remove, line)
		case e.Link == 0 && e.Flags&netstate.SubflowFlag != 0:
			l.find(plan.Warning, "foreign-endpoint", e.Addr.String(), "has an endpoint that is bound to no link",
				l.replace(e), line)
		}
		l.private(e, line)
	}
}

// replace is the command that puts an endpoint on its address's link in the
// place of one that is not. A daemon makes its own.
func (l *looker) replace(e netstate.Endpoint) string {
	del := fmt.Sprintf("ip mptcp endpoint delete id %d", e.ID)
	if l.Daemon != nil {
		return del
	}
	return fmt.Sprintf("%s && ip mptcp endpoint add %s dev %s %s", del, e.Addr, l.names.Name(l.addrLink(e.Addr)), e.Flags)
}

// has tells whether the endpoint's link has its address.
func (l *looker) has(e netstate.Endpoint) bool {
	return slices.ContainsFunc(l.Snapshot.Addrs, func(a netstate.Addr) bool { return a.IP() == e.Addr && a.Link == e.Link })
}

// private looks for announced addresses that mean nothing elsewhere. A host
// that has no other may have peers in its own site alone.
func (l *looker) private(e netstate.Endpoint, line string) {
	if e.Flags&netstate.SignalFlag == 0 || !netstate.Private(e.Addr) {
		return
	}
	severity := plan.Info
	for _, p := range l.Plan.Paths {
		if p.Family == netstate.FamilyOf(e.Addr) && slices.ContainsFunc(p.Addrs, func(a plan.PathAddr) bool { return !netstate.Private(a.IP) }) {
			severity = plan.Warning
		}
	}
	l.find(severity, "private-signalled", e.Addr.String(), "is a private address, and is announced to every peer",
		fmt.Sprintf("ip mptcp endpoint delete id %d", e.ID), line)
}
