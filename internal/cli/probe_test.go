package cli

import (
	"testing"

	"github.com/subflowd/subflowd/pkg/status"
)

func TestProbeText(t *testing.T) {
	const long = "2001:db8:1234:5678:9abc:def0:1234:5678"
	r := status.ProbeReport{
		Target: "example.net:443",
		Verdict: []string{
			"IPv4: Multipath TCP works, and the connection stays on eth0 alone.",
			"IPv4: eth1: packets with the option of Multipath TCP vanish, and plain TCP gets through: a firewall drops them.",
		},
		Families: []status.ProbeFamily{
			{
				Family: status.IPv4, Address: "192.0.2.80:443",
				Connection: status.ProbeConnection{Link: "eth0", Source: "10.1.1.2", Outcome: status.ProbeMPTCP, HandshakeSeconds: 0.0123, EchoSeconds: 1.25},
				Joins:      []status.ProbeJoin{{Link: "eth1", Source: "10.1.2.2", Outcome: status.ProbeTimeout}},
				Paths: []status.ProbeConnection{
					{Link: "eth0", Source: "10.1.1.2", Outcome: status.ProbeMPTCP, HandshakeSeconds: 0.00012, EchoSeconds: 0.25},
					{Link: "eth1", Source: "10.1.2.2", Outcome: status.ProbeBlocked},
				},
			},
			{
				Family: status.IPv6, Address: "[2001:db8:ffff:eeee:dddd:cccc:bbbb:aaaa]:443",
				Connection: status.ProbeConnection{Source: long, Outcome: status.ProbeUnreachable},
				Paths:      []status.ProbeConnection{{Link: "enx00e04c680001\x1b", Outcome: status.ProbeFailed}},
			},
		},
	}
	golden(t, "probe.txt", probeText(&r, false))
}
