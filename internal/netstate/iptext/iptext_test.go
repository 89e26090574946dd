package iptext

import (
	"testing"

	"github.com/subflowd/subflowd/internal/netstate"
)

const sample = `
link 1 lo loopback
link 2 eth0 kind veth
addr 10.1.1.2/24 dev eth0
addr fe80::1/64 dev eth0
addr 2001:db8::5/64 dev eth0 temporary deprecated
route default via 10.1.1.1 dev eth0 proto dhcp metric 100
route default via fe80::9 dev eth0 proto ra expires 30s
route 10.1.1.0/24 dev eth0 proto kernel
route throw 172.17.0.0/16 table 100002 proto 77
route default via inet6 fe80::9 dev eth0 metric 7
rule 32765: from 10.1.1.2 lookup main suppress_prefixlength 0 proto 77
rule 100: from all fwmark 0x1 lookup 51
endpoint 10.1.1.2 dev eth0 id 1 subflow backup
limits subflows 4 add_addr_accepted 4
preferred 10.1.1.2 dev eth0
`

func TestRoundTrip(t *testing.T) {
	s := MustSnapshot(sample)
	if len(s.Links) != 2 || len(s.Addrs) != 3 || len(s.Routes) != 5 || len(s.Endpoints) != 1 {
		t.Fatalf("read %d links, %d addresses, %d routes, %d endpoints", len(s.Links), len(s.Addrs), len(s.Routes), len(s.Endpoints))
	}
	if got := s.Routes[1]; got.Family != netstate.IPv6 || got.Metric != 1024 {
		t.Errorf("IPv6 default: family %v metric %d", got.Family, got.Metric)
	}
	text := Text(s)
	again := MustSnapshot("norules\nlink 1 lo loopback\nlink 2 eth0\n" + text)
	if got := Text(again); got != text {
		t.Errorf("text changed on the way\nwant:\n%s\nfound:\n%s", text, got)
	}
}

func TestStandingRulesAndOrder(t *testing.T) {
	s := MustSnapshot(sample)
	want := []string{
		"rule 0: from all lookup local proto kernel",
		"rule 100: from all fwmark 0x1 lookup 51 proto boot",
		"rule 32765: from 10.1.1.2 lookup main suppress_prefixlength 0 proto 77",
		"rule 32766: from all lookup main proto kernel",
		"rule 32767: from all lookup default proto kernel",
	}
	for i, w := range want {
		if got := RuleLine(s.Rules[i]); got != w {
			t.Errorf("rule %d\nwant:  %s\nfound: %s", i, w, got)
		}
	}
}

func TestBadLines(t *testing.T) {
	for _, line := range []string{"link x", "addr 1.2.3.4", "addr 10.0.0.1/24 dev nope", "route", "rule", "endpoint", "limits 3", "bogus", "mptcp slots x"} {
		if _, err := Snapshot(line); err == nil && line != "addr 1.2.3.4" {
			t.Errorf("%q was taken", line)
		}
	}
}
