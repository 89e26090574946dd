package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

// leakFor is how long packets may go beside a tunnel after the kernel announced its last route or rule: one reaction, on
// a machine that is busy with other tests.
const leakFor = 2 * time.Second

// TestRealVPN: a VPN comes up beside the running daemon while connections use both paths, interrupts them for four
// seconds, and ends.
func TestRealVPN(t *testing.T) {
	t.Parallel()
	for _, v := range realVPNs {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			x := v.lab(t)
			x.vpn.Up()
			x.record()
			x.vpn.Down()
			x.Client.Daemon()
			reach(x.Net, x.A, x.B)
			limits := x.Client.Limits()
			carried, beside := x.servers()
			all, aside := x.dialLive(carried), x.dialLive(beside)
			busy := x.dialLive(carried[:1])
			up := busy[0].StartUpload()

			x.comesUp(carried[0], up)
			x.wantOnlyFirst(append(append(all, aside...), busy...))
			answered := waiting(t, 4*time.Second, connsOf(all)...)
			for _, c := range aside {
				c.WantEcho(soon)
			}
			x.wantInside()
			if err := x.guarded(); err != nil {
				t.Error(err)
			}
			if err := x.vpn.CheckHealthy(); err != nil {
				t.Errorf("the VPN itself: %v", err)
			}
			inside := x.Client.Dial(carried[0])
			inside.WantSubflows(x.tunnelAddr(carried[0]))

			x.vpn.Down()
			answered()
			x.back(limits)
			inside.WantEcho(recovers) // by the uplinks
			x.wantRestored(append(append(all, aside...), busy...))
			before := up.Bytes()
			lab.Eventually(t, recovers, "the transfer goes on", func() error { return arrives(up, before) })
			if r := up.Stop(0); r.Err != nil {
				t.Errorf("the transfer: %v", r.Err)
			}
			x.wantBothPaths()
		})
	}
}

// comesUp starts the VPN while a transfer and short connections go on, and judges what leaves the host beside it from the
// moment in which it carries everything.
func (x *vpnLab) comesUp(server string, up *lab.Upload) {
	x.T.Helper()
	full := x.Client.Announced()
	tap := x.Wiretap(x.stray() + " and tcp")
	stop := x.open(server)
	lab.Eventually(x.T, soon, "the transfer", func() error { return arrives(up, 0) })
	x.vpn.Up()
	x.wantGuarded()
	at := full(x.lastStep())
	lab.Eventually(x.T, soon, "nothing goes beside the tunnel", func() error { return quiet(tap) })
	opened := stop()
	before, after, joins, resets := 0, 0, 0, 0
	var last time.Duration
	for _, p := range tap.Packets() {
		if p.At.Before(at) {
			before++
			continue
		}
		after++
		last = p.At.Sub(at)
		switch {
		case isJoin(p):
			joins++
		case strings.Contains(p.Text, "Flags [R"):
			resets++
		}
	}
	x.T.Logf("%d packets beside the tunnel after it was full (%d joins, %d resets of what was closed), the last after %v; %d before; %d connections",
		after, joins, resets, last.Round(10*time.Microsecond), before, opened)
	if last > lab.Patient(leakFor) {
		x.T.Errorf("packets went beside the tunnel for %v", last)
	}
	if before == 0 {
		x.T.Error("nothing was recorded before the tunnel was up")
	}
}

// isJoin tells the first packet of a subflow that joins a connection.
func isJoin(p lab.Packet) bool {
	return strings.Contains(p.Text, "Flags [S]") && strings.Contains(p.Text, " join ")
}

// lastStep is the change by which the VPN carries everything, as ip monitor shows it: how many there are, and words.
func (x *vpnLab) lastStep() (int, string, string) {
	switch {
	case x.vpn.Dev == "tun0":
		return 1, "128.0.0.0/1 ", "dev tun0"
	case x.four && x.six:
		return 2, "fwmark", "lookup 51820"
	}
	return 1, "fwmark", "lookup 51820"
}

// arrives tells whether more than an echo has arrived since.
func arrives(up *lab.Upload, before uint64) error {
	if now := up.Bytes(); now < before+200_000 {
		return fmt.Errorf("%d bytes more", now-before)
	}
	return nil
}

// TestRealVPNFirst: a VPN is up when the daemon starts, is restarted, and is killed.
func TestRealVPNFirst(t *testing.T) {
	t.Parallel()
	for _, v := range realVPNs {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			x := v.lab(t)
			before := x.Client.Limits()
			x.vpn.Up()
			x.record()
			d := x.Client.Daemon()
			settled(d)
			x.wantGuarded()
			x.Client.WantEndpoints()
			x.Client.IP("addr add 10.1.2.7/24 dev eth1", "link set eth1 mtu 1400")
			settled(d)
			x.Client.WantEndpoints()
			x.Client.IP("addr del 10.1.2.7/24 dev eth1", "link set eth1 mtu 1500")
			settled(d)
			x.wantGuarded()
			m := x.Client.Monitor()
			d = d.Restart()
			settled(d)
			d.Kill()
			d = d.Restart()
			settled(d)
			m.WantNone()
			x.wantInside()
			x.vpn.Down()
			x.back("add_addr_accepted 4 subflows 4")
			x.wantBothPaths()

			x.vpn.Up()
			x.wantGuarded()
			d.Kill()
			if err := x.guarded(); err != nil {
				t.Errorf("after the daemon was killed: %v", err)
			}
			x.wantInside()
			x.vpn.Down() // and nobody notices
			d = d.Restart()
			x.back("add_addr_accepted 4 subflows 4")

			x.vpn.Up()
			x.wantGuarded()
			d.Kill()
			if r := x.Client.Subflowd("--cleanup"); r.Code != 0 {
				t.Errorf("--cleanup: %+v", r)
			}
			x.Client.WantLimits(before)
			x.Client.WantEndpoints()
			if left := found(x.Client); len(left) > 0 {
				t.Errorf("left after --cleanup: %q", left)
			}
			wantWays(x.Client, x.ways)
		})
	}
}

// TestRealVPNKilled: the process that holds the tunnel dies. The programs leave a host route (OpenVPN), or rules that lead
// to an empty table (wg-quick).
func TestRealVPNKilled(t *testing.T) {
	t.Parallel()
	for _, i := range []int{0, 4} {
		t.Run(realVPNs[i].name, func(t *testing.T) {
			t.Parallel()
			x := realVPNs[i].lab(t)
			x.Client.Daemon()
			reach(x.Net, x.A, x.B)
			limits := x.Client.Limits()
			carried, _ := x.servers()
			all := x.dialLive(carried)
			x.vpn.Up()
			x.record()
			x.wantGuarded()
			x.wantOnlyFirst(all)
			answered := waiting(t, time.Second, connsOf(all)...)
			x.vpn.Kill()
			answered()
			lab.Eventually(t, soon, "the limits are back", func() error { return x.Client.CheckLimits(limits) })
			x.wantRestored(all)
			x.wantBothPaths()
			if x.vpn.Dev == "tun0" {
				x.Client.IP("route del " + lab.GateAddr)
			}
			x.back(limits)
		})
	}
}

// TestRealVPNBeside: the two policies by which connections go around a full tunnel.
func TestRealVPNBeside(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		policy, flags string
		vpn           realVPN
	}{
		{"backup", "backup subflow", realVPNs[0]},
		{"ignore", "subflow", realVPNs[4]},
	} {
		t.Run(c.policy, func(t *testing.T) {
			t.Parallel()
			x := c.vpn.lab(t)
			d := x.Client.DaemonConfig("vpn = \"" + c.policy + "\"\nlimits = { subflows = 3, add_addr_accepted = 4 }\n")
			reach(x.Net, x.A, x.B)
			x.vpn.Up()
			settled(d)
			lab.Eventually(t, soon, "endpoints", func() error { return x.checkFlags(c.flags) })
			if all := conditionsOf(x.Client); slices.Contains(all, "vpn-guard") {
				t.Errorf("conditions %v", all)
			}
			tap := x.Wiretap(x.stray() + " and tcp")
			conn := x.Client.Dial(server4)
			conn.WantSubflows(x.vpn.Addr, x.A.Addr, x.B.Addr)
			if len(tap.Packets()) == 0 {
				t.Error("no packet beside the tunnel")
			}
			x.vpn.Down()
			x.back("add_addr_accepted 4 subflows 3")
		})
	}
}

// checkFlags compares the endpoints, all of which have these flags.
func (x *vpnLab) checkFlags(flags string) error {
	var want []string
	for _, p := range []*lab.Path{x.A, x.B} {
		want = append(want, p.Addr+" "+flags+" dev "+p.Dev, p.Addr6+" "+flags+" dev "+p.Dev)
	}
	return x.Client.CheckEndpoints(want...)
}

// TestRealSplitVPN: what the VPN carries is for main's routes to say, and there is nothing to step aside from.
func TestRealSplitVPN(t *testing.T) {
	t.Parallel()
	x := realVPN{name: "split", start: func(g *lab.Gate) *lab.RealVPN { return g.WireGuard("10.20.0.0/16") }}.lab(t)
	gate := x.Host("gate")
	gate.IP("addr add 10.20.0.1/32 dev lo")
	gate.Listen("10.20.0.1:5001")
	x.Client.Daemon()
	reach(x.Net, x.A, x.B)
	limits := x.Client.Limits()
	all := x.dialLive([]string{server4, server6})
	before := [][]string{all[0].Ends(), all[1].Ends()}
	x.vpn.Up()
	tap := x.Wiretap("tcp and dst net 10.20.0.0/16")
	x.Client.Dial("10.20.0.1:5001").WantSubflows(x.vpn.Addr)
	lab.Never(t, time.Second, "nothing steps aside", func() error {
		for i, c := range all {
			if err := untouched(c.Conn, before[i]); err != nil {
				return err
			}
		}
		return check(x.Net, x.A, x.B)
	})
	// Joins are tried by every path, whatever main says of the destination.
	for _, p := range tap.Packets() {
		if !isJoin(p) {
			t.Errorf("beside the tunnel: %s", p.Text)
		}
	}
	t.Logf("%d joins tried beside the tunnel", len(tap.Packets()))
	x.Client.WantLimits(limits)
	for _, p := range []*lab.Path{x.A, x.B} {
		x.Client.WantRoute("10.20.0.1", "from "+p.Addr, "dev wgc0")
		x.Client.WantRoute(x.ServerAddr, "from "+p.Addr, "dev "+p.Dev+" via "+p.Gateway)
	}
	x.wantBothPaths()

	rule := "rule add to 10.20.0.0/16 pref 100 prohibit oif "
	x.Client.IP(rule+"eth0", rule+"eth1")
	tap = x.Wiretap("tcp and dst net 10.20.0.0/16")
	x.Client.Dial("10.20.0.1:5001").WantSubflows(x.vpn.Addr)
	lab.Never(t, time.Second, "no join is tried", func() error {
		if all := tap.Packets(); len(all) > 0 {
			return fmt.Errorf("%s", all[0].Text)
		}
		return nil
	})
	rule = strings.Replace(rule, "add", "del", 1)
	x.Client.IP(rule+"eth0", rule+"eth1")
	x.vpn.Down()
	x.back(limits)
	x.wantRestored(all)
}

// TestRealVPNAlone is what TestRealVPN is compared with: without subflowd a connection that a VPN interrupts goes on.
func TestRealVPNAlone(t *testing.T) {
	t.Parallel()
	for _, i := range []int{0, 4} {
		t.Run(realVPNs[i].name, func(t *testing.T) {
			t.Parallel()
			x := realVPNs[i].lab(t)
			carried, _ := x.servers()
			var all []live
			for _, s := range carried {
				c := x.Client.Dial(s)
				c.WantSubflows(addrTo(s, x.A))
				all = append(all, live{c, s, c.Ends()})
			}
			x.vpn.Up()
			answered := waiting(t, 4*time.Second, connsOf(all)...)
			x.vpn.Down()
			answered()
			x.wantOnlyFirst(all)
		})
	}
}
