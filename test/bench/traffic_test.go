//go:build bench

package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

const port = ":5001"

// prepared is a client whose kernel holds what the daemon wants, with the daemon or, as the control, without it.
func prepared(t *testing.T, follow bool, opts ...lab.Option) *lab.Net {
	t.Helper()
	n := lab.TwoSubnets(t, opts...)
	if follow {
		n.Client.Daemon("--log-level", "info")
	} else if r := n.Client.Subflowd("--once"); r.Code != 0 {
		t.Fatalf("subflowd --once: exit status %d: %s", r.Code, r.Stderr)
	}
	lab.Eventually(t, giveUp, "both uplinks", func() error { return n.CheckUplinks("subflow", n.A, n.B) })
	n.Server.Listen(n.ServerAddr + port)
	return n
}

// TestDeadPath measures how long a stream stands still when its path dies, with the daemon and without it.
func TestDeadPath(t *testing.T) {
	ours, control := prepared(t, true, lab.Rate("20mbit")), prepared(t, false, lab.Rate("20mbit"))
	for _, c := range []struct {
		name            string
		kill, resurrect func(*lab.Path)
	}{
		{"carrier loss", func(p *lab.Path) { p.Cut() }, func(p *lab.Path) { p.Restore() }},
		{"packets vanish", func(p *lab.Path) { p.Blackhole() }, func(p *lab.Path) { p.Unblackhole() }},
	} {
		stalls := map[*lab.Net]samples{}
		for range repetitions(9) {
			for _, n := range []*lab.Net{ours, control} {
				stalls[n] = append(stalls[n], stallOf(t, n, c.kill, c.resurrect))
			}
		}
		mine, other := stalls[ours].median(), stalls[control].median()
		t.Logf("%s: stalls with the daemon %v, without %v", c.name, stalls[ours], stalls[control])
		// A tenth is what repetitions of the control differ by among themselves.
		report(t, "stream off a dead path ("+c.name+"): without the daemon", short(mine), short(other), ofTimes(mine, other), 1.1)
	}
}

func stallOf(t *testing.T, n *lab.Net, kill, resurrect func(*lab.Path)) time.Duration {
	t.Helper()
	c := n.Client.Dial(n.ServerAddr + port)
	defer c.Close()
	c.WantEcho(giveUp)
	c.WantSubflows(n.A.Addr, n.B.Addr)
	up := c.StartUpload()
	lab.Eventually(t, giveUp, "the stream flows", func() error {
		if n := up.Bytes(); n < 1<<20 {
			return fmt.Errorf("%d bytes so far", n)
		}
		return nil
	})
	kill(n.A)
	r := up.Stop(2 * time.Second)
	resurrect(n.A)
	if r.Err != nil {
		t.Errorf("the stream broke: %v", r.Err)
	}
	lab.Eventually(t, giveUp, "both uplinks again", func() error { return n.CheckUplinks("subflow", n.A, n.B) })
	return r.Stall
}

// TestOthersUndisturbed measures what a connection notices of changes to another path: a third uplink comes and goes all
// the time. In the control, ip commands make and remove its endpoint, so that what the kernel does by itself counts for
// both.
func TestOthersUndisturbed(t *testing.T) {
	ours, control := prepared(t, true), prepared(t, false)
	worst := map[*lab.Net]samples{}
	for _, n := range []*lab.Net{ours, control} {
		lab.Veth(n.Client, "eth2", n.Router, "r2")
		n.Client.WaitCarrier("eth2", true)
	}
	for range repetitions(10) {
		for _, n := range []*lab.Net{ours, control} {
			worst[n] = append(worst[n], slowestEcho(t, n, n == control))
		}
	}
	// The best quarter: on a busy machine the rest is waiting for a processor.
	mine, other := worst[ours].quantile(0.25), worst[control].quantile(0.25)
	t.Logf("slowest echoes with the daemon %v, by hand %v", worst[ours], worst[control])
	report(t, "slowest echo while another path changes: by hand, and 1 ms", short(mine), short(other), ofTimes(mine, other+time.Millisecond), 1)
}

// slowestEcho asks all the time while the third uplink comes and goes ten times.
func slowestEcho(t *testing.T, n *lab.Net, byHand bool) time.Duration {
	t.Helper()
	up := []string{"addr add 10.1.3.2/24 dev eth2", "route add default via 10.1.3.1 dev eth2 metric 300"}
	down := []string{"addr del 10.1.3.2/24 dev eth2"}
	if byHand {
		up = append(up, "mptcp endpoint add 10.1.3.2 dev eth2 subflow id 99")
		down = append(down, "mptcp endpoint delete id 99")
	}
	c := n.Client.Dial(n.ServerAddr + port)
	defer c.Close()
	c.WantEcho(giveUp)
	c.WantSubflows(n.A.Addr, n.B.Addr)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 10 {
			n.Client.IP(up...)
			time.Sleep(30 * time.Millisecond)
			n.Client.IP(down...)
			time.Sleep(30 * time.Millisecond)
		}
	}()
	var slowest time.Duration
	for {
		select {
		case <-done:
			return slowest
		default:
		}
		begun := time.Now()
		if err := c.Echo(giveUp); err != nil {
			t.Fatalf("a connection was cut by changes to another path: %v", err)
		}
		slowest = max(slowest, time.Since(begun))
	}
}
