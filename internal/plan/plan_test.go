package plan

import (
	"slices"
	"strings"
	"testing"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/netstate/iptext"
)

// text writes a plan as ip(8) would list what it wants.
func text(p *Plan, n netstate.Names) string {
	var lines []string
	for _, r := range p.Routes {
		lines = append(lines, "route "+r.Text(n))
	}
	for _, s := range p.RuleSets {
		for _, r := range s.Rules {
			lines = append(lines, iptext.RuleLine(r))
		}
	}
	for _, e := range p.Endpoints {
		lines = append(lines, "endpoint "+e.Text(n))
	}
	if p.Limits != nil {
		lines = append(lines, "limits "+p.Limits.Text())
	}
	for _, f := range p.Findings {
		lines = append(lines, "finding "+f.Code+" "+f.Object)
	}
	return strings.Join(lines, "\n")
}

// normal strips indentation and what the tests' cases leave out.
func normal(s string) string {
	var out []string
	for _, l := range strings.Split(s, "\n") {
		if l = strings.Join(strings.Fields(l), " "); l != "" {
			out = append(out, l)
		}
	}
	return strings.Join(out, "\n")
}

type planCase struct {
	name string
	have string
	mod  func(*Input)
	want string
	// only keeps the wanted lines that begin with one of these words; empty: all
	only []string
}

func (c planCase) run(t *testing.T) {
	t.Helper()
	snap := iptext.MustSnapshot(c.have)
	in := Input{Config: config.Default(), Snapshot: snap}
	if c.mod != nil {
		c.mod(&in)
	}
	got := normal(text(Desired(in), snap.Names()))
	if len(c.only) > 0 {
		var keep []string
		for _, l := range strings.Split(got, "\n") {
			if slices.ContainsFunc(c.only, func(w string) bool { return strings.HasPrefix(l, w) }) {
				keep = append(keep, l)
			}
		}
		got = strings.Join(keep, "\n")
	}
	if want := normal(c.want); got != want {
		t.Errorf("wanted:\n%s\n\nfound:\n%s", want, got)
	}
}

const twoSubnets = `
link 1 lo loopback
link 2 eth0
link 3 eth1
addr 10.1.1.2/24 dev eth0
addr 10.1.2.2/24 dev eth1
route 10.1.1.0/24 dev eth0 proto kernel src 10.1.1.2
route 10.1.2.0/24 dev eth1 proto kernel src 10.1.2.2
route default via 10.1.1.1 dev eth0 proto dhcp metric 100 src 10.1.1.2
route default via 10.1.2.1 dev eth1 proto dhcp metric 200
preferred 10.1.1.2 dev eth0
preferred 10.1.2.2 dev eth1
`

const oneSubnet = `
link 2 enp2s0
link 3 wlp3s0 type wlan
addr 192.168.0.37/24 dev enp2s0
addr 192.168.0.43/24 dev wlp3s0
addr 2001:db8::37/64 dev enp2s0
addr 2001:db8::a/64 dev enp2s0 temporary
addr 2001:db8::43/64 dev wlp3s0
route 192.168.0.0/24 dev enp2s0 proto kernel metric 100
route 192.168.0.0/24 dev wlp3s0 proto kernel metric 600
route default via 192.168.0.1 dev enp2s0 proto dhcp metric 100
route default via 192.168.0.1 dev wlp3s0 proto dhcp metric 600
route 2001:db8::/64 dev enp2s0 proto ra metric 100
route 2001:db8::/64 dev wlp3s0 proto ra metric 600
route fe80::/64 dev enp2s0 proto kernel
route fe80::/64 dev wlp3s0 proto kernel
route default via fe80::1 dev enp2s0 proto ra metric 100
route default via fe80::1 dev wlp3s0 proto ra metric 600
preferred 192.168.0.37 dev enp2s0
preferred 192.168.0.43 dev wlp3s0
preferred 2001:db8::a dev enp2s0
preferred 2001:db8::43 dev wlp3s0
`

func TestHosts(t *testing.T) {
	for _, c := range []planCase{
		{name: "two subnets", have: twoSubnets, want: `
			route 10.1.1.0/24 dev eth0 table 100002 proto 77
			route default via 10.1.1.1 dev eth0 table 100002 proto 77 metric 100
			route 10.1.2.0/24 dev eth1 table 100003 proto 77
			route default via 10.1.2.1 dev eth1 table 100003 proto 77 metric 200
			rule 32765: from 10.1.1.2 lookup main suppress_prefixlength 0 proto 77
			rule 32765: from 10.1.1.2 lookup 100002 proto 77
			rule 32765: from 10.1.2.2 lookup main suppress_prefixlength 0 proto 77
			rule 32765: from 10.1.2.2 lookup 100003 proto 77
			endpoint 10.1.1.2 dev eth0 subflow
			endpoint 10.1.2.2 dev eth1 subflow
			limits subflows 2 add_addr_accepted 4`},
		{name: "one subnet", have: oneSubnet, only: []string{"rule", "endpoint", "route"}, want: `
			route 192.168.0.0/24 dev enp2s0 table 100002 proto 77 metric 100
			route default via 192.168.0.1 dev enp2s0 table 100002 proto 77 metric 100
			route 192.168.0.0/24 dev wlp3s0 table 100003 proto 77 metric 600
			route default via 192.168.0.1 dev wlp3s0 table 100003 proto 77 metric 600
			route 2001:db8::/64 dev enp2s0 table 100002 proto 77 metric 100
			route fe80::/64 dev enp2s0 table 100002 proto 77 metric 1024
			route default via fe80::1 dev enp2s0 table 100002 proto 77 metric 100
			route 2001:db8::/64 dev wlp3s0 table 100003 proto 77 metric 600
			route fe80::/64 dev wlp3s0 table 100003 proto 77 metric 1024
			route default via fe80::1 dev wlp3s0 table 100003 proto 77 metric 600
			rule 32765: from 192.168.0.37 lookup 100002 suppress_prefixlength 0 proto 78
			rule 32765: from 192.168.0.37 lookup main suppress_prefixlength 0 proto 77
			rule 32765: from 192.168.0.37 lookup 100002 proto 77
			rule 32765: from 192.168.0.43 lookup 100003 suppress_prefixlength 0 proto 78
			rule 32765: from 192.168.0.43 lookup main suppress_prefixlength 0 proto 77
			rule 32765: from 192.168.0.43 lookup 100003 proto 77
			rule 32765: from 2001:db8::37 lookup 100002 suppress_prefixlength 0 proto 78
			rule 32765: from 2001:db8::37 lookup main suppress_prefixlength 0 proto 77
			rule 32765: from 2001:db8::37 lookup 100002 proto 77
			rule 32765: from 2001:db8::a lookup 100002 suppress_prefixlength 0 proto 78
			rule 32765: from 2001:db8::a lookup main suppress_prefixlength 0 proto 77
			rule 32765: from 2001:db8::a lookup 100002 proto 77
			rule 32765: from 2001:db8::43 lookup 100003 suppress_prefixlength 0 proto 78
			rule 32765: from 2001:db8::43 lookup main suppress_prefixlength 0 proto 77
			rule 32765: from 2001:db8::43 lookup 100003 proto 77
			endpoint 192.168.0.37 dev enp2s0 subflow
			endpoint 192.168.0.43 dev wlp3s0 subflow
			endpoint 2001:db8::a dev enp2s0 subflow
			endpoint 2001:db8::43 dev wlp3s0 subflow`},
	} {
		t.Run(c.name, c.run)
	}
}

func TestUplinks(t *testing.T) {
	const none = "limits subflows 2 add_addr_accepted 4"
	for _, c := range []planCase{
		{name: "no default route", have: "link 2 eth0\naddr 10.1.1.2/24 dev eth0\nroute 10.1.1.0/24 dev eth0 proto kernel", want: none},
		{name: "bridge port", have: "link 2 eth0 master 3 port bridge\nlink 3 br0 kind bridge\naddr 10.1.1.2/24 dev eth0\nroute default via 10.1.1.1 dev eth0", want: none},
		{name: "tunnel", have: "link 2 tun0 kind tun p2p\naddr 10.8.0.2/24 dev tun0\nroute default dev tun0", want: none},
		{name: "loopback default", have: "link 1 lo loopback\naddr 10.1.1.2/32 dev lo\nroute local default dev lo table 100\nrule 10: from all fwmark 0x1 lookup 100", want: none},
		{name: "tentative", have: "link 2 eth0\naddr 2001:db8::2/64 dev eth0 tentative\nroute default via fe80::1 dev eth0", want: none},
		{name: "expired", have: "link 2 eth0\naddr 2001:db8::2/64 dev eth0\nroute default via fe80::1 dev eth0 proto ra expired", want: none},
		{name: "marked table", have: "link 2 eth0\naddr 10.1.1.2/24 dev eth0\nroute default via 10.1.1.1 dev eth0 table 7\nrule 10: from all fwmark 0x1 lookup 7", want: none},
		{name: "vrf", have: "link 2 eth0 master 3 port vrf\nlink 3 red kind vrf\naddr 10.1.1.2/24 dev eth0\nroute default via 10.1.1.1 dev eth0 table 7\nrule 1000: from all l3mdev lookup 7", want: none},
		{
			name: "table by source",
			have: "link 2 eth0\naddr 10.1.1.2/24 dev eth0\nroute default via 10.1.1.1 dev eth0 table 7\nrule 10: from 10.1.1.0/24 lookup 7",
			only: []string{"rule", "route"}, want: `
				route default via 10.1.1.1 dev eth0 table 100002 proto 77 onlink
				rule 32765: from 10.1.1.2 lookup main suppress_prefixlength 0 proto 77
				rule 32765: from 10.1.1.2 lookup 100002 proto 77`,
		},
		{
			name: "lease", have: "link 2 eth0\naddr 10.1.1.2/24 dev eth0\nroute 10.1.1.0/24 dev eth0 proto kernel\nlease 10.1.1.1 dev eth0",
			only: []string{"route"}, want: `
				route 10.1.1.0/24 dev eth0 table 100002 proto 77
				route default via 10.1.1.1 dev eth0 table 100002 proto 77 metric 1024`,
		},
		{
			name: "several defaults of one metric", have: `
				link 2 eth0
				addr 2001:db8::2/64 dev eth0
				route default via fe80::3 dev eth0 proto ra pref low
				route default via fe80::1 dev eth0 proto ra
				route default via fe80::2 dev eth0 proto ra pref high`,
			only: []string{"route"}, want: `
				route default via fe80::2 dev eth0 table 100002 proto 77 metric 1024 pref high
				route default via fe80::1 dev eth0 table 100002 proto 77 metric 1025
				route default via fe80::3 dev eth0 table 100002 proto 77 metric 1026 pref low`,
		},
		{
			name: "ECMP of two links", have: `
				link 2 eth0
				link 3 eth1
				addr 10.1.1.2/24 dev eth0
				addr 10.1.2.2/24 dev eth1
				route default via 10.1.1.1 dev eth0 multipath
				route default via 10.1.2.1 dev eth1 multipath`,
			only: []string{"route"}, want: `
				route default via 10.1.1.1 dev eth0 table 100002 proto 77 onlink
				route default via 10.1.2.1 dev eth1 table 100003 proto 77 onlink`,
		},
		{
			name: "IPv4 by an IPv6 gateway", have: "link 2 eth0\naddr 10.1.1.2/32 dev eth0\nroute default via inet6 fe80::1 dev eth0",
			only: []string{"route"}, want: "route default via inet6 fe80::1 dev eth0 table 100002 proto 77",
		},
	} {
		t.Run(c.name, c.run)
	}
}

func TestCarrier(t *testing.T) {
	noCarrier := strings.Replace(twoSubnets, "link 2 eth0", "link 2 eth0 no-carrier", 1)
	both := strings.Replace(noCarrier, "link 3 eth1", "link 3 eth1 no-carrier", 1)
	for _, c := range []planCase{
		{
			name: "in grace: rules stay, endpoint goes", have: noCarrier, only: []string{"rule", "endpoint"},
			mod: func(in *Input) { in.Grace = map[int]bool{2: true} }, want: `
				rule 32765: from 10.1.1.2 lookup main suppress_prefixlength 0 proto 77
				rule 32765: from 10.1.1.2 lookup 100002 proto 77
				rule 32765: from 10.1.2.2 lookup main suppress_prefixlength 0 proto 77
				rule 32765: from 10.1.2.2 lookup 100003 proto 77
				endpoint 10.1.2.2 dev eth1 subflow`,
		},
		{name: "after grace: rules go", have: noCarrier, only: []string{"rule", "endpoint"}, want: `
				rule 32765: from 10.1.2.2 lookup main suppress_prefixlength 0 proto 77
				rule 32765: from 10.1.2.2 lookup 100003 proto 77
				endpoint 10.1.2.2 dev eth1 subflow`},
		{name: "no path left: rules stay", have: both, only: []string{"rule", "endpoint"}, want: `
				rule 32765: from 10.1.1.2 lookup main suppress_prefixlength 0 proto 77
				rule 32765: from 10.1.1.2 lookup 100002 proto 77
				rule 32765: from 10.1.2.2 lookup main suppress_prefixlength 0 proto 77
				rule 32765: from 10.1.2.2 lookup 100003 proto 77`},
		{
			name: "held back", have: twoSubnets, only: []string{"endpoint"},
			mod: func(in *Input) { in.Hold = map[int]string{3: "flapping"} }, want: `endpoint 10.1.1.2 dev eth0 subflow`,
		},
	} {
		t.Run(c.name, c.run)
	}
}

func TestLongestMatch(t *testing.T) {
	for _, c := range []planCase{
		{
			name: "container network inside a shared prefix", have: `
				link 2 eth0
				link 3 eth1
				link 4 docker0 kind bridge
				addr 172.16.0.2/12 dev eth0
				addr 172.16.0.3/12 dev eth1
				addr 172.17.0.1/16 dev docker0
				route 172.16.0.0/12 dev eth0 proto kernel
				route 172.16.0.0/12 dev eth1 proto kernel
				route 172.17.0.0/16 dev docker0 proto kernel
				route unreachable 172.18.0.0/16 metric 9
				route 10.0.0.0/8 via 172.16.0.9 dev eth0 proto static
				route default via 172.16.0.1 dev eth0 metric 1
				route default via 172.16.0.1 dev eth1 metric 2`,
			only: []string{"route"}, want: `
				route 172.16.0.0/12 dev eth0 table 100002 proto 77
				route 10.0.0.0/8 via 172.16.0.9 dev eth0 table 100002 proto 77
				route default via 172.16.0.1 dev eth0 table 100002 proto 77 metric 1
				route throw 172.17.0.0/16 table 100002 proto 77
				route throw 172.18.0.0/16 table 100002 proto 77
				route 172.16.0.0/12 dev eth1 table 100003 proto 77
				route default via 172.16.0.1 dev eth1 table 100003 proto 77 metric 2
				route throw 172.17.0.0/16 table 100003 proto 77
				route throw 172.18.0.0/16 table 100003 proto 77`,
		},
		{
			name: "error default in main", have: `
				link 2 eth0
				link 4 docker0 kind bridge
				addr 10.1.1.2/24 dev eth0
				addr 172.17.0.1/16 dev docker0
				route 10.1.1.0/24 dev eth0 proto kernel
				route 172.17.0.0/16 dev docker0 proto kernel
				route unreachable default metric 1
				route default via 10.1.1.1 dev eth0 metric 100`,
			want: `
				route 10.1.1.0/24 dev eth0 table 100002 proto 77
				route default via 10.1.1.1 dev eth0 table 100002 proto 77 metric 100
				route throw 172.17.0.0/16 table 100002 proto 77
				rule 32765: from 10.1.1.2 lookup 100002 proto 77
				endpoint 10.1.1.2 dev eth0 subflow
				limits subflows 2 add_addr_accepted 4
				finding error-default eth0`,
		},
	} {
		t.Run(c.name, c.run)
	}
}
