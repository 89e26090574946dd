package chaos

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/subflowd/subflowd/pkg/status"
	"github.com/subflowd/subflowd/test/lab"
)

// TestFlaps has a link go down and up ten times a second, by its cable and by its administrator: bounded work, the other
// path is not touched, and this one is back within a minute of quiet.
func TestFlaps(t *testing.T) {
	wanted := 6 // the pauses double: enough to see them, and few enough to wait for the last
	if thorough {
		wanted = 600
	}
	for _, c := range []struct {
		name     string
		down, up func(*world)
	}{
		{
			"cable",
			func(w *world) { w.main.Router.IP("link set r1 down") },
			func(w *world) { w.main.Router.IP("link set r1 up") },
		},
		{
			"administrator",
			func(w *world) { w.main.Client.IP("link set eth1 down") },
			func(w *world) {
				w.main.Client.IP("link set eth1 up", "route add default via 10.1.2.1 dev eth1 metric 200")
				w.main.Client.IP("-6 addr add 2001:db8:2::2/64 dev eth1 nodad")
				w.main.Client.IP("-6 route add default via 2001:db8:2::1 dev eth1 metric 200")
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newSolo(t)
			w.main.A.Rate("20mbit")
			// The server refuses joins: all goes by the path that nobody touches.
			conn := w.main.Client.Dial(meanAddr+":5001", lab.From(w.main.A.Addr))
			calm := conn.Upload(2 * time.Second)
			m := w.main.Client.Monitor()
			upload := conn.StartUpload()
			work, begun := cpu(t, w.daemon.Pid), time.Now()
			flaps := 0
			for next := begun; flaps < wanted; flaps++ {
				c.down(w)
				next = next.Add(50 * time.Millisecond)
				time.Sleep(time.Until(next))
				c.up(w)
				next = next.Add(50 * time.Millisecond)
				time.Sleep(time.Until(next))
			}
			wall := time.Since(begun)
			work = cpu(t, w.daemon.Pid) - work
			r := upload.Stop(max(0, 3*time.Second-wall))
			lines := m.Stop()
			t.Logf("%d flaps in %v; the daemon computed %v; before %v; meanwhile %v; %d changes seen", flaps, wall, work, calm, r, len(lines))
			if work > wall/10+50*time.Millisecond {
				t.Errorf("the daemon computed %v in %v", work, wall)
			}
			// The other path's connection goes on as before. The machine may be busy: half of its rate is enough.
			if r.Err != nil || r.Mbps < calm.Mbps/2 {
				t.Errorf("the connection on the other path: %v %v, before %v", r, r.Err, calm)
			}
			for _, l := range lines {
				if strings.Contains(l, "mptcp 10.1.1.2") || strings.Contains(l, "mptcp 2001:db8:1::2") || touches(l) {
					t.Errorf("the other path was touched: %s", l)
				}
			}
			quietSince := time.Now()
			w.settle1("the link is quiet")
			back := time.Since(quietSince)
			var d status.Document
			w.main.Client.CtlJSON(&d, "status")
			t.Logf("back after %v; %d rounds, %d changes", back.Round(time.Millisecond), d.Counters.Rounds, d.Counters.Changes)
			if back > 65*time.Second {
				t.Errorf("the path was back %v after the last flap", back)
			}
			if d.Counters.Rounds > uint64(60*flaps+500) {
				t.Errorf("%d rounds for %d flaps", d.Counters.Rounds, flaps)
			}
		})
	}
}

// touches tells whether a line of ip monitor is about rules or path-table routes of the first link.
func touches(line string) bool {
	for _, part := range []string{"from 10.1.1.2 ", "from 2001:db8:1::2 ", "table 100002 "} {
		if strings.Contains(line+" ", part) {
			return true
		}
	}
	return false
}

// TestStorm makes thousands of address changes as fast as ip(8) can: the end state is exact within a second of the last,
// and memory stays bounded.
func TestStorm(t *testing.T) {
	t.Parallel()
	const changes = 15000
	w := newSolo(t)
	before := peak(t, w)
	var b strings.Builder
	for i := range changes / 2 {
		addr := fmt.Sprintf("10.%d.%d.%d/32", 200+i/62500, i/250%250, 1+i%250)
		fmt.Fprintf(&b, "addr add %s dev eth1\naddr del %s dev eth1\n", addr, addr)
	}
	b.WriteString("addr add 10.66.0.2/24 dev eth1\naddr add 2001:db8:66::2/64 dev eth0 nodad\naddr del 2001:db8:2::2/64 dev eth1\n")
	work := cpu(t, w.daemon.Pid)
	took := batch(w.main.Client, b.String())
	last := time.Now()
	lab.Eventually(t, quiet, "the end state", w.judge)
	exact := time.Since(last)
	w.settle1("after the storm")
	var d status.Document
	w.main.Client.CtlJSON(&d, "status")
	t.Logf("%d changes in %v; exact %v after the last; the daemon computed %v in %d rounds; overflows %d; most memory %d KiB, before %d KiB",
		changes, took.Round(time.Millisecond), exact.Round(time.Millisecond), cpu(t, w.daemon.Pid)-work, d.Counters.Rounds, d.Counters.Overflows, peak(t, w), before)
	if exact > time.Second {
		t.Errorf("the end state was exact %v after the last change", exact)
	}
	if now := peak(t, w); now > before+16<<10 && os.Getenv("SUBFLOW_RACE") != "1" { // the detector itself takes some
		t.Errorf("the storm took %d KiB of memory", now-before)
	}
}

// peak is the most memory that the daemon has had, in KiB.
func peak(t testing.TB, w *world) int {
	t.Helper()
	out := w.main.Client.Run("grep", "VmHWM", fmt.Sprintf("/proc/%d/status", w.daemon.Pid))
	n := 0
	fmt.Sscan(strings.Fields(out)[1], &n)
	return n
}

// TestOverflow fills the socket of a daemon that does not run for a moment: lost events are noticed, and the end state is
// exact all the same.
func TestOverflow(t *testing.T) {
	t.Parallel()
	w := newSolo(t)
	w.stall()
	burst(w.main.Client, "eth1", 8000)
	w.main.Client.IP("addr add 10.66.0.2/24 dev eth1", "route replace default via 10.1.2.254 dev eth1 metric 200")
	burst(w.main.Client, "eth1", 2000)
	w.resume()
	w.settle1("after the overflow")
	var d status.Document
	w.main.Client.CtlJSON(&d, "status")
	if d.Counters.Overflows == 0 {
		t.Error("no event was lost: the test is too small")
	}
	t.Logf("%d overflows, %d full reads", d.Counters.Overflows, d.Counters.FullReads)
}
