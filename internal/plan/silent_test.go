package plan

import (
	"strings"
	"testing"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/health"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/netstate/iptext"
)

// reached says what is known of eth0 and eth1, by IPv4.
func reached(eth0, eth1 health.State) func(*Input) {
	return func(in *Input) {
		in.Config.Probe.Target = "10.9.0.2:443"
		in.Reach = map[netstate.LinkFamily]health.State{
			{Link: 2, Family: netstate.IPv4}: eth0, {Link: 3, Family: netstate.IPv4}: eth1,
		}
	}
}

const bothEndpoints = "endpoint 10.1.1.2 dev eth0 subflow\nendpoint 10.1.2.2 dev eth1 subflow\n"

func TestSilentPaths(t *testing.T) {
	for _, c := range []planCase{
		{name: "both answer", have: twoSubnets, mod: reached(health.Answers, health.Answers), want: bothEndpoints},
		{name: "the second is silent", have: twoSubnets, mod: reached(health.Answers, health.Silent), want: `
			endpoint 10.1.1.2 dev eth0 subflow
			finding path-silent eth1`},
		{name: "the first is silent", have: twoSubnets, mod: reached(health.Silent, health.Answers), want: `
			endpoint 10.1.2.2 dev eth1 subflow
			finding path-silent eth0`},
		{name: "both are silent", have: twoSubnets, mod: reached(health.Silent, health.Silent), want: bothEndpoints},
		{name: "the other is not known", have: twoSubnets, mod: reached(health.Unknown, health.Silent), want: bothEndpoints},
		{name: "the target is gone", have: twoSubnets, mod: reached(health.Down, health.Down), want: bothEndpoints + "finding probe-unanswered probe.target"},
		{
			name: "the other has lost its carrier", have: strings.Replace(twoSubnets, "link 2 eth0", "link 2 eth0 no-carrier", 1), mod: reached(health.Answers, health.Silent),
			want: "endpoint 10.1.2.2 dev eth1 subflow",
		},
		{
			name: "the other is held back", have: twoSubnets,
			mod: func(in *Input) {
				reached(health.Answers, health.Silent)(in)
				in.Hold = map[int]string{2: "flapping: back in 8s"}
			},
			want: "endpoint 10.1.2.2 dev eth1 subflow",
		},
		{
			name: "the other is to have no endpoint", have: twoSubnets,
			mod: func(in *Input) {
				reached(health.Answers, health.Silent)(in)
				no := false
				in.Config.Links = []config.LinkEntry{{Name: "eth0", Endpoints: &no}}
			},
			want: "endpoint 10.1.2.2 dev eth1 subflow",
		},
		{
			name: "the guard comes first", have: twoSubnets + "link 9 tun0 kind tun p2p\naddr 10.8.0.2/24 dev tun0\noutbound 4 tun0 tun0\nendpoint 10.1.2.2 dev eth1 id 2 subflow",
			mod: func(in *Input) {
				reached(health.Answers, health.Silent)(in)
				owned(in.Snapshot.Endpoints...)(in)
			},
			want: "endpoint 10.1.2.2 dev eth1 subflow\nfinding vpn-guard tun0",
		},
	} {
		c.only = []string{"endpoint", "finding"}
		t.Run(c.name, c.run)
	}
}

// TestWaning: the endpoints of a silent path keep their flags, and are backup.
func TestWaning(t *testing.T) {
	snap := iptext.MustSnapshot(twoSubnets)
	in := Input{Config: config.Default(), Snapshot: snap}
	reached(health.Answers, health.Silent)(&in)
	in.Config.Role = config.RoleBoth
	p := Desired(in)
	if len(p.Waning) != 1 || p.Waning[0].Text(snap.Names()) != "10.1.2.2 dev eth1 signal subflow backup" {
		t.Errorf("waning: %v", p.Waning)
	}
	for _, x := range p.Paths {
		want := x.Name == "eth1"
		if x.Backup != want || !x.Probe.IsValid() || x.Addrs[0].Endpoint == want {
			t.Errorf("%s: %+v", x.Name, x)
		}
	}
}
