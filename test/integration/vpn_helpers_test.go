package integration

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

// realVPN is a VPN by the programs that people use.
type realVPN struct {
	name      string
	four, six bool // the families that it carries in full
	start     func(*lab.Gate) *lab.RealVPN
}

var realVPNs = []realVPN{
	{"OpenVPN", true, false, func(g *lab.Gate) *lab.RealVPN { return g.OpenVPN("redirect-gateway def1") }},
	{"OpenVPN both", true, true, func(g *lab.Gate) *lab.RealVPN { return g.OpenVPN("redirect-gateway def1 ipv6") }},
	{"WireGuard IPv4", true, false, func(g *lab.Gate) *lab.RealVPN { return g.WireGuard("0.0.0.0/0") }},
	{"WireGuard IPv6", false, true, func(g *lab.Gate) *lab.RealVPN { return g.WireGuard("::/0") }},
	{"WireGuard both", true, true, func(g *lab.Gate) *lab.RealVPN { return g.WireGuard("0.0.0.0/0, ::/0") }},
}

const server4, server6 = "10.9.0.2:5001", "[2001:db8:9::2]:5001"

// vpnLab is a client with two uplinks in both families, and a VPN that is ready to be used.
type vpnLab struct {
	*lab.Net
	realVPN
	vpn  *lab.RealVPN
	ways []way // where traffic goes while the VPN is up and there is no subflowd
}

func (v realVPN) lab(t *testing.T) *vpnLab {
	t.Helper()
	n := lab.TwoSubnets(t, lab.IPv6())
	n.Server.Listen(server4)
	n.Server.Listen(server6)
	// The narrow place is behind what is watched: packets that wait on the client's own links would be sent later.
	n.Router.Run("tc", strings.Fields("qdisc replace dev rs root tbf rate 10mbit burst 32k latency 60ms")...)
	return &vpnLab{Net: n, realVPN: v, vpn: v.start(n.Gate())}
}

// servers are those that the VPN carries the traffic to; beside are those that it does not.
func (x *vpnLab) servers() (carried, beside []string) {
	for _, s := range []struct {
		addr string
		by   bool
	}{{server4, x.four}, {server6, x.six}} {
		if s.by {
			carried = append(carried, s.addr)
		} else {
			beside = append(beside, s.addr)
		}
	}
	return carried, beside
}

// addrTo is a path's address in the family of a server.
func addrTo(server string, p *lab.Path) string {
	if server == server6 {
		return p.Addr6
	}
	return p.Addr
}

func (x *vpnLab) tunnelAddr(server string) string {
	if server == server6 {
		return x.vpn.Addr6
	}
	return x.vpn.Addr
}

// record notes where traffic goes now.
func (x *vpnLab) record() {
	x.T.Helper()
	x.ways = nil
	for _, q := range []struct {
		dsts      []string
		a, b, tun string
	}{
		{[]string{x.ServerAddr, "10.1.2.99", lab.GateAddr, "192.0.2.1"}, x.A.Addr, x.B.Addr, x.vpn.Addr},
		{[]string{x.ServerAddr6, "2001:db8:2::99", "2600::1"}, x.A.Addr6, x.B.Addr6, x.vpn.Addr6},
	} {
		for _, s := range []string{
			"", "mark 51820", "oif eth0", "oif eth1", "from " + q.a, "from " + q.b,
			"from " + q.a + " oif eth1", "from " + q.b + " oif eth1", "from " + q.tun,
		} {
			for _, d := range q.dsts {
				x.ways = append(x.ways, way{d, s, wayOut(x.Client, d, s)})
			}
		}
	}
}

// guarded tells whether the client has stepped aside.
func (x *vpnLab) guarded() error {
	for _, l := range append(x.Client.Rules("-4"), x.Client.Rules("-6")...) {
		if ours(l) {
			return fmt.Errorf("rule %s", l)
		}
	}
	if err := x.Client.CheckLimits("add_addr_accepted 0 subflows 0"); err != nil {
		return err
	}
	return checkWays(x.Client, x.ways)
}

func (x *vpnLab) wantGuarded() {
	x.T.Helper()
	lab.Eventually(x.T, soon, "the client steps aside", x.guarded)
}

// stray matches what the VPN should carry.
func (x *vpnLab) stray() string {
	// A large packet of the VPN's own travels in fragments; only the first of them has ports.
	transport := fmt.Sprintf("not (udp and host %s and (port %d or ip[6:2] & 0x1fff != 0)) and not arp and not icmp6 and not ip6 multicast",
		lab.GateAddr, x.vpn.Port)
	switch {
	case !x.six:
		return "ip and " + transport
	case !x.four:
		return "ip6 and not icmp6 and not ip6 multicast"
	}
	return transport
}

// wantInside opens a connection to every server and uses it for some time: what the tunnel carries stays in it, and what
// it does not carry has one subflow.
func (x *vpnLab) wantInside() {
	x.T.Helper()
	carried, beside := x.servers()
	tap := x.Wiretap(x.stray())
	var conns []*lab.Conn
	var want []string
	for _, s := range carried {
		conns, want = append(conns, x.Client.Dial(s)), append(want, x.tunnelAddr(s))
	}
	for _, s := range beside {
		conns, want = append(conns, x.Client.Dial(s)), append(want, addrTo(s, x.A))
	}
	lab.Never(x.T, time.Second, "connections stay in the tunnel", func() error {
		for i, c := range conns {
			if err := c.Echo(lab.Patient(soon)); err != nil {
				return err
			}
			if err := c.CheckSubflows(want[i]); err != nil {
				return err
			}
		}
		return nil
	})
	for _, c := range conns {
		c.Close()
	}
	if out := tap.Packets(); len(out) > 0 {
		x.T.Errorf("%d packets outside the tunnel, such as %s", len(out), out[0].Text)
	}
}

// wantBothPaths opens a connection to every server.
func (x *vpnLab) wantBothPaths() {
	x.T.Helper()
	for _, s := range []string{server4, server6} {
		c := x.Client.Dial(s)
		c.WantSubflows(addrTo(s, x.A), addrTo(s, x.B))
		c.Close()
	}
}

// back tells whether all is as it was before the VPN.
func (x *vpnLab) back(limits string) {
	x.T.Helper()
	reach(x.Net, x.A, x.B)
	lab.Eventually(x.T, soon, "the limits are back", func() error { return x.Client.CheckLimits(limits) })
	lab.Eventually(x.T, soon, "nothing to report", func() error {
		if all := conditionsOf(x.Client); slices.Contains(all, "vpn-guard") || slices.Contains(all, "contention") {
			return fmt.Errorf("conditions %v", all)
		}
		return nil
	})
}

// live is a connection that was there before the tunnel, and its first subflow.
type live struct {
	*lab.Conn
	server  string
	initial []string
}

// dialLive opens a connection over both paths to each server.
func (x *vpnLab) dialLive(servers []string) []live {
	x.T.Helper()
	var r []live
	for _, s := range servers {
		c := x.Client.Dial(s)
		c.WantSubflows(addrTo(s, x.A), addrTo(s, x.B))
		first := slices.DeleteFunc(c.Ends(), func(e string) bool { return !strings.Contains(e, addrTo(s, x.A)) })
		r = append(r, live{c, s, first})
	}
	return r
}

// wantOnlyFirst waits until the second subflows are closed, and the first ones are as they were.
func (x *vpnLab) wantOnlyFirst(all []live) {
	x.T.Helper()
	for _, c := range all {
		lab.Eventually(x.T, soon, "the second subflow is closed", func() error { return c.CheckSubflows(addrTo(c.server, x.A)) })
		if err := untouched(c.Conn, c.initial); err != nil {
			x.T.Error(err)
		}
	}
}

// wantRestored waits until the connections use both paths again.
func (x *vpnLab) wantRestored(all []live) {
	x.T.Helper()
	for _, c := range all {
		c.WantEcho(recovers)
		lab.Eventually(x.T, recovers, "the connection uses both paths again", func() error {
			return c.CheckSubflows(addrTo(c.server, x.A), addrTo(c.server, x.B))
		})
		if err := untouched(c.Conn, c.initial); err != nil {
			x.T.Error(err)
		}
	}
}

func connsOf(all []live) []*lab.Conn {
	var r []*lab.Conn
	for _, c := range all {
		r = append(r, c.Conn)
	}
	return r
}

// open makes short connections to a server, one after the other, until the returned function is called, which tells how
// many. Some begin just before the tunnel is there; what becomes of them is of no interest.
func (x *vpnLab) open(server string) (stop func() int) {
	quit, done, n := make(chan struct{}), make(chan struct{}), 0
	go func() {
		defer close(done)
		for ; ; n++ {
			select {
			case <-quit:
				return
			case <-time.After(10 * time.Millisecond):
			}
			if c, err := x.Client.TryDial(server, lab.Within(500*time.Millisecond)); err == nil {
				_ = c.Echo(200 * time.Millisecond)
				_ = c.Close()
			}
		}
	}()
	var once sync.Once
	stop = func() int { once.Do(func() { close(quit) }); <-done; return n }
	x.T.Cleanup(func() { stop() })
	return stop
}

// quiet tells whether nothing was recorded for half a second.
func quiet(tap *lab.Wiretap) error {
	if all := tap.Packets(); len(all) > 0 && time.Since(all[len(all)-1].At) < 500*time.Millisecond {
		return fmt.Errorf("%s on %s", all[len(all)-1].Text, all[len(all)-1].Dev)
	}
	return nil
}
