package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/subflowd/subflowd/pkg/status"
	"github.com/subflowd/subflowd/test/lab"
)

const (
	probeTarget  = "10.9.0.2:5002"
	probeServer  = "10.9.0.2:5001" // of the connections
	probeSetting = "[probe]\ntarget = \"" + probeTarget + "\"\ninterval = \"1s\"\n"
)

// tested is a client with a daemon that probes, and a server.
func tested(t *testing.T, opts ...lab.Option) (*lab.Net, *lab.Daemon) {
	t.Helper()
	n := lab.TwoSubnets(t, opts...)
	n.Server.Listen(probeServer)
	n.Server.Listen(probeTarget)
	d := n.Client.DaemonConfig(probeSetting)
	reach(n, n.A, n.B)
	d.WaitSocket()
	waitProbe(n, "eth0 answers", "eth1 answers")
	return n, d
}

// probes are the states of the paths in the status: "eth1 silent".
func probes(n *lab.Net) (states []string, codes []string) {
	n.T.Helper()
	var doc status.Document
	n.Client.CtlJSON(&doc, "status")
	for _, p := range doc.Paths {
		if p.Probe != nil && p.Family == status.IPv4 {
			states = append(states, p.Link+" "+string(p.Probe.State))
		}
	}
	for _, c := range doc.Conditions {
		codes = append(codes, c.Code+" "+c.Object)
	}
	slices.Sort(states)
	return states, codes
}

func waitProbe(n *lab.Net, want ...string) {
	n.T.Helper()
	lab.Eventually(n.T, 2*soon, "states of the paths", func() error {
		if found, _ := probes(n); !slices.Equal(found, want) {
			return fmt.Errorf("wanted %v, found %v", want, found)
		}
		return nil
	})
}

func wantEndpoints(n *lab.Net, want ...string) {
	n.T.Helper()
	lab.Eventually(n.T, 2*soon, "endpoints", func() error { return n.Client.CheckEndpoints(want...) })
}

// TestSilentPath: a path whose upstream is dead while its link is up loses its endpoint, its connections go on by the other
// path, and all come back with it.
func TestSilentPath(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name        string
		dead, alive func(n *lab.Net) *lab.Path
	}{
		{"the second", func(n *lab.Net) *lab.Path { return n.B }, func(n *lab.Net) *lab.Path { return n.A }},
		{"the first", func(n *lab.Net) *lab.Path { return n.A }, func(n *lab.Net) *lab.Path { return n.B }},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			n, d := tested(t)
			dead, alive := x.dead(n), x.alive(n)
			used, idle := n.Client.Dial(probeServer), n.Client.Dial(probeServer)
			used.WantSubflows("10.1.1.2", "10.1.2.2")
			idle.WantSubflows("10.1.1.2", "10.1.2.2")
			stop := used.Talk(t, soon)

			dead.Blackhole()
			waitProbe(n, sorted(alive.Dev+" answers", dead.Dev+" silent")...)
			// It goes with the proof that the idle connection can do without it.
			wantEndpoints(n, alive.Addr+" subflow dev "+alive.Dev, dead.Addr+" backup subflow dev "+dead.Dev)
			idle.WantEcho(soon)
			wantEndpoints(n, alive.Addr+" subflow dev "+alive.Dev)
			if _, codes := probes(n); !slices.Contains(codes, "path-silent "+dead.Dev) {
				t.Errorf("conditions %v", codes)
			}
			if r := n.Client.Ctl("status"); !strings.Contains(r.Stdout, "live, silent") {
				t.Errorf("status:\n%s", r.Stdout)
			}
			fresh := n.Client.Dial(probeServer, lab.From(alive.Addr))
			fresh.WantSubflows(alive.Addr)

			dead.Unblackhole()
			waitProbe(n, "eth0 answers", "eth1 answers")
			reach(n, n.A, n.B)
			for _, c := range []*lab.Conn{used, idle, fresh} {
				c.WantSubflows("10.1.1.2", "10.1.2.2")
			}
			stop()
			if _, codes := probes(n); len(codes) > 0 {
				t.Errorf("conditions %v", codes)
			}
			d.Stop()
		})
	}
}

func sorted(words ...string) []string {
	slices.Sort(words)
	return words
}

// TestSilentPathOfTheOnlySubflow: where the peer takes no joins, the endpoint of a silent path stays with the connections that
// have nothing else, as a backup, and they live on when the path does.
func TestSilentPathOfTheOnlySubflow(t *testing.T) {
	t.Parallel()
	n, d := tested(t, lab.RefuseJoins())
	c := n.Client.Dial(probeServer)
	c.WantSubflows("10.1.1.2")
	n.A.Blackhole()
	const wanes = "10.1.1.2 backup subflow dev eth0"
	wantEndpoints(n, wanes, "10.1.2.2 subflow dev eth1")
	lab.Never(t, 2*time.Second, "the connection's endpoint", func() error {
		// The other one may be made anew meanwhile, for the connection that lacks it.
		if found := n.Client.Endpoints(); !slices.Contains(found, wanes) {
			return fmt.Errorf("endpoints %v", found)
		}
		return nil
	})
	n.A.Unblackhole()
	c.WantEcho(soon)
	reach(n, n.A, n.B)
	d.Stop()
}

// TestTargetIsGone: where the target answers over no path, nothing changes, whether it comes and goes or stays away.
func TestTargetIsGone(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.IPv6())
	n.Server.Listen(probeServer)
	target := n.Server.Listen(probeTarget)
	d := n.Client.DaemonConfig(probeSetting)
	reach(n, n.A, n.B)
	waitProbe(n, "eth0 answers", "eth1 answers")
	c := n.Client.Dial(probeServer)
	c.WantSubflows("10.1.1.2", "10.1.2.2")
	stop := c.Talk(t, soon)
	before, lines := n.Client.Settled(), strings.Count(d.Log(), "info ip ")
	for range 3 {
		target.Close()
		waitProbe(n, "eth0 down", "eth1 down")
		if _, codes := probes(n); !slices.Contains(codes, "probe-unanswered probe.target") {
			t.Errorf("conditions %v", codes)
		}
		target = n.Server.Listen(probeTarget)
		waitProbe(n, "eth0 answers", "eth1 answers")
	}
	for _, p := range []*lab.Path{n.A, n.B} {
		p.Blackhole()
	}
	waitProbe(n, "eth0 down", "eth1 down")
	for _, p := range []*lab.Path{n.A, n.B} {
		p.Unblackhole()
	}
	waitProbe(n, "eth0 answers", "eth1 answers")
	stop()
	if after := n.Client.Settled(); after != before {
		t.Errorf("before and after:\n%s", lab.Diff(before, after))
	}
	if now := strings.Count(d.Log(), "info ip "); now != lines {
		t.Errorf("%d changes were made", now-lines)
	}
	c.WantSubflows("10.1.1.2", "10.1.2.2")
	d.Stop()
}

// TestLastPathIsSilent: a silent path is as good as any where the one that answers has lost its carrier.
func TestLastPathIsSilent(t *testing.T) {
	t.Parallel()
	n, d := tested(t)
	n.B.Blackhole()
	wantEndpoints(n, "10.1.1.2 subflow dev eth0")
	n.A.Cut()
	wantEndpoints(n, "10.1.2.2 subflow dev eth1")
	n.B.Unblackhole()
	n.A.Restore()
	reach(n, n.A, n.B)
	d.Configure("")
	lab.Eventually(t, soon, "no probe in the status", func() error {
		if found, _ := probes(n); len(found) > 0 {
			return fmt.Errorf("%v", found)
		}
		return nil
	})
	d.Stop()
}

// TestSilentByIPv6 has a target with an IPv6 address alone: the IPv4 paths are not touched.
func TestSilentByIPv6(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.IPv6())
	n.Server.Listen("[2001:db8:9::2]:5002")
	d := n.Client.DaemonConfig("[probe]\ntarget = \"[2001:db8:9::2]:5002\"\ninterval = \"1s\"\n")
	reach(n, n.A, n.B)
	four := []string{"10.1.1.2 subflow dev eth0", "10.1.2.2 subflow dev eth1"}
	n.B.Blackhole()
	wantEndpoints(n, append(four, "2001:db8:1::2 subflow dev eth0")...)
	lab.Eventually(t, soon, "the reason", func() error { // the view follows the change
		r := n.Client.Ctl("explain", "eth1")
		if text := strings.Join(strings.Fields(r.Stdout), " "); !strings.Contains(text, "does not reach the probe's target by IPv6, as other links do") {
			return fmt.Errorf("explain eth1:\n%s", r.Stdout)
		}
		return nil
	})
	n.B.Unblackhole()
	reach(n, n.A, n.B)
	d.Stop()
}

// TestSilentPathAcrossARestart: a daemon that starts beside a silent path takes it for good at first, and cuts nothing.
func TestSilentPathAcrossARestart(t *testing.T) {
	t.Parallel()
	n, d := tested(t, lab.RefuseJoins())
	c := n.Client.Dial(probeServer)
	c.WantSubflows("10.1.1.2")
	const wanes = "10.1.1.2 backup subflow dev eth0"
	n.A.Blackhole()
	wantEndpoints(n, wanes, "10.1.2.2 subflow dev eth1")
	d = d.Restart()
	d.WaitSocket()
	waitProbe(n, "eth0 silent", "eth1 answers")
	wantEndpoints(n, wanes, "10.1.2.2 subflow dev eth1")
	n.A.Unblackhole()
	c.WantEcho(soon)
	reach(n, n.A, n.B)
	d.Stop()
}

// TestNoTestsBesideAVPN: while a full tunnel is up nothing is tested, and afterwards it goes on.
func TestNoTestsBesideAVPN(t *testing.T) {
	t.Parallel()
	n, d := tested(t)
	n.VPN()
	n.Router.NFT("add table inet watch", "add counter inet watch tests",
		"add chain inet watch in { type filter hook prerouting priority -400; }",
		"add rule inet watch in iifname { r0, r1 } tcp dport 5002 tcp flags syn counter name tests")
	v := vpns[0]
	v.start(n)
	lab.Eventually(t, soon, "the guard", func() error {
		if _, codes := probes(n); !slices.Contains(codes, "vpn-guard tun0") {
			return fmt.Errorf("conditions %v", codes)
		}
		return nil
	})
	before := packets(n.Router, "tests")
	lab.Never(t, 3*time.Second, "tests", func() error {
		if now := packets(n.Router, "tests"); now != before {
			return fmt.Errorf("%d packets beside the tunnel", now-before)
		}
		return nil
	})
	if states, _ := probes(n); len(states) > 0 {
		t.Errorf("states %v", states)
	}
	// Nor does the probe by hand, with the daemon's word or without.
	for _, socket := range []string{n.Client.StateDir() + "/control.sock", "/nobody"} {
		r := n.Client.Ctl("--socket", socket, "probe", "--timeout", "200ms", probeTarget)
		if now := packets(n.Router, "tests"); now != before || strings.Contains(r.Stdout, "\n  bound ") {
			t.Errorf("%d packets beside the tunnel; probe by %s:\n%s%s", now-before, socket, r.Stdout, r.Stderr)
		}
	}
	v.stop(n)
	waitProbe(n, "eth0 answers", "eth1 answers")
	d.Stop()
}

// TestTargetWithoutAName: a name that cannot be looked up is reported and changes nothing; a target that can be takes its
// place without a restart.
func TestTargetWithoutAName(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	n.Server.Listen(probeTarget)
	d := n.Client.DaemonConfig("[probe]\ntarget = \"nobody.invalid:443\"\ninterval = \"1s\"\n")
	reach(n, n.A, n.B)
	lab.Eventually(t, 2*soon, "the condition", func() error {
		if _, codes := probes(n); !slices.Contains(codes, "probe-unresolved probe.target") {
			return fmt.Errorf("conditions %v", codes)
		}
		return nil
	})
	reach(n, n.A, n.B)
	d.Configure(probeSetting)
	waitProbe(n, "eth0 answers", "eth1 answers")
	if _, codes := probes(n); len(codes) > 0 {
		t.Errorf("conditions %v", codes)
	}
	d.Stop()
}

// TestProbeIsQuiet: while all is well the tests leave no line in the log, cause no round, and send little.
func TestProbeIsQuiet(t *testing.T) {
	t.Parallel()
	n, d := tested(t)
	var before, after status.Document
	n.Client.CtlJSON(&before, "status")
	lines := strings.Count(d.Log(), "\n")
	tx, _ := n.Client.LinkBytes("eth1")
	lab.Eventually(t, soon, "five more tests", func() error {
		n.Client.CtlJSON(&after, "status")
		if d := after.Paths[1].Probe.Tested.Sub(*before.Paths[1].Probe.Tested); d < 5*time.Second {
			return fmt.Errorf("last test %s after the first", d)
		}
		return nil
	})
	if found := strings.Count(d.Log(), "\n"); found != lines {
		t.Errorf("%d lines more in the log", found-lines)
	}
	if r := after.LastRound; r.Trigger == "probe" && after.Counters.Rounds > before.Counters.Rounds {
		t.Errorf("a round for nothing: %+v", r)
	}
	now, _ := n.Client.LinkBytes("eth1")
	if sent := now - tx; sent > 5000 {
		t.Errorf("%d bytes sent in five seconds", sent)
	}
	d.Stop()
}
