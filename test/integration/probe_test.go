package integration

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/subflowd/subflowd/pkg/status"
	"github.com/subflowd/subflowd/test/lab"
)

const probePort = ":9478"

// probing is a client with two paths, a daemon, and a server for its probes.
func probing(t *testing.T, config string, opts ...lab.Option) *lab.Net {
	t.Helper()
	n := lab.TwoSubnets(t, append([]lab.Option{lab.IPv6()}, opts...)...)
	d := n.Client.DaemonConfig(config)
	reach(n, n.A, n.B)
	d.WaitSocket()
	return n
}

// echoServer starts `subflowctl probe --serve` on the server.
func echoServer(n *lab.Net, args ...string) *lab.Proc {
	n.T.Helper()
	p := n.Server.Start(lab.Bin(n.T, "subflowctl"), append([]string{"probe", "--serve"}, args...)...)
	lab.Eventually(n.T, soon, "server", func() error {
		if !strings.Contains(p.Log(), "listening on ") {
			return fmt.Errorf("log: %s", p.Log())
		}
		return nil
	})
	return p
}

// probed runs a probe and returns the lines of the report, one for each attempt, and the verdict.
func probed(n *lab.Net, code int, args ...string) (lines, verdict string) {
	n.T.Helper()
	r := n.Client.Ctl(append([]string{"-o", "json", "probe"}, args...)...)
	var report status.ProbeReport
	if err := json.Unmarshal([]byte(r.Stdout), &report); err != nil {
		n.T.Fatalf("probe %v: exit status %d: %v\n%s%s", args, r.Code, err, r.Stdout, r.Stderr)
	}
	if r.Code != code || report.OK != (code == 0) {
		n.T.Errorf("probe %v: exit status %d, wanted %d; ok is %v", args, r.Code, code, report.OK)
	}
	var b strings.Builder
	for _, f := range report.Families {
		fmt.Fprintf(&b, "%s unbound %s %s\n", f.Family, f.Connection.Link, f.Connection.Outcome)
		for _, j := range f.Joins {
			fmt.Fprintf(&b, "%s join %s %s\n", f.Family, j.Link, j.Outcome)
		}
		for _, p := range f.Paths {
			fmt.Fprintf(&b, "%s bound %s %s\n", f.Family, p.Link, p.Outcome)
		}
	}
	return strings.TrimSpace(b.String()), strings.Join(report.Verdict, "\n")
}

func wantProbe(n *lab.Net, code int, wantLines, wantVerdict string, args ...string) {
	n.T.Helper()
	lines, verdict := probed(n, code, args...)
	if d := lab.Diff(strings.TrimSpace(wantLines), lines); wantLines != "" && strings.TrimSpace(wantLines) != lines {
		n.T.Errorf("attempts, wanted (-) and found (+):\n%s", d)
	}
	if !strings.Contains(verdict, wantVerdict) {
		n.T.Errorf("verdict:\n%s\nlacks: %s", verdict, wantVerdict)
	}
}

func TestProbeHealthy(t *testing.T) {
	t.Parallel()
	n := probing(t, "")
	echoServer(n)
	for _, x := range []struct{ family, target, word string }{{"ipv4", n.ServerAddr, "IPv4"}, {"ipv6", "[" + n.ServerAddr6 + "]", "IPv6"}} {
		lines := strings.ReplaceAll("F unbound eth0 mptcp\nF join eth1 joined\nF bound eth0 mptcp\nF bound eth1 mptcp", "F", x.family)
		wantProbe(n, 0, lines, x.word+": Multipath TCP works; one connection uses eth0 and eth1.", x.target+probePort)
	}
}

// TestProbeTellsApart has each fault on a host of its own; the probe is by IPv4 but where the case says otherwise.
func TestProbeTellsApart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		config  string
		opts    []lab.Option
		fault   func(n *lab.Net)
		target  string
		lines   string
		verdict string
	}{
		{
			name:  "a server of plain TCP",
			fault: func(n *lab.Net) { n.Server.Listen(n.ServerAddr+probePort, lab.TCP()) },
			lines: "ipv4 unbound eth0 fallback\nipv4 bound eth0 fallback\nipv4 bound eth1 fallback",
			verdict: "IPv4: no path has Multipath TCP: the answer was plain TCP: the server does not speak Multipath TCP, " +
				"or something before it takes the option away.",
		},
		{
			name:  "options stripped on one path",
			fault: func(n *lab.Net) { n.Server.Listen(n.ServerAddr + probePort); n.B.StripMPTCP() },
			lines: "ipv4 unbound eth0 mptcp\nipv4 join eth1 stripped\nipv4 bound eth0 mptcp\nipv4 bound eth1 stripped",
			verdict: "IPv4: Multipath TCP works, and the connection stays on eth0 alone.\n" +
				"IPv4: eth1: the option was lost on the way: over another path the server speaks Multipath TCP.",
		},
		{
			name:    "options stripped on both paths",
			fault:   func(n *lab.Net) { echoServer(n); n.A.StripMPTCP(); n.B.StripMPTCP() },
			lines:   "ipv4 unbound eth0 stripped\nipv4 bound eth0 stripped\nipv4 bound eth1 stripped",
			verdict: "IPv4: no path has Multipath TCP: the server speaks Multipath TCP, and the option was lost on the way.",
		},
		{
			name:   "options stripped by IPv6",
			fault:  func(n *lab.Net) { echoServer(n); n.B.StripMPTCP() },
			target: "[2001:db8:9::2]" + probePort,
			lines:  "ipv6 unbound eth0 mptcp\nipv6 join eth1 stripped\nipv6 bound eth0 mptcp\nipv6 bound eth1 stripped",
		},
		{
			name:    "joins dropped on one path",
			fault:   func(n *lab.Net) { n.Server.Listen(n.ServerAddr + probePort); dropOption(n.Router, "r1", "subtype 1") },
			lines:   "ipv4 unbound eth0 mptcp\nipv4 join eth1 timeout\nipv4 bound eth0 mptcp\nipv4 bound eth1 mptcp",
			verdict: "IPv4: eth1: the join got no answer, and a connection of its own over this path speaks Multipath TCP: a firewall on the way drops joins (MP_JOIN).",
		},
		{
			name:    "all with the option dropped on one path",
			fault:   func(n *lab.Net) { n.Server.Listen(n.ServerAddr + probePort); dropOption(n.Router, "r1", "exists") },
			lines:   "ipv4 unbound eth0 mptcp\nipv4 join eth1 timeout\nipv4 bound eth0 mptcp\nipv4 bound eth1 blocked",
			verdict: "IPv4: eth1: packets with the option of Multipath TCP vanish, and plain TCP gets through: a firewall drops them.",
		},
		{
			name:    "a server that takes no joins",
			opts:    []lab.Option{lab.RefuseJoins()},
			fault:   func(n *lab.Net) { n.Server.Listen(n.ServerAddr + probePort) },
			lines:   "ipv4 unbound eth0 mptcp\nipv4 join eth1 refused\nipv4 bound eth0 mptcp\nipv4 bound eth1 mptcp",
			verdict: "no joins are taken (on the server: ip mptcp limits).",
		},
		{
			name:    "nobody listens",
			fault:   func(*lab.Net) {},
			lines:   "ipv4 unbound  refused\nipv4 bound eth0 refused\nipv4 bound eth1 refused",
			verdict: "IPv4: 10.9.0.2:9478 cannot be reached over any path: the connection was refused: nobody listens there, or a firewall says so.",
		},
		{
			name:    "a dead path",
			fault:   func(n *lab.Net) { n.Server.Listen(n.ServerAddr + probePort); n.B.Blackhole() },
			lines:   "ipv4 unbound eth0 mptcp\nipv4 join eth1 timeout\nipv4 bound eth0 mptcp\nipv4 bound eth1 timeout",
			verdict: "IPv4: eth1: no answer.",
		},
		{
			name:    "a limit of no subflows here",
			config:  "limits = { subflows = 0, add_addr_accepted = 0 }\n",
			fault:   func(n *lab.Net) { n.Server.Listen(n.ServerAddr + probePort) },
			lines:   "ipv4 unbound eth0 mptcp\nipv4 join eth1 absent\nipv4 bound eth0 mptcp\nipv4 bound eth1 mptcp",
			verdict: "IPv4: eth1: no join was tried: the limit of this host is 0 further subflows (ip mptcp limits).",
		},
		{
			name:    "no Multipath TCP here",
			fault:   func(n *lab.Net) { n.Server.Listen(n.ServerAddr + probePort); n.Client.Sysctl("net.mptcp.enabled", "0") },
			verdict: "IPv4: no path has Multipath TCP: Multipath TCP is switched off on this host (sysctl net.mptcp.enabled).",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := probing(t, c.config, c.opts...)
			c.fault(n)
			target := c.target
			if target == "" {
				target = n.ServerAddr + probePort
			}
			wantProbe(n, 1, c.lines, c.verdict, "--timeout", "1s", target)
		})
	}
}

// dropOption has the router drop what comes by a link with an option of Multipath TCP.
func dropOption(router *lab.Host, dev, which string) {
	router.NFT("add table inet box", "add chain inet box through { type filter hook forward priority 0; }",
		"add rule inet box through iifname "+dev+" tcp option mptcp "+which+" drop")
}

// TestProbeUnprivileged: an ordinary user without a daemon sees the same.
func TestProbeUnprivileged(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	d := n.Client.Daemon()
	reach(n, n.A, n.B)
	d.Stop()
	echoServer(n)
	dir := n.TempDir()
	n.Client.Run("cp", lab.Bin(t, "subflowctl"), dir)
	cmd := n.Client.Command(filepath.Join(dir, "subflowctl"), "probe", n.ServerAddr+probePort)
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	p := n.Client.StartCommand(cmd)
	code := p.Wait(soon)
	if !strings.Contains(p.Log(), "IPv4: Multipath TCP works; one connection uses eth0 and eth1.") || code != 0 {
		t.Errorf("exit status %d\n%s", code, p.Log())
	}
}

func TestProbeWithoutHelp(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	for _, x := range []struct {
		name  string
		args  []string
		code  int
		words string
	}{
		{"a name that does not exist", []string{"probe", "--timeout", "300ms", "nobody.invalid:443"}, 1, "subflowctl: look up nobody.invalid: "},
		{"no endpoints", []string{"probe", n.ServerAddr + probePort}, 1, "IPv4: eth1: no endpoint is there to join from (ip mptcp endpoint; is subflowd running?)."},
		{"no such family", []string{"probe", "--family", "ipv6", n.ServerAddr + probePort}, 1, "it has no address of family ipv6"},
		{"no path in the family", []string{"probe", "[" + n.ServerAddr6 + "]" + probePort}, 1, "this host no path for it"},
	} {
		if x.name == "no endpoints" {
			n.Server.Listen(n.ServerAddr + probePort)
		}
		r := n.Client.Ctl(x.args...)
		text := strings.Join(strings.Fields(r.Stdout+r.Stderr), " ")
		if r.Code != x.code || !strings.Contains(text, x.words) {
			t.Errorf("%s: exit status %d\n%s%s", x.name, r.Code, r.Stdout, r.Stderr)
		}
	}
}

// TestProbeServerEnds by its time and by a signal, both of which are as it should be.
func TestProbeServerEnds(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	p := echoServer(n, "--for", "200ms")
	if code := p.Wait(soon); code != 0 {
		t.Errorf("after its time: exit status %d\n%s", code, p.Log())
	}
	p = echoServer(n, n.ServerAddr+":5001")
	n.Client.Dial(n.ServerAddr + ":5001")
	lab.Eventually(t, soon, "line about the connection", func() error {
		if !strings.Contains(p.Log(), " came by mptcp") {
			return fmt.Errorf("log:\n%s", p.Log())
		}
		return nil
	})
	if code := p.Stop(); code != 0 {
		t.Errorf("after a signal: exit status %d\n%s", code, p.Log())
	}
	if r := n.Server.Ctl("probe", "--serve", "192.0.2.1:80"); r.Code != 1 || !strings.Contains(r.Stderr, "listen on 192.0.2.1:80: ") {
		t.Errorf("an address of nobody: exit status %d\n%s", r.Code, r.Stderr)
	}
}
