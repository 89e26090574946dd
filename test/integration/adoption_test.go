package integration

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

// TestStopAndStart ends the daemon in both ways and starts it again: the kernel sees not one change, and connections
// keep their subflows.
func TestStopAndStart(t *testing.T) {
	t.Parallel()
	for _, h := range []struct {
		name string
		make func(testing.TB, ...lab.Option) *lab.Net
	}{{"two subnets", lab.TwoSubnets}, {"one subnet", lab.OneSubnet}} {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			n := h.make(t, lab.IPv6(), lab.ArpIgnore())
			// A network inside of the first one is thrown back to main, if the two links share it.
			n.Client.IP("link add br-test type bridge", "addr add 192.168.0.129/25 dev br-test", "link set br-test up")
			d := n.Client.Daemon()
			lab.Eventually(t, soon, "the paths", func() error { return n.CheckUplinks("subflow", n.A, n.B) })
			settled(d)
			c := dial(n, "10.9.0.2:5001", n.A.Addr, n.B.Addr)
			subflows := c.Ends()

			m := n.Client.Monitor()
			before := n.Client.Settled()
			d.Stop()
			n.Client.WantSnapshot(before)
			d = d.Restart()
			settled(d)
			d.Kill()
			n.Client.WantSnapshot(before)
			d = d.Restart()
			settled(d)
			if r := n.Client.Subflowd("--version"); r.Code != 0 {
				t.Errorf("--version: exit status %d: %s", r.Code, r.Stderr)
			}
			m.WantNone()
			n.Client.WantSnapshot(before)
			if now := c.Ends(); !slices.Equal(subflows, now) {
				t.Errorf("the connection had subflows %q and has %q", subflows, now)
			}
			c.WantEcho(soon)
		})
	}
}

// TestKilledWhileMaking kills the daemon at ten moments of its first work: what a started one finds half done becomes
// whole, with nothing twice, and is known as its own.
func TestKilledWhileMaking(t *testing.T) {
	t.Parallel()
	n := lab.OneSubnet(t, lab.IPv6(), lab.ArpIgnore())
	before := n.Client.Settled()
	begin := time.Now()
	d := n.Client.Daemon()
	reach(n, n.A, n.B)
	took := time.Since(begin)
	for i := range 10 {
		d.Kill()
		cleanup(n.Client)
		n.Client.WantSnapshot(before)
		d = n.Client.Daemon()
		time.Sleep(took * time.Duration(i+1) / 10)
		d.Kill()
		d = d.Restart()
		reach(n, n.A, n.B)
	}
	settled(d)
	d.Stop()
	cleanup(n.Client)
	n.Client.WantSnapshot(before)
}

// TestGoneWhileDead takes a link's address, another's route and a whole link away while no daemon runs.
func TestGoneWhileDead(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.IPv6())
	lab.Veth(n.Client, "eth2", n.Router, "r2")
	n.Router.IP("addr add 10.1.3.1/24 dev r2")
	n.Client.IP("addr add 10.1.3.2/24 dev eth2", "route add default via 10.1.3.1 dev eth2 metric 300")
	d := n.Client.Daemon()
	with := func() error {
		third := append(wanted(n, n.A, n.B), "endpoint 10.1.3.2 subflow dev eth2",
			"10.1.3.0/24 dev eth2 table "+tableOf(n.Client, "eth2")+" proto 77 scope link",
			"default via 10.1.3.1 dev eth2 table "+tableOf(n.Client, "eth2")+" proto 77 metric 300")
		return compare(append(third, ruleSet(n, "10.1.3.2", tableOf(n.Client, "eth2"))...), found(n.Client))
	}
	lab.Eventually(t, soon, "three paths", with)
	c := dial(n, "10.9.0.2:5001", n.A.Addr, n.B.Addr, "10.1.3.2")
	settled(d)

	d.Kill()
	n.Client.IP("link del eth2", "-6 route del default via 2001:db8:2::1 dev eth1", "addr del 10.1.2.2/24 dev eth1",
		"addr add 10.1.2.8/24 dev eth1", "route add default via 10.1.2.1 dev eth1 metric 200")
	n.B.Addr = "10.1.2.8"
	d = d.Restart()
	lab.Eventually(t, soon, "what is gone cleaned up", func() error {
		return compare(append(wanted(n, n.A), wanted4(n, n.B)...), found(n.Client))
	})
	waitSubflows(n, c, n.A.Addr, "10.1.2.8")

	// And the same after a stop: everything of the second link.
	d.Stop()
	n.Client.IP("addr flush dev eth1")
	d.Restart()
	reach(n, n.A)
	waitSubflows(n, c, n.A.Addr)
}

// TestGoneWhileDeadUnderConnection has a connection that cannot move on an address that went while no daemon ran: its
// endpoint lingers, also over the start, and goes with the connection.
func TestGoneWhileDeadUnderConnection(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.RefuseJoins())
	hasten(n.Server)
	d := n.Client.Daemon()
	reach(n, n.A, n.B)
	n.Server.Listen("10.9.0.2:5001")
	c := n.Client.Dial("10.9.0.2:5001", lab.From(n.B.Addr))
	c.WantSubflows(n.B.Addr)
	settled(d)

	d.Kill()
	n.Client.IP("addr del 10.1.2.2/24 dev eth1")
	d = d.Restart()
	lingering := func() error {
		return compare(append(wanted(n, n.A), "endpoint 10.1.2.2 subflow dev eth1"), found(n.Client))
	}
	lab.Eventually(t, soon, "the endpoint alone", lingering)
	lab.Never(t, 4*time.Second, "the endpoint stays", lingering)
	if out := n.Client.Ctl("status").Stdout; !strings.Contains(out, "10.1.2.2") {
		t.Errorf("the status does not name the endpoint that lingers:\n%s", out)
	}

	// The address returns: the connection goes on as if nothing had been.
	n.B.AddIPv4()
	n.B.AddDefault()
	reach(n, n.A, n.B)
	c.WantEcho(soon)
	wantFirst(t, c)

	d.Stop()
	n.Client.IP("addr del 10.1.2.2/24 dev eth1")
	d.Restart()
	lab.Eventually(t, soon, "the endpoint alone", lingering)
	_ = c.Close()
	// The end of the connection is answered only where the address is. Without a default route it is no path.
	n.B.AddIPv4()
	lab.Eventually(t, 30*time.Second, "the endpoint gone with its connection", func() error { return check(n, n.A) })
}

// TestCleanup restores the state from before the first start, byte for byte, limits included, after any kind of end.
func TestCleanup(t *testing.T) {
	t.Parallel()
	n := lab.OneSubnet(t, lab.IPv6(), lab.ArpIgnore())
	n.Client.IP("mptcp limits set subflows 3 add_addr_accepted 1", "mptcp endpoint add 10.250.0.1 id 9 signal",
		"rule add from 10.250.0.1 lookup 99 pref 32765", "rule add fwmark 3 lookup 98",
		"route add 10.250.1.0/24 via 192.168.0.1 dev wlp3s0 proto static")
	before := n.Client.Settled()
	// It is nothing to clean where nothing was.
	cleanup(n.Client)
	n.Client.WantSnapshot(before)

	for _, end := range []func(*lab.Daemon){(*lab.Daemon).Stop, func(d *lab.Daemon) { d.Kill() }} {
		d := n.Client.Daemon()
		lab.Eventually(t, soon, "the paths", func() error { return n.CheckSourceRouting(n.A, n.B) })
		settled(d)
		n.Client.WantLimits("add_addr_accepted 4 subflows 5")

		running := n.Client.Settled()
		r := n.Client.Subflowd("--cleanup")
		if r.Code != 1 || !strings.Contains(r.Stderr+r.Stdout, "running") && !strings.Contains(r.Stderr+r.Stdout, "runs") {
			t.Errorf("--cleanup beside a daemon: exit status %d, wanted 1 and a word about the daemon:\n%s%s", r.Code, r.Stdout, r.Stderr)
		}
		n.Client.WantSnapshot(running)
		d = d.Restart()
		settled(d)
		end(d)
		cleanup(n.Client)
		n.Client.WantSnapshot(before)
	}
}

// TestCleanupKeepsLimits: limits that somebody else has set meanwhile stay.
func TestCleanupKeepsLimits(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	before := n.Client.Settled()
	d := n.Client.Daemon()
	reach(n, n.A, n.B)
	settled(d)
	d.Stop()
	n.Client.IP("mptcp limits set subflows 7 add_addr_accepted 6")
	cleanup(n.Client)
	n.Client.WantLimits("add_addr_accepted 6 subflows 7")
	n.Client.IP("mptcp limits set subflows 2 add_addr_accepted 0")
	n.Client.WantSnapshot(before)
}

// TestOnce makes everything and exits, like a daemon that was stopped; a second run changes nothing.
func TestOnce(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.IPv6())
	before := n.Client.Settled()
	if r := n.Client.Subflowd("--once"); r.Code != 0 {
		t.Fatalf("--once: exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	if err := check(n, n.A, n.B); err != nil {
		t.Fatal(err)
	}
	m := n.Client.Monitor()
	if r := n.Client.Subflowd("--once"); r.Code != 0 {
		t.Fatalf("--once again: exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	d := n.Client.Daemon()
	settled(d)
	m.WantNone()
	d.Stop()
	cleanup(n.Client)
	n.Client.WantSnapshot(before)
}

func cleanup(h *lab.Host) {
	h.Lab.T.Helper()
	if r := h.Subflowd("--cleanup"); r.Code != 0 {
		h.Lab.Dump()
		h.Lab.T.Fatalf("--cleanup: exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
}
