package plan

import (
	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/netstate"
)

// findGuard decides whether a full tunnel is up: unbound traffic to both halves
// of a family's space leaves by a tunnel link. That holds for a plain default
// route, for OpenVPN's two halves, and for rules with an own table alike. A
// tunnel that is configured as an uplink is no VPN.
func (b *builder) findGuard() {
	for _, f := range netstate.Families {
		halves := b.snap.Outbound[f]
		low, ok := b.tunnel(halves[0])
		if !ok {
			continue
		}
		if _, ok := b.tunnel(halves[1]); !ok {
			continue
		}
		g := &Guard{Link: low.Index, Name: low.Name, Family: f, Policy: b.in.Config.VPN}
		b.plan.Guard = g
		switch g.Policy {
		case config.VPNIgnore:
			b.find(Info, "vpn-ignored", g.Name, "is a full tunnel; Multipath TCP goes around it by configuration", "")
		case config.VPNBackup:
			b.find(Info, "vpn-backup", g.Name, "is a full tunnel; all other paths are backup while it is up", "")
		default:
			b.find(Info, "vpn-guard", g.Name, "is a full tunnel; nothing is sent beside it while it is up",
				`vpn = "backup" or "ignore" if subflows beside the tunnel are wanted`)
		}
		return
	}
}

func (b *builder) tunnel(ifindex int) (netstate.Link, bool) {
	l, ok := b.snap.LinkByIndex(ifindex)
	if !ok || !l.Tunnel() {
		return l, false
	}
	uplink := b.in.Config.For(l).Uplink
	return l, uplink == nil || !*uplink
}

// guarded reduces the endpoints of a path to those that exist while nothing may
// join outside a tunnel: deleting them would close initial subflows, adding one
// would offer a way around. Those that are signalled go as well, when vacant.
func (b *builder) guarded(es []Endpoint) []Endpoint {
	var kept []Endpoint
	for _, e := range es {
		for _, o := range b.snap.Endpoints {
			if o.Addr == e.Addr && o.Link == e.Link && o.Flags&netstate.SignalFlag == 0 && !b.foreign(o) {
				e.Flags = o.Flags
				e.Reason = "kept while " + b.plan.Guard.Name + " is up"
				kept = append(kept, e)
			}
		}
	}
	return kept
}
