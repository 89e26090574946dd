//go:build bench

package bench

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/subflowd/subflowd/pkg/status"
	"github.com/subflowd/subflowd/test/lab"
)

// TestManyConnectionsShown lists a thousand connections of four subflows each, beside ss(8), which joins nothing.
func TestManyConnectionsShown(t *testing.T) {
	n := size("SUBFLOW_BENCH_SHOWN", 1000)
	net := lab.TwoSubnets(t)
	net.Client.IP("addr add 10.1.1.3/24 dev eth0", "addr add 10.1.2.3/24 dev eth1", "mptcp limits set subflows 8 add_addr_accepted 8")
	net.Server.IP("mptcp limits set subflows 8 add_addr_accepted 8")
	d := net.Client.DaemonConfig("[[link]]\nname = \"*\"\naddresses = \"all\"\n", "--log-level", "info")
	d.WaitSocket()
	lab.Eventually(t, giveUp, "four endpoints", func() error {
		if e := net.Client.Endpoints(); len(e) != 4 {
			return fmt.Errorf("%q", e)
		}
		return nil
	})
	net.Server.Listen(net.ServerAddr + port)
	var wg sync.WaitGroup
	for w := range 20 {
		wg.Go(func() {
			for i := w; i < n; i += 20 {
				if c, err := net.Client.TryDial(net.ServerAddr + port); err != nil {
					t.Error(err)
				} else if err := c.Echo(giveUp); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var doc status.Connections
	lab.Eventually(t, giveUp, "four subflows of every connection", func() error {
		doc = status.Connections{}
		net.Client.CtlJSON(&doc, "connections", "--interval", "0")
		full := 0
		for _, c := range doc.Connections {
			if len(c.Subflows) == 4 {
				full++
			}
		}
		if full != n {
			return fmt.Errorf("%d of %d connections have four subflows", full, len(doc.Connections))
		}
		return nil
	})
	for _, l := range doc.Links {
		if strings.HasPrefix(l.Link, "eth") && l.Subflows != 2*n {
			t.Errorf("%s has %d subflows, wanted %d", l.Link, l.Subflows, 2*n)
		}
	}
	ss := timed(repetitions(10), 0, func() { net.Client.Run("ss", "-tinMH") })
	for _, args := range [][]string{{"status"}, {"connections"}, {"connections", "--interval", "0"}, {"-o", "json", "connections"}} {
		pause := time.Duration(0)
		if args[0] == "status" {
			pause = spoilt
		}
		took := timed(repetitions(10), pause, func() {
			if r := net.Client.Ctl(args...); r.Code != 0 {
				t.Fatalf("subflowctl %v: %d: %s", args, r.Code, r.Stderr)
			}
		})
		what := fmt.Sprintf("%d connections of 4 subflows: subflowctl %s", n, strings.Join(args, " "))
		limit := 1.0
		if args[0] == "-o" {
			limit = 0
		}
		report(t, what, short(took.median()), "100 ms", ofTimes(took.median(), 100*time.Millisecond), limit)
		report(t, what+" beside ss -tinMH", short(took.median()), short(ss.median()), ofTimes(took.median(), ss.median()), 0)
	}
	topCost(t, net.Client, d, n)
}

// spoilt is longer than the daemon answers from what it looked at for somebody else.
const spoilt = 1100 * time.Millisecond

// timed is how long a program takes, with its start.
func timed(n int, pause time.Duration, run func()) samples {
	var took samples
	for range n {
		time.Sleep(pause)
		begun := time.Now()
		run()
		took = append(took, time.Since(begun))
	}
	return took
}
