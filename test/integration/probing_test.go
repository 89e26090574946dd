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
			stop := talk(t, used)

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
	wantEndpoints(n, "10.1.1.2 backup subflow dev eth0", "10.1.2.2 subflow dev eth1")
	lab.Never(t, 2*time.Second, "the connection's endpoint", func() error {
		return n.Client.CheckEndpoints("10.1.1.2 backup subflow dev eth0", "10.1.2.2 subflow dev eth1")
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
	stop := talk(t, c)
	before, lines := snapshot(n.Client), strings.Count(d.Log(), "info ip ")
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
	if after := snapshot(n.Client); after != before {
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
