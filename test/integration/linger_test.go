package integration

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

// TestDeprecatedReplaced: an address is deprecated and another takes its place, while the server accepts no joins. The
// connection stays where it is. Its endpoint lingers, is named, and goes when the connection ends.
func TestDeprecatedReplaced(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, with bool) {
		n := lab.TwoSubnets(t, lab.IPv6Only(), lab.RefuseJoins())
		strictServer(n)
		if with {
			n.Client.Daemon()
			reach(n, n.A, n.B)
		}
		c := n.Client.Dial("[2001:db8:9::2]:5001")
		c.WantSubflows(n.A.Addr6)
		n.Client.IP("addr add 2001:db8:1::3/64 dev eth0", "addr change 2001:db8:1::2/64 dev eth0 preferred_lft 0")
		if with {
			lab.Eventually(t, soon, "the new address has its endpoint", func() error {
				return n.Client.CheckEndpoints("2001:db8:1::2 subflow dev eth0", "2001:db8:1::3 subflow dev eth0",
					"2001:db8:2::2 subflow dev eth1")
			})
			// The rules of the deprecated address stay: it is usable.
			n.Client.WantRoute(n.ServerAddr6, "from 2001:db8:1::2", "dev eth0 via 2001:db8:1::1")
			n.Client.WantRoute(n.ServerAddr6, "from 2001:db8:1::3", "dev eth0 via 2001:db8:1::1")
		}
		lab.Never(t, 4*time.Second, "the connection goes on", func() error { return c.Echo(lab.Patient(soon)) })
		wantFirst(t, c)
		if with {
			wantLingering(n.Client, n.A.Addr6)
			c.Close()
			lab.Eventually(t, soon, "the old endpoint goes with the connection", func() error {
				return n.Client.CheckEndpoints("2001:db8:1::3 subflow dev eth0", "2001:db8:2::2 subflow dev eth1")
			})
			lab.Eventually(t, soon, "nothing lingers", func() error { return checkLingering(n.Client) })
		}
	})
}

// TestAddressMovesToAnotherLink: as when a host goes from cable to radio and is leased the same address. The server
// accepts no joins. Packets take the new link at once; the endpoint follows when nobody needs it as it is.
func TestAddressMovesToAnotherLink(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, with bool) {
		n := lab.OneSubnet(t, lab.RefuseJoins())
		n.Client.IP("addr del 192.168.0.43/24 dev wlp3s0")
		strictServer(n)
		if with {
			n.Client.Daemon()
			lab.Eventually(t, soon, "one uplink", func() error { return n.CheckUplinks("subflow", n.A) })
		}
		c := n.Client.Dial("10.9.0.2:5001")
		c.WantSubflows(n.A.Addr)
		n.Client.IP("addr del 192.168.0.37/24 dev enp2s0", "addr add 192.168.0.37/24 dev wlp3s0",
			"route add default via 192.168.0.1 dev wlp3s0 metric 600")
		n.A.Cut()
		n.Router.IP("neigh flush dev br0") // what the gratuitous ARP of a DHCP client does
		c.WantEcho(recovers)
		n.Client.WantRoute(n.ServerAddr, "from "+n.A.Addr, "dev wlp3s0 via 192.168.0.1")
		lab.Never(t, 4*time.Second, "the connection goes on", func() error { return c.Echo(lab.Patient(soon)) })
		wantFirst(t, c)
		if with {
			n.Client.WantEndpoints("192.168.0.37 subflow dev enp2s0")
			wantLingering(n.Client, n.A.Addr)
			c.Close()
			lab.Eventually(t, soon, "the endpoint follows the address", func() error {
				return n.Client.CheckEndpoints("192.168.0.37 subflow dev wlp3s0")
			})
		}
	})
}

// TestMovesToNextPath: the only path of a connection goes, for longer than the server keeps a connection without
// subflows. It waits, moves to the next path that comes, and only then the old endpoint goes. Without subflowd it
// waits too, and has to wait for its address.
func TestMovesToNextPath(t *testing.T) {
	t.Parallel()
	const defA, defB = "route add default via 10.1.1.1 dev eth0 metric 100", "route add default via 10.1.2.1 dev eth1 metric 200"
	for _, c := range []struct {
		name             string
		lose, next, back func(*lab.Net)
		old, new, addr   string
	}{
		{
			"another link",
			func(n *lab.Net) { n.A.Cut() },
			func(n *lab.Net) { n.Client.IP(defB) },
			func(n *lab.Net) { n.A.Restore() },
			"10.1.1.2 subflow dev eth0", "10.1.2.2 subflow dev eth1", "10.1.2.2",
		},
		{
			"another address",
			func(n *lab.Net) { n.Client.IP("addr del 10.1.1.2/24 dev eth0") },
			func(n *lab.Net) { n.Client.IP("addr add 10.1.1.3/24 dev eth0", defA) },
			func(n *lab.Net) {
				n.Client.IP("addr del 10.1.1.3/24 dev eth0", "addr add 10.1.1.2/24 dev eth0", defA)
			},
			"10.1.1.2 subflow dev eth0", "10.1.1.3 subflow dev eth0", "10.1.1.3",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			both(t, func(t *testing.T, with bool) {
				n := lab.TwoSubnets(t, lab.NoDefault("eth1"))
				strictServer(n)
				if with {
					n.Client.Daemon()
					reach(n, n.A)
				}
				conn := n.Client.Dial("10.9.0.2:5001")
				conn.WantSubflows(n.A.Addr)
				c.lose(n)
				answers := waiting(t, 4*time.Second, conn)
				if !with {
					c.next(n)
					c.back(n)
					answers()
					return
				}
				if e := n.Client.Endpoints(); !slices.Equal(e, []string{c.old}) {
					t.Errorf("endpoints %v while the connection has no other path, wanted %s", e, c.old)
				}
				c.next(n)
				answers()
				lab.Eventually(t, soon, "the old endpoint goes", func() error { return n.Client.CheckEndpoints(c.new) })
				lab.Eventually(t, soon, "the connection on the new path alone", func() error { return conn.CheckSubflows(c.addr) })
				lab.Never(t, 3*time.Second, "the connection goes on", func() error { return conn.Echo(lab.Patient(soon)) })
			})
		})
	}
}

// TestLingersUntilMoved: with a server that accepts joins, an endpoint on a dead path lingers for as long as the
// connection has not been heard of on another path, and not longer, though the connection lives on.
func TestLingersUntilMoved(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	strictServer(n)
	n.Client.Daemon()
	reach(n, n.A, n.B)
	c := n.Client.Dial("10.9.0.2:5001")
	c.WantSubflows(n.A.Addr, n.B.Addr)
	n.A.Cut()
	c.WantEcho(recovers)
	lab.Eventually(t, soon, "the endpoint without carrier goes", func() error {
		return n.Client.CheckEndpoints("10.1.2.2 subflow dev eth1")
	})
	c.WantEcho(soon)
	n.A.Restore()
	lab.Eventually(t, 2*soon, "the subflow is back", func() error { return c.CheckSubflows(n.A.Addr, n.B.Addr) })
	reach(n, n.A, n.B)
}

// checkLingering compares the addresses of lingering endpoints with what subflowctl status says of them, as text and
// as JSON.
func checkLingering(h *lab.Host, addrs ...string) error {
	var doc struct {
		Endpoints []struct {
			Address, State, Reason string
			Connections            int
			WaitsFor               string `json:"waits_for"`
		}
	}
	h.CtlJSON(&doc, "status")
	var found []string
	for _, e := range doc.Endpoints {
		if e.State != "lingering" {
			continue
		}
		found = append(found, e.Address)
		if e.Connections != 1 || e.WaitsFor == "" || e.Reason == "" {
			return fmt.Errorf("status says of the lingering %s: %+v", e.Address, e)
		}
	}
	if !slices.Equal(found, addrs) {
		return fmt.Errorf("lingering endpoints %q, wanted %q", found, addrs)
	}
	text := h.Ctl("status").Stdout
	for _, a := range addrs {
		if !slices.ContainsFunc(strings.Split(text, "\n"), func(l string) bool {
			return strings.Contains(l, a) && strings.Contains(l, "linger")
		}) {
			return fmt.Errorf("the status does not say that the endpoint of %s lingers:\n%s", a, text)
		}
	}
	return nil
}

func wantLingering(h *lab.Host, addrs ...string) {
	h.Lab.T.Helper()
	lab.Eventually(h.Lab.T, soon, "the lingering endpoint is named", func() error { return checkLingering(h, addrs...) })
}

// TestExchangeWithoutGap: the rules of addresses are exchanged hundreds of times, because another link joins and leaves
// their subnet and because foreign rules of our priority come. A plain TCP connection bound to one of the addresses
// keeps sending, and so do datagrams from all of them, each with a lookup of its own: not one packet takes another link.
func TestExchangeWithoutGap(t *testing.T) {
	t.Parallel()
	for _, c := range []exchange{
		{
			family: "-4", addrs: []string{"10.1.2.2", "10.1.2.3", "10.1.2.4"}, bits: "/24", joins: "10.1.2.50/24",
			server: "10.9.0.2", foreign: "203.0.113.",
		},
		{
			family: "-6", addrs: []string{"2001:db8:2::2", "2001:db8:2::3", "2001:db8:2::4"}, bits: "/64", joins: "2001:db8:2::50/64",
			server: "2001:db8:9::2", foreign: "2001:db8:ff::",
		},
	} {
		t.Run(c.family, func(t *testing.T) {
			t.Parallel()
			c.run(t)
		})
	}
}

type exchange struct {
	family, bits, joins, server, foreign string
	addrs                                []string
}

func (x exchange) run(t *testing.T) {
	opts := []lab.Option{lab.Rate("20mbit")}
	if x.family == "-6" {
		opts = append(opts, lab.IPv6Only())
	}
	n := lab.TwoSubnets(t, opts...)
	lab.Veth(n.Client, "eth2", n.Router, "r2")
	n.Client.WaitCarrier("eth2", true)
	for _, a := range x.addrs[1:] {
		n.Client.IP("addr add " + a + x.bits + " dev eth1")
	}
	nft := map[string]string{"-4": "ip", "-6": "ip6"}[x.family]
	n.Client.NFT("add table inet watch", "add counter inet watch astray", "add counter inet watch resets",
		"add chain inet watch out { type filter hook postrouting priority 300; }",
		"add chain inet watch in { type filter hook prerouting priority -400; }",
		fmt.Sprintf(`add rule inet watch out oifname { "eth0", "eth2", "lo" } %s saddr { %s } counter name astray`, nft, strings.Join(x.addrs, ", ")),
		"add rule inet watch out tcp flags rst counter name resets", "add rule inet watch in tcp flags rst counter name resets")
	remote := netip.AddrPortFrom(netip.MustParseAddr(x.server), 5002)
	n.Server.Listen(remote.String(), lab.TCP())
	sink(n.Server, x.server)

	x.control(n)
	monitor := n.Client.Monitor()
	n.Client.Daemon()
	lab.Eventually(t, soon, "rules of all addresses", func() error { return x.checkRules(n.Client, false) })
	astray := packets(n.Client, "astray")
	up := n.Client.Dial(remote.String(), lab.TCP(), lab.From(x.addrs[0])).StartUpload()
	var stops []func() (int, error)
	for _, a := range x.addrs {
		stops = append(stops, flood(n.Client, a, x.server))
	}
	const rounds = 100 // an exchange for each address; when the link leaves, one delete is enough
	for range rounds {
		n.Client.IP("addr add " + x.joins + " dev eth2")
		lab.Eventually(t, soon, "rules after a link joined the subnet", func() error { return x.checkRules(n.Client, true) })
		n.Client.IP("addr del " + x.joins + " dev eth2")
		lab.Eventually(t, soon, "rules after a link left the subnet", func() error { return x.checkRules(n.Client, false) })
	}
	for i := range 4 {
		n.Client.IP(fmt.Sprintf("%s rule add from %s%d lookup main pref 32765", x.family, x.foreign, i+1))
		lab.Eventually(t, soon, "our rules behind a foreign one", func() error { return x.checkRules(n.Client, false) })
	}
	r := up.Stop(0)
	for i, stop := range stops {
		if sent, err := stop(); err != nil || sent < 1000 {
			t.Errorf("from %s: %d datagrams sent, %v", x.addrs[i], sent, err)
		} else {
			t.Logf("from %s: %d datagrams", x.addrs[i], sent)
		}
	}
	t.Log(r)
	if r.Err != nil || r.Bytes == 0 {
		t.Errorf("the connection that kept sending: %d bytes, %v", r.Bytes, r.Err)
	}
	if now := packets(n.Client, "astray"); now != astray {
		t.Errorf("%d packets left by another link", now-astray)
	}
	if r := packets(n.Client, "resets"); r != 0 {
		t.Errorf("%d resets", r)
	}
	if exchanges, err := x.replay(n.Client, monitor.Stop()); err != nil || exchanges < 300 {
		t.Errorf("%d exchanges: %v", exchanges, err)
	}
}

// replay goes through the kernel's own account of the changes: after each of them every address had the rule that leads
// to its gateway, and main before it. It counts how often that rule was exchanged.
func (x exchange) replay(h *lab.Host, lines []string) (exchanges int, err error) {
	table := tableOf(h, "eth1")
	for _, a := range x.addrs {
		have := map[string]int{}
		began := false
		for _, l := range lines {
			l, deleted := strings.CutPrefix(l, "Deleted ")
			rule, found := strings.CutPrefix(l, "32765: from "+a+" lookup ")
			if !found {
				continue
			}
			rule = strings.Join(strings.Fields(rule)[:len(strings.Fields(rule))-2], " ") // without the protocol
			if have[rule]++; deleted {
				have[rule] -= 2
			}
			if began && (have[table] < 1 || have["main suppress_prefixlength 0"] < 1) {
				return exchanges, fmt.Errorf("%s was left with %v after %q", a, have, l)
			}
			if began = began || have[table] > 0; rule == table && deleted {
				exchanges++
			}
		}
	}
	return exchanges, nil
}

// control shows that a gap is found: the rule of an address is exchanged by hand, the old one first.
func (x exchange) control(n *lab.Net) {
	t := n.T
	t.Helper()
	gateway := n.B.Gateway
	if x.family == "-6" {
		gateway = n.B.Gateway6
	}
	rule := " from " + x.addrs[0] + " lookup 200 pref 1000"
	route := " default via " + gateway + " dev eth1 table 200"
	n.Client.IP(x.family+" route add"+route, x.family+" rule add"+rule)
	stop := flood(n.Client, x.addrs[0], x.server)
	lab.Eventually(t, 2*soon, "packets by the wrong link while the rule is exchanged by hand", func() error {
		n.Client.IP(x.family+" rule del"+rule, x.family+" rule add"+rule)
		if packets(n.Client, "astray") == 0 {
			return fmt.Errorf("none counted")
		}
		return nil
	})
	if sent, err := stop(); err != nil || sent == 0 {
		t.Fatalf("%d datagrams sent, %v", sent, err)
	}
	n.Client.IP(x.family+" rule del"+rule, x.family+" route del"+route)
}

// checkRules tells whether each address has exactly the rules that it should have, all behind every foreign one.
func (x exchange) checkRules(h *lab.Host, shared bool) error {
	all := h.Rules(x.family)
	table := tableOf(h, "eth1")
	for _, a := range x.addrs {
		from := "32765: from " + a + " lookup "
		want := []string{from + "main suppress_prefixlength 0 proto 77", from + table + " proto 77"}
		if shared {
			want = append([]string{from + table + " suppress_prefixlength 0 proto 78"}, want...)
		}
		var have []string
		for _, l := range all {
			if strings.HasPrefix(l, "32765: from "+a+" ") {
				have = append(have, l)
			}
		}
		if !slices.Equal(want, have) {
			return fmt.Errorf("rules of %s: %q, wanted %q", a, have, want)
		}
	}
	if i := slices.IndexFunc(all, ours); slices.ContainsFunc(all[i:], func(l string) bool { return !ours(l) }) {
		return fmt.Errorf("a foreign rule behind ours: %q", all)
	}
	return nil
}
