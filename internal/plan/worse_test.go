package plan

import "testing"

// What the host does without us goes on: each case is a host on which source
// rules, or another gateway in them, would move traffic that works.
func TestNeverWorse(t *testing.T) {
	for _, c := range []planCase{
		{
			name: "main balances over two gateways of the link", have: `
				link 2 eth0
				addr 10.1.1.2/24 dev eth0
				route 10.1.1.0/24 dev eth0 proto kernel
				route default via 10.1.1.1 dev eth0 multipath
				route default via 10.1.1.9 dev eth0 multipath
				preferred 10.1.1.2 dev eth0`,
			only: []string{"rule", "endpoint"}, want: "endpoint 10.1.1.2 dev eth0 subflow",
		},
		{
			name: "the best default is on a link without address", have: `
				link 2 eth0
				link 3 ppp0 kind ppp p2p
				addr 10.1.1.2/24 dev eth0
				route default dev ppp0 metric 5
				route default via 10.1.1.1 dev eth0 metric 100
				unbound 10.1.1.2 dev ppp0
				preferred 10.1.1.2 dev eth0`,
			only: []string{"rule", "endpoint"}, want: "endpoint 10.1.1.2 dev eth0 subflow",
		},
		{
			name: "a table for another address of the link", have: `
				link 2 eth0
				addr 10.1.1.2/24 dev eth0
				addr 10.1.7.2/24 dev eth0
				route default via 10.1.1.1 dev eth0 metric 100
				route default via 10.1.7.1 dev eth0 table 7
				route 10.5.0.0/16 via 10.1.7.9 dev eth0 table 7
				rule 100: from 10.1.7.2 lookup 7`,
			only: []string{"route"}, want: `
				route default via 10.1.1.1 dev eth0 table 100002 proto 77 metric 100 onlink`,
		},
		{
			name: "what a default route says about connections", have: `
				link 2 eth0
				addr 10.1.1.2/24 dev eth0
				route default via 10.1.1.1 dev eth0 metric 100 initcwnd 20 hoplimit 33 rto_min 50ms initrwnd 30 congctl bbr`,
			only: []string{"route"}, want: `
				route default via 10.1.1.1 dev eth0 table 100002 proto 77 metric 100 onlink initcwnd 20 hoplimit 33 rto_min 50ms initrwnd 30 congctl bbr`,
		},
		{
			name: "a table behind main", have: `
				link 2 eth0
				addr 10.1.1.2/24 dev eth0
				route default via 10.1.1.1 dev eth0 metric 100
				route default via 10.1.1.9 dev eth0 table 7
				rule 32766: from all lookup 7`,
			only: []string{"route"}, want: `
				route default via 10.1.1.1 dev eth0 table 100002 proto 77 metric 100 onlink`,
		},
		{
			name: "all in a table behind an empty main", have: `
				link 2 eth0
				link 4 docker0 kind bridge
				addr 10.1.1.2/24 dev eth0
				addr 172.17.0.1/16 dev docker0
				route 10.1.1.0/24 dev eth0 table 7
				route 172.17.0.0/16 dev docker0 table 7
				route default via 10.1.1.1 dev eth0 table 7
				rule 40000: from all lookup 7`,
			only: []string{"route"}, want: `
				route 10.1.1.0/24 dev eth0 table 100002 proto 77
				route default via 10.1.1.1 dev eth0 table 100002 proto 77
				route throw 172.17.0.0/16 table 100002 proto 77`,
		},
		{
			name: "an address that no rule leads to the table of the link", have: `
				link 2 eth0
				link 3 eth1
				addr 10.1.1.2/24 dev eth0
				addr 10.1.7.2/24 dev eth0
				addr 10.1.2.2/24 dev eth1
				route default via 10.1.2.1 dev eth1
				route default via 10.1.7.1 dev eth0 table 7
				rule 100: from 10.1.7.2 lookup 7
				preferred 10.1.1.2 dev eth0
				preferred 10.1.2.2 dev eth1`,
			only: []string{"rule", "endpoint"}, want: `
				rule 32765: from 10.1.7.2 lookup main suppress_prefixlength 0 proto 77
				rule 32765: from 10.1.7.2 lookup 100002 proto 77
				rule 32765: from 10.1.2.2 lookup main suppress_prefixlength 0 proto 77
				rule 32765: from 10.1.2.2 lookup 100003 proto 77
				endpoint 10.1.7.2 dev eth0 subflow
				endpoint 10.1.2.2 dev eth1 subflow`,
		},
		{
			name: "a source-specific default beside another", have: `
				link 2 eth0
				addr 2001:db8:1::2/64 dev eth0
				addr 2001:db8:7::2/64 dev eth0
				route default via fe80::1 dev eth0 metric 100
				route default from 2001:db8:7::/64 via fe80::7 dev eth0 metric 200`,
			only: []string{"rule", "route"}, want: `
				route default via fe80::1 dev eth0 table 100002 proto 77 metric 100
				rule 32765: from 2001:db8:1::2 lookup main suppress_prefixlength 0 proto 77
				rule 32765: from 2001:db8:1::2 lookup 100002 proto 77`,
		},
		{
			name: "unbound traffic leaves with the address of another link", have: `
				link 2 eth0
				link 3 eth1
				addr 10.1.1.2/24 dev eth0
				addr 10.1.2.2/24 dev eth1
				route default via 10.1.1.1 dev eth0 metric 100 src 10.1.2.2
				route default via 10.1.2.1 dev eth1 metric 200 src 10.1.2.2`,
			only: []string{"rule"}, want: `
				rule 32765: from 10.1.1.2 lookup main suppress_prefixlength 0 proto 77
				rule 32765: from 10.1.1.2 lookup 100002 proto 77`,
		},
		{
			name: "one address on two links, the better without carrier", have: `
				link 2 eth0 no-carrier
				link 3 eth1
				addr 10.1.1.2/24 dev eth0
				addr 10.1.1.2/24 dev eth1
				route default via 10.1.1.1 dev eth0 metric 100 src 10.1.1.2
				route default via 10.1.1.1 dev eth1 metric 200 src 10.1.1.2`,
			only: []string{"rule", "endpoint"}, want: `
				rule 32765: from 10.1.1.2 lookup main suppress_prefixlength 0 proto 77
				rule 32765: from 10.1.1.2 lookup 100003 proto 77
				endpoint 10.1.1.2 dev eth1 subflow`,
		},
		{
			name: "only a worse default has the address of another link", have: `
				link 2 eth0
				link 3 eth1
				addr 10.1.1.2/24 dev eth0
				addr 10.1.2.2/24 dev eth1
				route default via 10.1.2.1 dev eth1 metric 100
				route default via 10.1.1.1 dev eth0 metric 200 src 10.1.2.2`,
			only: []string{"rule"}, want: `
				rule 32765: from 10.1.2.2 lookup main suppress_prefixlength 0 proto 77
				rule 32765: from 10.1.2.2 lookup 100003 proto 77
				rule 32765: from 10.1.1.2 lookup main suppress_prefixlength 0 proto 77
				rule 32765: from 10.1.1.2 lookup 100002 proto 77`,
		},
	} {
		t.Run(c.name, c.run)
	}
}

// A rule of others that decides about everything before ours is no mistake, but
// its effect must not be a riddle.
func TestOverruled(t *testing.T) {
	const host = `
		link 2 eth0
		link 4 tun0 kind tun
		addr 10.1.1.2/24 dev eth0
		route default via 10.1.1.1 dev eth0 metric 100
		route default via 10.1.1.9 dev eth0 table 7
		route 10.7.0.0/16 via 10.1.1.9 dev eth0 table 8
		`
	for _, c := range []planCase{
		{name: "a table with a default", have: host + "rule 100: from all lookup 7", want: "finding rules-overruled IPv4"},
		{name: "main itself", have: host + "rule 100: from all lookup main", want: "finding rules-overruled IPv4"},
		{name: "no default", have: host + "rule 100: from all lookup 8", want: ""},
		{name: "main without its defaults", have: host + "rule 100: from all lookup main suppress_prefixlength 0", want: ""},
		{name: "some traffic", have: host + "rule 100: from all fwmark 0x1 lookup 7\nrule 101: from 10.1.1.2 lookup 7", want: ""},
		{name: "behind ours", have: host + "rule 32766: from all lookup 7", want: ""},
	} {
		c.only = []string{"finding"}
		t.Run(c.name, c.run)
	}
}
