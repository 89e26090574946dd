package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

// byHand makes the client what the daemon would make of it.
func byHand(n *lab.Net) {
	n.T.Helper()
	for i, p := range []*lab.Path{n.A, n.B} {
		table := fmt.Sprint(200 + i)
		n.Client.IP("route add default via "+p.Gateway+" dev "+p.Dev+" table "+table, "rule add from "+p.Addr+" lookup "+table)
	}
	n.Client.IP("mptcp limits set subflows 2 add_addr_accepted 4",
		"mptcp endpoint add 10.1.1.2 dev eth0 subflow", "mptcp endpoint add 10.1.2.2 dev eth1 subflow")
}

// untouched tells whether subflows that there were are there still.
func untouched(c *lab.Conn, before []string) error {
	after := c.Ends()
	for _, s := range before {
		if !slices.Contains(after, s) {
			return fmt.Errorf("subflows before %v, after %v", before, after)
		}
	}
	return nil
}

// TestOpenedBeforeItsSecondPath: a connection that was opened before its second path was there gets its second subflow,
// idle or not, and its first one stays as it is.
func TestOpenedBeforeItsSecondPath(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		opts   []lab.Option
		daemon bool // runs when the connection is opened
		quiet  bool // nothing is sent before all is as it should be
		come   func(n *lab.Net)
	}{
		{"a late route", []lab.Option{lab.NoDefault("eth1")}, true, false, func(n *lab.Net) { n.B.AddDefault() }},
		{"a cable", nil, true, false, func(n *lab.Net) { n.B.Restore() }},
		{"a late daemon", nil, false, false, func(n *lab.Net) { n.Client.Daemon() }},
		{"a late daemon, nothing sent", nil, false, true, func(n *lab.Net) { n.Client.Daemon() }},
		{"a late route, nothing sent", []lab.Option{lab.NoDefault("eth1")}, true, true, func(n *lab.Net) { n.B.AddDefault() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := lab.TwoSubnets(t, c.opts...)
			n.Server.Listen("10.9.0.2:5001")
			if c.name == "a cable" {
				n.B.Cut()
			}
			if c.daemon {
				n.Client.Daemon()
				lab.Eventually(t, soon, "the first path", func() error { return n.Client.CheckEndpoints("10.1.1.2 subflow dev eth0") })
			}
			conn := n.Client.Dial("10.9.0.2:5001")
			if !c.quiet {
				conn.WantEcho(soon)
			}
			before := conn.Ends()
			c.come(n)
			reach(n, n.A, n.B)
			if c.quiet {
				conn.WantEcho(soon)
			}
			lab.Eventually(t, soon, "the second subflow", func() error { return conn.CheckSubflows(n.A.Addr, n.B.Addr) })
			if err := untouched(conn, before); err != nil {
				t.Error(err)
			}
			reach(n, n.A, n.B) // nothing is left of what it took
			wantNoCondition(n.Client, "foreign-endpoint")
		})
	}
	t.Run("without subflowd", func(t *testing.T) {
		t.Parallel()
		n := lab.TwoSubnets(t)
		n.Server.Listen("10.9.0.2:5001")
		conn := n.Client.Dial("10.9.0.2:5001")
		byHand(n)
		lab.Never(t, 3*time.Second, "the connection stays on one path", func() error {
			conn.WantEcho(soon)
			return conn.CheckSubflows(n.A.Addr)
		})
	})
}

// TestLimitsRaisedLate: a connection that was opened under limits that let nothing join.
func TestLimitsRaisedLate(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	n.Server.Listen("10.9.0.2:5001")
	d := n.Client.DaemonConfig("limits = { subflows = 0, add_addr_accepted = 0 }\n")
	reach(n, n.A, n.B)
	conn := n.Client.Dial("10.9.0.2:5001")
	conn.WantSubflows(n.A.Addr)
	before := conn.Ends()
	d.Configure("")
	lab.Eventually(t, soon, "the second subflow", func() error { return conn.CheckSubflows(n.A.Addr, n.B.Addr) })
	if err := untouched(conn, before); err != nil {
		t.Error(err)
	}
}

// TestCablePutBack: in the middle of a transfer the cable of a path is pulled and put back, several times and after
// different times. The path carries again.
func TestCablePutBack(t *testing.T) {
	t.Parallel()
	for _, which := range []string{"eth0", "eth1"} {
		t.Run(which, func(t *testing.T) {
			t.Parallel()
			n := lab.TwoSubnets(t, lab.Rate("10mbit"))
			n.Server.Listen("10.9.0.2:5001")
			n.Client.Daemon()
			reach(n, n.A, n.B)
			path, other := n.A, n.B
			if which == "eth1" {
				path, other = n.B, n.A
			}
			c := n.Client.Dial("10.9.0.2:5001")
			up := c.StartUpload()
			c.WantSubflows(n.A.Addr, n.B.Addr)
			for _, dark := range []time.Duration{300 * time.Millisecond, 1500 * time.Millisecond, 2600 * time.Millisecond} {
				path.Cut()
				lab.Eventually(t, soon, "the endpoint without carrier goes", func() error {
					return n.Client.CheckEndpoints(other.Addr + " subflow dev " + other.Dev)
				})
				// Others keep asking for the gateway. When the carrier is back, the kernel still waits for the answer
				// to a question that it asked without one.
				asks := n.Client.Start("ping", "-n", "-i", "0.2", "-I", path.Dev, path.Gateway)
				time.Sleep(dark)
				path.Restore()
				begun := time.Now()
				sent, _ := n.Client.LinkBytes(path.Dev)
				lab.Eventually(t, soon, "the path carries again", func() error {
					now, _ := n.Client.LinkBytes(path.Dev)
					if a := acked(c, path.Addr); now-sent < 300_000 || a < 200_000 {
						return fmt.Errorf("%d bytes by %s, %d acknowledged", now-sent, path.Dev, a)
					}
					return nil
				})
				took := time.Since(begun)
				t.Logf("dark for %v: carries again after %v", dark, took.Round(time.Millisecond))
				if took > 10*time.Second {
					t.Errorf("dark for %v: carries again only after %v", dark, took)
				}
				asks.Stop()
			}
			if r := up.Stop(0); r.Err != nil {
				t.Error(r.Err)
			}
		})
	}
}

// acked is what the server has acknowledged over the subflows from an address that the connection has now: what a
// subflow left behind when it was closed leaves by the link as well.
func acked(c *lab.Conn, addr string) (bytes uint64) {
	for _, s := range c.Subflows() {
		if s.Established && s.Local.Addr().String() == addr {
			bytes += s.Acked
		}
	}
	return bytes
}

// refuseJoins has the router refuse new subflows that come by the path's link; refused waits for the first.
func refuseJoins(p *lab.Path) (refused, end func()) {
	p.B.NFT("add table inet watch", "add counter inet watch refused", "add chain inet watch in { type filter hook forward priority 0; }",
		"add rule inet watch in iifname "+p.DevB+" tcp flags syn / syn,ack counter name refused reject with tcp reset")
	refused = func() {
		lab.Eventually(p.B.Lab.T, soon, "an attempt fails", func() error {
			if packets(p.B, "refused") == 0 {
				return fmt.Errorf("none was made")
			}
			return nil
		})
	}
	return refused, func() { p.B.NFT("delete table inet watch") }
}

func endpointID(h *lab.Host, addr string) string {
	for l := range strings.Lines(h.IP("mptcp endpoint show")) {
		if w := strings.Fields(l); len(w) > 2 && w[0] == addr {
			return w[2]
		}
	}
	return ""
}

// TestRefusedAtFirst: when the path is back its new subflows are refused for some time.
func TestRefusedAtFirst(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, with bool) {
		n := lab.TwoSubnets(t, lab.Rate("10mbit"))
		n.Server.Listen("10.9.0.2:5001")
		var d *lab.Daemon
		if with {
			d = n.Client.Daemon()
			reach(n, n.A, n.B)
		} else {
			byHand(n)
		}
		c := n.Client.Dial("10.9.0.2:5001")
		up := c.StartUpload()
		c.WantSubflows(n.A.Addr, n.B.Addr)
		n.B.Cut()
		if with {
			lab.Eventually(t, soon, "the endpoint without carrier goes", func() error {
				return n.Client.CheckEndpoints("10.1.1.2 subflow dev eth0")
			})
		} else {
			n.Client.IP("mptcp endpoint delete id " + endpointID(n.Client, n.B.Addr))
		}
		refused, end := refuseJoins(n.B)
		n.B.Restore()
		if !with {
			n.Client.IP("mptcp endpoint add 10.1.2.2 dev eth1 subflow")
			refused()
			end()
			n.Client.IP("mptcp endpoint add 192.0.2.9 id 99", "mptcp endpoint delete id 99")
			lab.Never(t, 3*time.Second, "the connection stays on one path", func() error { return c.CheckSubflows(n.A.Addr) })
			return
		}
		lab.Eventually(t, soon, "the endpoint is back", func() error {
			return n.Client.CheckEndpoints("10.1.1.2 subflow dev eth0", "10.1.2.2 subflow dev eth1")
		})
		lab.Eventually(t, soon, "the endpoint is added anew", func() error {
			// The start, the carrier, and the attempt. Its id tells nothing: a kernel such as 6.1 gives the same again.
			if adds := strings.Count(d.Log(), "ip mptcp endpoint add 10.1.2.2 dev eth1 subflow"); adds < 3 {
				return fmt.Errorf("added %d times", adds)
			}
			return nil
		})
		refused()
		end()
		lab.Eventually(t, 2*soon, "the second subflow", func() error { return c.CheckSubflows(n.A.Addr, n.B.Addr) })
		if r := up.Stop(0); r.Err != nil {
			t.Error(r.Err)
		}
		reach(n, n.A, n.B)
		wantNoCondition(n.Client, "foreign-endpoint")
	})
}

// TestServerThatTakesNoJoins costs a bounded number of attempts, and no connection.
func TestServerThatTakesNoJoins(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.RefuseJoins())
	n.Server.Listen("10.9.0.2:5001")
	d := n.Client.Daemon()
	reach(n, n.A, n.B)
	c := n.Client.Dial("10.9.0.2:5001")
	c.WantSubflows(n.A.Addr)
	n.B.Cut()
	lab.Eventually(t, soon, "the endpoint without carrier goes", func() error { return n.Client.CheckEndpoints("10.1.1.2 subflow dev eth0") })
	n.B.Restore()
	adds := func() int { return strings.Count(d.Log(), "ip mptcp endpoint add 10.1.2.2 dev eth1 subflow") }
	lab.Eventually(t, 3*soon, "three more attempts", func() error {
		if n := adds(); n < 5 { // the start, the carrier, and three
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	settled(d)
	lab.Never(t, 2*time.Second, "that is all", func() error {
		if n := adds(); n > 5 {
			return fmt.Errorf("the endpoint was added %d times", n)
		}
		return c.Echo(lab.Patient(soon))
	})
	wantFirst(t, c)
	reach(n, n.A, n.B)
}

// conditionsOf lists the codes of what the status reports.
func conditionsOf(h *lab.Host) []string {
	h.Lab.T.Helper()
	var doc struct{ Conditions []struct{ Code string } }
	h.CtlJSON(&doc, "status")
	var codes []string
	for _, c := range doc.Conditions {
		codes = append(codes, c.Code)
	}
	return codes
}

func wantNoCondition(h *lab.Host, code string) {
	h.Lab.T.Helper()
	if all := conditionsOf(h); slices.Contains(all, code) {
		h.Lab.T.Errorf("conditions %v", all)
	}
}

// TestBackupTakenAwayInTheDark: a path stops being backup while nothing gets through it. The server hears of it when
// something does; without a second try it never would.
func TestBackupTakenAwayInTheDark(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, with bool) {
		n := lab.TwoSubnets(t, lab.Rate("10mbit"))
		n.Server.Listen("10.9.0.2:5001")
		const backup = "[[link]]\nname = \"eth1\"\nbackup = true\n"
		var d *lab.Daemon
		if with {
			d = n.Client.DaemonConfig(backup)
			lab.Eventually(t, soon, "a backup", func() error {
				return n.Client.CheckEndpoints("10.1.1.2 subflow dev eth0", "10.1.2.2 backup subflow dev eth1")
			})
		} else {
			byHand(n)
			n.Client.IP("mptcp endpoint change id 2 backup nofullmesh")
		}
		c := n.Client.Dial("10.9.0.2:5001")
		c.WantSubflows(n.A.Addr, n.B.Addr)
		n.B.Blackhole()
		time.Sleep(1200 * time.Millisecond) // nothing was heard over it for a second
		if with {
			d.Configure("")
			lab.Eventually(t, soon, "no backup", func() error {
				return n.Client.CheckEndpoints("10.1.1.2 subflow dev eth0", "10.1.2.2 subflow dev eth1")
			})
		} else {
			n.Client.IP("mptcp endpoint change id 2 nobackup nofullmesh")
		}
		wantPeerBackup(n, true)
		n.B.Unblackhole()
		up := c.StartUpload()
		sent, _ := n.Client.LinkBytes("eth1")
		lab.Eventually(t, soon, "the path carries", func() error {
			if now, _ := n.Client.LinkBytes("eth1"); now-sent < 100_000 {
				return fmt.Errorf("%d bytes", now-sent)
			}
			return nil
		})
		if with {
			lab.Eventually(t, 2*soon, "the server hears of it", func() error { return peerBackup(n, false) })
		} else {
			lab.Never(t, 2*time.Second, "the server does not hear of it", func() error { return peerBackup(n, true) })
		}
		if r := up.Stop(0); r.Err != nil {
			t.Error(r.Err)
		}
	})
}

// peerBackup asks the server's kernel whether the client's second subflow is backup: ss(8) shows what the peer asked for
// as a capital B.
func peerBackup(n *lab.Net, want bool) error {
	out := n.Server.Run("ss", "-HOtin", "dst", n.B.Addr)
	_, flags, ok := strings.Cut(out, "tcp-ulp-mptcp flags:")
	flags, _, _ = strings.Cut(flags, " ")
	if !ok || strings.Contains(flags, "B") != want {
		return fmt.Errorf("flags %q; wanted backup %v", flags, want)
	}
	return nil
}

func wantPeerBackup(n *lab.Net, want bool) {
	n.T.Helper()
	if err := peerBackup(n, want); err != nil {
		n.T.Fatal(err)
	}
}
