package kernel

import (
	"net/netip"
	"testing"

	"github.com/subflowd/subflowd/internal/netstate"
)

// onePath is what a new path brings: two routes and the three rules.
func onePath(link int) []netstate.Change {
	table := testOptions.TableBase + uint32(link)
	changes := routeChanges(netstate.RouteAdd, path4(table, link, "10.1.1.1")[:2]...)
	return append(changes, appendRules(ruleSet(netip.MustParseAddr("10.1.1.2"), table))...)
}

func undo(changes []netstate.Change) []netstate.Change {
	out := make([]netstate.Change, len(changes))
	for i, c := range changes {
		switch c.Op {
		case netstate.RouteAdd:
			c.Op = netstate.RouteDelete
		case netstate.RuleAppend:
			c.Op = netstate.RuleDelete
		}
		out[i] = c
	}
	return out
}

func BenchmarkSnapshot(b *testing.B) {
	h := twoUplinks(b)
	h.IP("route add default via 10.1.1.1 dev eth0 metric 100", "route add default via 10.1.2.1 dev eth1 metric 200")
	inside(b, h, func(k *Kernel) {
		eth0 := linkNamed(b, refresh(b, k, full()), "eth0").Index
		apply(b, k, onePath(eth0)...)
		for name, hints := range map[string]netstate.Hints{
			"full":    full(),
			"address": {Kinds: netstate.KindAddrs, Links: onlyLink(eth0)},
			"route":   {Kinds: netstate.KindRoutes, Links: onlyLink(eth0)},
			"rule":    {Kinds: netstate.KindRules},
			"mptcp":   {Kinds: netstate.KindEndpoints},
		} {
			b.Run(name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					refresh(b, k, hints)
				}
			})
		}
	})
}

func BenchmarkApplyPath(b *testing.B) {
	h := twoUplinks(b)
	inside(b, h, func(k *Kernel) {
		up := onePath(linkNamed(b, refresh(b, k, full()), "eth0").Index)
		down := undo(up)
		b.ReportAllocs()
		for b.Loop() {
			apply(b, k, up...)
			b.StopTimer()
			apply(b, k, down...)
			b.StartTimer()
		}
	})
}
