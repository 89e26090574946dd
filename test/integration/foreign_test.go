package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

// foreign lists what is not of subflowd's making: rules in their order, routes of all tables but local, the endpoints
// with ids that the test gave, with these ids.
func foreign(h *lab.Host) []string {
	var r []string
	for _, f := range []string{"-4", "-6"} {
		for _, l := range append(h.Rules(f), h.Table(f, "all")...) {
			if !ours(l) && !strings.Contains(l, " table local ") && !strings.HasPrefix(l, "multicast ") {
				r = append(r, l)
			}
		}
	}
	for _, l := range strings.Split(h.IP("mptcp endpoint show"), "\n") {
		if w := strings.Fields(l); slices.ContainsFunc([]string{"33", "34", "35", "36"}, func(id string) bool {
			return strings.Contains(l+" ", " id "+id+" ")
		}) {
			r = append(r, strings.Join(w, " "))
		}
	}
	return r
}

// TestForeign lives through a day beside rules with our priority, routes in our tables and endpoints of others.
func TestForeign(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.IPv6())
	table := tableOf(n.Client, "eth0")
	n.Client.IP(
		"rule add from 10.1.1.2 lookup 55 pref 32765",
		"rule add from 10.1.2.2 lookup 56 pref 32765 protocol 4",
		"-6 rule add from 2001:db8:1::2 lookup 55 pref 32765",
		"rule add from 10.1.2.2 lookup 57",
		"route add default via 10.1.2.1 dev eth1 table 55",
		"-6 route add default via 2001:db8:2::1 dev eth1 table 55",
		"route add 198.51.101.0/24 via 10.1.2.1 dev eth1",
		"-6 route add 2001:db8:51::/48 via 2001:db8:2::1 dev eth1 proto static",
		"mptcp endpoint add 10.1.1.2 id 33 subflow backup dev eth0",
		"mptcp endpoint add 10.250.0.1 id 34 signal",
		"mptcp endpoint add 10.1.2.2 port 8443 id 35 signal",
		"mptcp endpoint add 2001:db8:2::2 id 36 signal",
	)
	before, theirs := n.Client.Settled(), foreign(n.Client)
	untouched := func(when string) {
		t.Helper()
		if now := foreign(n.Client); !slices.Equal(theirs, now) {
			n.Dump()
			t.Fatalf("%s: foreign state changed:\n%s", when, lab.Diff(strings.Join(theirs, "\n"), strings.Join(now, "\n")))
		}
	}
	endpoints := func(what string, mine ...string) {
		t.Helper()
		all := append(mine, "10.1.1.2 backup subflow dev eth0", "10.250.0.1 signal", "10.1.2.2 port 8443 signal",
			"2001:db8:2::2 signal")
		lab.Eventually(t, soon, what, func() error { return n.Client.CheckEndpoints(all...) })
		untouched(what)
	}

	d := n.Client.Daemon()
	endpoints("start", "10.1.2.2 subflow dev eth1", "2001:db8:1::2 subflow dev eth0")
	// A table base whose tables others use is refused at the first start; later they may come.
	intruder := "198.51.100.0/24 via 10.1.1.1 dev eth0 table " + table + " proto static"
	n.Client.IP("route add " + intruder)
	theirs = foreign(n.Client)
	m := n.Client.Monitor()
	lab.Eventually(t, soon, "our rules besides", func() error {
		if r := found(n.Client); !slices.Contains(r, "32765: from 10.1.1.2 lookup "+table+" proto 77") {
			return fmt.Errorf("found %q", r)
		}
		return oursLast(n.Client)
	})
	// Theirs come first and decide.
	n.Client.WantRoute(n.ServerAddr, "from 10.1.1.2", "dev eth1 via 10.1.2.1")
	settled(d)

	n.B.Cut()
	endpoints("cable pulled", "2001:db8:1::2 subflow dev eth0")
	n.B.Restore()
	endpoints("cable back", "10.1.2.2 subflow dev eth1", "2001:db8:1::2 subflow dev eth0")
	n.A.Cut()
	endpoints("other cable pulled", "10.1.2.2 subflow dev eth1")
	n.A.Restore()
	endpoints("other cable back", "10.1.2.2 subflow dev eth1", "2001:db8:1::2 subflow dev eth0")
	n.Client.IP("-6 addr add 2001:db8:1::7/64 dev eth0", "-6 addr del 2001:db8:1::2/64 dev eth0")
	endpoints("renumbered", "10.1.2.2 subflow dev eth1", "2001:db8:1::7 subflow dev eth0")
	d.Kill()
	n.Client.IP("-6 addr add 2001:db8:1::2/64 dev eth0", "-6 addr del 2001:db8:1::7/64 dev eth0")
	d = d.Restart()
	endpoints("killed, renumbered and started", "10.1.2.2 subflow dev eth1", "2001:db8:1::2 subflow dev eth0")
	settled(d)
	d.Stop()
	cleanup(n.Client)
	endpoints("cleaned up")
	lines := m.Stop()
	n.Client.IP("route del " + intruder)
	n.Client.WantSnapshot(before)

	for _, l := range lines {
		if ours(l) {
			continue
		}
		for _, part := range []string{
			"lookup 55", "lookup 56", "lookup 57", "table 55", "198.51.", "2001:db8:51:",
			" id 33 ", " id 34 ", " id 35 ", " id 36 ",
		} {
			if strings.Contains(l+" ", part) && !strings.Contains(l, "linkdown") {
				t.Errorf("a foreign object was touched: %s", l)
			}
		}
	}
}

// oursLast tells whether every foreign rule before main, and every one that leads to local, comes before all of ours.
func oursLast(h *lab.Host) error {
	for _, f := range []string{"-4", "-6"} {
		var mine bool
		for _, l := range strings.Split(h.IP(f+" rule"), "\n") {
			switch {
			case ours(l):
				mine = true
			case mine && (strings.HasPrefix(l, "32765:") || strings.Contains(l, "lookup local")):
				return fmt.Errorf("ip %s rule: %s comes behind ours:\n%s", f, l, h.IP(f+" rule"))
			}
		}
	}
	return nil
}

// TestRuleBehindOurs adds foreign rules of our priority after ours, and moves local there as the VRF recipe does: ours
// go behind them, and no address is ever without its way out.
func TestRuleBehindOurs(t *testing.T) {
	t.Parallel()
	n := lab.OneSubnet(t, lab.IPv6(), lab.ArpIgnore())
	n.Client.IP("route add 203.0.113.0/24 via 192.168.0.1 dev wlp3s0 table 55", "-6 route add 2001:db8:113::/48 via fe80::1 dev wlp3s0 table 55")
	n.Client.Daemon()
	reach(n, n.A, n.B)
	c := dial(n, "10.9.0.2:5001", n.A.Addr, n.B.Addr)
	subflows := c.Ends()
	m := n.Client.Monitor()
	n.Client.IP("rule add from 192.168.0.0/24 iif lo lookup 55 pref 32765")
	n.Client.IP("-6 rule add from 2001:db8:1::/64 iif lo lookup 55 pref 32765")
	lab.Eventually(t, soon, "ours behind", func() error { return oursLast(n.Client) })
	reach(n, n.A, n.B)
	n.Client.WantRoute("203.0.113.9", "from "+n.A.Addr, "dev wlp3s0 via 192.168.0.1")
	alwaysRuled(t, m.Stop())

	m = n.Client.Monitor()
	n.Client.IP("rule add from all lookup local pref 32765", "rule del from all lookup local pref 0")
	lab.Eventually(t, 2*soon, "ours behind local", func() error { return oursLast(n.Client) })
	reach(n, n.A, n.B)
	if out := n.Client.IP("route get " + n.B.Addr + " from " + n.A.Addr); !strings.HasPrefix(out, "local ") {
		t.Errorf("traffic from one of our addresses to the other leaves the host: %s", out)
	}
	alwaysRuled(t, m.Stop())
	if now := c.Ends(); !slices.Equal(subflows, now) {
		t.Errorf("the connection had subflows %q and has %q", subflows, now)
	}
}

// alwaysRuled replays what ip monitor saw and checks that no address was ever without the rule that leads to its own
// gateway.
func alwaysRuled(t *testing.T, lines []string) {
	t.Helper()
	have := map[string]int{}
	for _, l := range lines {
		_, rule, ok := strings.Cut(l, "32765: from ")
		if !ok || !ours(l) || strings.Contains(l, "suppress_prefixlength") {
			continue
		}
		if strings.HasPrefix(l, "Deleted ") {
			have[rule]--
		} else {
			have[rule]++
		}
		if have[rule] < 0 {
			t.Errorf("deleted before a new one was there: %s\n%s", l, strings.Join(lines, "\n"))
		}
	}
}

// TestOtherTables has default routes in tables that only some of the traffic reaches, and routes of types that lead
// nowhere: nothing is made of them, and what works beside them still does.
func TestOtherTables(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.IPv6(), lab.NoDefault("eth1"))
	n.Client.IP("link add red type bridge", "addr add 10.3.0.1/24 dev red", "link set red up")
	rules := []string{
		"rule add fwmark 7 lookup 7", "rule add iif red lookup 8", "rule add oif red lookup 8 pref 900",
		"rule add uidrange 1000-1000 lookup 9", "rule add ipproto tcp dport 443 lookup 10", "rule add tos 0x10 lookup 11",
		"rule add to 192.0.2.0/24 lookup 12", "rule add fwmark 2 lookup 100",
		"-6 rule add fwmark 7 lookup 7", "-6 rule add fwmark 2 lookup 100", "rule add from 10.99.0.0/16 lookup 13",
		"rule add not from 10.1.1.2 lookup 14 pref 32000", "rule add from all lookup 15 suppress_prefixlength 0 pref 32001",
	}
	for _, table := range []string{"7", "8", "9", "10", "11", "12", "13", "14", "15"} {
		rules = append(rules, "route add default via 10.1.2.1 dev eth1 table "+table)
	}
	n.Client.IP(append(rules,
		"-6 route add default via 2001:db8:2::1 dev eth1 table 7",
		"route add local default dev lo table 100", "-6 route add local default dev lo table 100",
		"route add unreachable default metric 4278198272", "-6 route add unreachable default metric 4278198272",
		"route add blackhole 10.55.0.0/16", "route add default dev red table 77",
	)...)
	// The l3mdev rule comes with the first VRF; a kernel without them refuses it.
	if _, err := n.Client.TryIP("rule add l3mdev pref 1000"); err != nil {
		n.Client.IP("rule add iif red lookup 77 pref 1000", "rule add oif red lookup 77 pref 1001")
	}
	before := n.Client.Settled()
	n.Client.Sysctl("net.ipv4.conf.all.accept_local", "1")
	d := n.Client.Daemon()
	reach(n, n.A)
	settled(d)
	if err := check(n, n.A); err != nil {
		t.Error(err)
	}
	leavesBy(n, n.A, n.A.Addr, n.ServerAddr, n.A.Gateway)
	n.Client.WantRoute(n.ServerAddr, "from "+n.A.Addr+" mark 7", "dev eth1 via 10.1.2.1")
	n.Client.WantRoute("10.55.0.1", "from "+n.A.Addr, "unreachable")
	n.Client.WantRoute("10.3.0.7", "from "+n.A.Addr, "dev red")
	n.Server.Listen("10.9.0.2:5001")
	n.Client.Dial("10.9.0.2:5001", lab.From(n.A.Addr)).WantSubflows(n.A.Addr) // unbound traffic leaves by table 14
	if out := n.Client.IP("route get " + n.ServerAddr + " mark 2"); !strings.HasPrefix(out, "local ") {
		t.Errorf("a transparent proxy's table does not decide: %s", out)
	}
	d.Stop()
	cleanup(n.Client)
	n.Client.WantSnapshot(before)
}

// TestErrorDefault puts an unreachable default route before the real one. Our second rule would end every lookup there,
// so it is left out, and what main knows specifically is thrown back to it.
func TestErrorDefault(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"unreachable", "blackhole", "prohibit"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			n := lab.TwoSubnets(t)
			n.Client.IP("link add docker0 type bridge", "addr add 172.17.0.1/16 dev docker0", "link set docker0 up",
				"route add 10.66.0.0/16 via 10.1.2.9 dev eth1 proto static")
			d := n.Client.Daemon()
			lab.Eventually(t, soon, "two paths", func() error { return n.CheckUplinks("subflow", n.A, n.B) })
			n.Client.IP("route add " + kind + " default metric 5")
			table := tableOf(n.Client, "eth0")
			lab.Eventually(t, soon, "no rule for main", func() error {
				for _, l := range n.Client.Rules("-4") {
					if strings.Contains(l, "lookup main") {
						return fmt.Errorf("found %s", l)
					}
				}
				return nil
			})
			for _, p := range []*lab.Path{n.A, n.B} {
				n.Client.WantRoute("10.9.0.2", "from "+p.Addr, "dev "+p.Dev+" via "+p.Gateway)
				n.Client.WantRoute("172.17.0.5", "from "+p.Addr, "dev docker0")
				n.Client.WantRoute("10.66.0.5", "from "+p.Addr, "dev eth1 via 10.1.2.9")
			}
			n.Client.WantRoute("10.9.0.2", "", "unreachable")
			settled(d)
			if out := n.Client.Ctl("status").Stdout + n.Client.Ctl("-o", "json", "status").Stdout; !strings.Contains(out, "error") {
				t.Errorf("the status does not speak of the default route that is an error:\n%s", out)
			}
			n.Client.IP("route del " + kind + " default metric 5")
			lab.Eventually(t, soon, "as before", func() error {
				if err := n.Client.CheckTable(table, "10.1.1.0/24 dev eth0 proto 77 scope link",
					"default via 10.1.1.1 dev eth0 proto 77 metric 100"); err != nil {
					return err
				}
				return containsInOrder(n.Client.Rules("-4"), ruleSet(n, n.A.Addr, table))
			})
			lab.Never(t, 300*time.Millisecond, "two paths", func() error { return n.CheckUplinks("subflow", n.A, n.B) })
		})
	}
}
