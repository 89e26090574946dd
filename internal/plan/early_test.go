package plan

import (
	"testing"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/health"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/netstate/iptext"
)

const earlyHost = `
link 1 lo loopback
link 2 eth0
link 3 eth1
addr 10.1.1.2/24 dev eth0
route 10.1.1.0/24 dev eth0 proto kernel src 10.1.1.2
route default via 10.1.1.1 dev eth0 proto dhcp metric 100
endpoint 10.1.1.2 dev eth0 id 1 subflow
limits subflows 2 add_addr_accepted 4
`

const earlyLease = `
addr 10.1.2.2/24 dev eth1
route 10.1.2.0/24 dev eth1 proto kernel src 10.1.2.2
route default via 10.1.2.1 dev eth1 proto dhcp metric 200
`

// TestEarlyLeavesToThePlan puts one thing after another beside a new path that the plan has to think of.
func TestEarlyLeavesToThePlan(t *testing.T) {
	for _, c := range []struct {
		name  string
		host  string // more of it
		lease string // more of what comes
		mod   func(in *Input, now *Plan)
		early bool
	}{
		{name: "nothing", early: true},
		{name: "a container's subnet", host: "link 4 docker0 kind bridge\naddr 172.17.0.1/16 dev docker0\nroute 172.17.0.0/16 dev docker0 proto kernel src 172.17.0.1", early: true},
		{name: "unnumbered best default", host: "link 4 ppp0 kind ppp p2p\nroute default dev ppp0 metric 5"},
		{name: "tunnel that decides about sources", host: "link 4 tun0 kind tun p2p\nunbound 10.1.1.2 dev eth0"},
		{name: "best default by an address of the link alone", host: "link 4 eth2\naddr 10.1.3.2/24 dev eth2 scope link\nroute default via 10.1.3.1 dev eth2 metric 5"},
		{name: "address of the link alone", lease: "addr 10.1.2.2/24 dev eth1 scope link"},
		{name: "same subnet", host: "route 10.1.2.0/24 dev eth0 proto static"},
		{name: "same address", host: "addr 10.1.2.2/32 dev eth0"},
		{name: "its path table is in use", host: "route 10.9.0.0/16 via 10.1.1.1 dev eth0 table 100003 proto static"},
		{name: "error default", host: "route unreachable default metric 4000"},
		{name: "source of another's default", host: "route default via 10.1.1.9 dev eth0 metric 7 src 10.1.2.2"},
		{name: "rule about the address", host: "rule 1000: from 10.1.2.2 lookup 500"},
		{name: "endpoint on the address", host: "endpoint 10.1.2.2 id 9 signal"},
		{name: "one more endpoint than the limits allow", host: "endpoint 10.99.0.1 id 9 subflow"},
		{name: "second router", lease: "route default via 10.1.2.9 dev eth1 metric 300"},
		{name: "second address", lease: "addr 10.1.2.3/24 dev eth1"},
		{name: "route of the lease", lease: "route 10.77.0.0/16 via 10.1.2.1 dev eth1 proto dhcp"},
		{name: "hold", mod: func(in *Input, _ *Plan) { in.Hold = map[int]string{3: "flapping"} }},
		{name: "probe", mod: func(in *Input, _ *Plan) {
			in.Reach = map[netstate.LinkFamily]health.State{{Link: 3, Family: netstate.IPv4}: health.Silent}
		}},
		{name: "guard", mod: func(_ *Input, now *Plan) { now.Guard = &Guard{Link: 4} }},
		{name: "silent path", mod: func(_ *Input, now *Plan) { now.Waning = []Endpoint{{}} }},
		{name: "path of the link", mod: func(_ *Input, now *Plan) {
			now.Paths = append(now.Paths, Path{Link: 3, Family: netstate.IPv4})
		}},
		{name: "server", mod: func(in *Input, _ *Plan) { in.Config.Role = config.RoleServer }},
		{name: "both", mod: func(in *Input, _ *Plan) { in.Config.Role = config.RoleBoth }},
		{name: "no record", mod: func(in *Input, _ *Plan) { in.Owned.Known = false }},
		{name: "no Multipath TCP", mod: func(in *Input, _ *Plan) { in.Snapshot.MPTCP.Present = false }},
		{name: "last slot", mod: func(in *Input, _ *Plan) { in.Snapshot.MPTCP.MaxEndpoints = 2 }},
		{name: "no plan yet", mod: func(_ *Input, now *Plan) { *now = Plan{Guard: &Guard{}} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, after := iptext.MustSnapshot(earlyHost+c.host), iptext.MustSnapshot(earlyHost+c.host+earlyLease+c.lease)
			before.MPTCP = netstate.MPTCP{Present: true, Enabled: true, MaxEndpoints: 8, MaxLimit: 8}
			in := Input{Config: config.Default(), Snapshot: before, Owned: netstate.Ownership{Known: true}}
			now := Desired(in)
			if c.mod != nil {
				c.mod(&in, now)
			}
			var news []netstate.News
			for i := range after.Addrs {
				if a := &after.Addrs[i]; a.Link == 3 {
					news = append(news, netstate.News{Addr: a})
				}
			}
			for i := range after.Routes {
				if r := &after.Routes[i]; r.Link == 3 {
					news = append(news, netstate.News{Route: r})
				}
			}
			if p := Early(in, now, news); (p != nil) != c.early {
				t.Errorf("early: %v, wanted %v: %+v", p != nil, c.early, p)
			}
		})
	}
}
