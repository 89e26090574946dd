package diff

import (
	"slices"
	"strings"
	"testing"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/netstate/iptext"
)

func TestBesideTunnel(t *testing.T) {
	on := func(link int, f func(*netstate.Subflow)) netstate.Subflow {
		return with(joined(onEth1), func(s *netstate.Subflow) {
			s.Link = link
			f(s)
		})
	}
	state := func(st netstate.SockState) func(*netstate.Subflow) {
		return func(s *netstate.Subflow) { s.State = st }
	}
	plain := func(*netstate.Subflow) {}
	for _, c := range []struct {
		name string
		s    netstate.Subflow
		want bool
	}{
		{"made by the path manager", on(3, plain), true},
		{"connecting", on(3, state(netstate.SynSent)), true},
		{"closing", on(3, state(netstate.FinWait2)), true},
		{"closed by the peer", on(3, state(netstate.CloseWait)), true},
		{"over", on(3, state(netstate.TimeWait)), false},
		{"destroyed", on(3, state(netstate.Closed)), false},
		{"initial", on(0, func(s *netstate.Subflow) { s.JoinLocal = false }), false},
		{"initial, bound by its application", on(3, func(s *netstate.Subflow) { s.JoinLocal = false }), false},
		{"made by the peer", on(3, func(s *netstate.Subflow) { s.JoinLocal, s.JoinRemote = false, true }), false},
		{"not bound: it goes through the tunnel", on(0, plain), false},
		{"on the tunnel", on(9, plain), false},
		{"on a link that is gone", on(77, plain), true},
	} {
		if got := BesideTunnel(c.s, []int{9}); got != c.want {
			t.Errorf("%s: got %v", c.name, got)
		}
	}
}

func TestTunnels(t *testing.T) {
	s := iptext.MustSnapshot("link 1 lo loopback\nlink 2 eth0\nlink 9 tun0 kind tun p2p\nlink 10 wg0 kind wireguard")
	if got := Tunnels(s); !slices.Equal(got, []int{9, 10}) {
		t.Errorf("got %v", got)
	}
}

func TestStepAside(t *testing.T) {
	c := Changes{
		Up: []netstate.Change{
			{Op: netstate.RouteAdd}, {Op: netstate.LimitsSet}, {Op: netstate.EndpointAdd},
		},
		Unwanted: []Unwanted{{Reason: "signalled"}},
		Down:     []netstate.Change{{Op: netstate.RuleDelete}, {Op: netstate.RuleDelete}, {Op: netstate.RouteDelete}},
	}
	first, rest := c.StepAside()
	ops := func(list ...netstate.Change) string {
		var s []string
		for _, x := range list {
			s = append(s, map[netstate.Op]string{
				netstate.RouteAdd: "route", netstate.LimitsSet: "limits", netstate.EndpointAdd: "endpoint",
				netstate.RuleDelete: "-rule", netstate.RouteDelete: "-route",
			}[x.Op])
		}
		return strings.Join(s, " ")
	}
	if got := ops(first...) + " | " + ops(rest.Up...) + " | " + ops(rest.Down...); got != "limits -rule -rule | route endpoint | -route" {
		t.Errorf("got %s", got)
	}
	if len(rest.Unwanted) != 1 {
		t.Error("what is unwanted got lost")
	}
	if len(c.Up) != 3 || len(c.Down) != 3 {
		t.Error("the argument changed")
	}
}
