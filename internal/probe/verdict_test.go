package probe

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/pkg/status"
)

// made is an attempt in words: "eth0 mptcp", with what the server said behind it.
func made(text string) *attempt {
	w := strings.Fields(text)
	a := &attempt{asked: true, ProbeConnection: status.ProbeConnection{Link: w[0], Outcome: status.ProbeOutcome(w[1])}}
	switch a.Outcome {
	case status.ProbeMPTCP, status.ProbeFallback:
		a.HandshakeSeconds = 0.01
	}
	if a.Link == "-" {
		a.Link = ""
	}
	if len(w) > 2 {
		a.spoke = w[2]
	}
	return a
}

func join(text string) status.ProbeJoin {
	w := strings.SplitN(text, " ", 3)
	j := status.ProbeJoin{Link: w[0], Outcome: status.ProbeOutcome(w[1])}
	if len(w) > 2 {
		j.Text = w[2]
	}
	return j
}

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		name         string
		main         string
		joins, paths []string
		alone        string
		ok           bool
		want         string
	}{
		{
			"all well", "eth0 mptcp",
			[]string{"eth1 joined"},
			[]string{"eth0 mptcp", "eth1 mptcp"},
			"", true,
			"IPv4: Multipath TCP works; one connection uses eth0 and eth1.",
		},
		{"one path", "eth0 mptcp", nil, []string{"eth0 mptcp"}, "", true, "IPv4: Multipath TCP works; there is one path only, eth0."},
		{"a full tunnel", "tun0 mptcp", nil, nil, "tun0 carries everything", true, "IPv4: Multipath TCP works; tun0 carries everything."},
		{
			"no endpoints", "eth0 mptcp", nil,
			[]string{"eth0 mptcp", "eth1 mptcp"},
			"", false,
			"IPv4: Multipath TCP works, and the connection stays on eth0 alone.\n" +
				"IPv4: eth1: no endpoint is there to join from (ip mptcp endpoint; is subflowd running?).",
		},
		{
			"the way back", "eth0 fallback mptcp", nil,
			[]string{"eth0 fallback mptcp"},
			"", false,
			"IPv4: no path has Multipath TCP: the server took the connection for Multipath TCP, and its answer lost the option on the way back.",
		},
		{
			"a server without", "eth0 fallback", nil,
			[]string{"eth0 fallback", "eth1 fallback"},
			"", false,
			"IPv4: no path has Multipath TCP: the answer was plain TCP: the server does not speak Multipath TCP, or something before it takes the option away.",
		},
		{
			"the best path is dead", "- timeout", nil,
			[]string{"eth0 timeout", "eth1 mptcp"},
			"", false,
			"IPv4: an ordinary connection, which the host sends where its routes lead, fails: no answer.\nIPv4: eth0: no answer.",
		},
		{
			"joins dropped", "eth0 mptcp",
			[]string{"eth1 timeout"},
			[]string{"eth0 mptcp", "eth1 mptcp"},
			"", false,
			"IPv4: Multipath TCP works, and the connection stays on eth0 alone.\n" +
				"IPv4: eth1: the join got no answer, and a connection of its own over this path speaks Multipath TCP: a firewall on the way drops joins (MP_JOIN).",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := facts{family: netstate.IPv4, server: netip.MustParseAddrPort("10.9.0.2:443"), tested: true, alone: c.alone, main: made(c.main)}
			for _, j := range c.joins {
				f.joins = append(f.joins, join(j))
			}
			for _, p := range c.paths {
				f.paths = append(f.paths, made(p))
			}
			r := status.ProbeReport{Target: "example.net:443"}
			judge(&r, []facts{{family: netstate.IPv6}, f})
			want := c.want + "\nIPv6 was not tested: example.net:443 has such an address, and this host no path for it."
			if found := strings.Join(r.Verdict, "\n"); found != want || r.OK != c.ok {
				t.Errorf("ok %v, wanted %v\nfound:\n%s\nwanted:\n%s", r.OK, c.ok, found, want)
			}
		})
	}
}

func TestNothingTested(t *testing.T) {
	r := status.ProbeReport{Target: "example.net:443"}
	judge(&r, []facts{{family: netstate.IPv6}})
	if r.OK {
		t.Errorf("ok with nothing tested: %v", r.Verdict)
	}
}

// TestBlackhole: the kernel that has stopped asking is no fault of the server.
func TestBlackhole(t *testing.T) {
	a := made("eth0 fallback")
	a.asked = false
	a.explain(true)
	if a.Outcome != status.ProbeFallback || !strings.Contains(a.Text, "net.mptcp.blackhole_timeout") {
		t.Errorf("%s: %s", a.Outcome, a.Text)
	}
}
