package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

// TestTwoSubnets is the first host that has to work without any configuration.
func TestTwoSubnets(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.IPv6())
	before := n.Client.Table("-4", "main")
	n.Client.Daemon()
	reach(n, n.A, n.B)
	for _, rules := range [][]string{
		{"32765: from 10.1.1.2 lookup main suppress_prefixlength 0 proto 77", "32765: from 10.1.1.2 lookup 100002 proto 77"},
		{"32765: from 10.1.2.2 lookup main suppress_prefixlength 0 proto 77", "32765: from 10.1.2.2 lookup 100003 proto 77"},
	} {
		if err := containsInOrder(n.Client.Rules("-4"), rules); err != nil {
			t.Error(err)
		}
	}
	n.Client.WantTable("100002", "10.1.1.0/24 dev eth0 proto 77 scope link",
		"default via 10.1.1.1 dev eth0 proto 77 metric 100")
	n.Client.WantTable6("100003", "2001:db8:2::/64 dev eth1 proto 77 metric 256", "fe80::/64 dev eth1 proto 77 metric 256",
		"default via 2001:db8:2::1 dev eth1 proto 77 metric 200")
	n.Client.WantEndpoints("10.1.1.2 subflow dev eth0", "10.1.2.2 subflow dev eth1",
		"2001:db8:1::2 subflow dev eth0", "2001:db8:2::2 subflow dev eth1")
	n.Client.WantLimits("add_addr_accepted 4 subflows 4")

	for _, c := range []struct{ src, dst, want string }{
		{"10.1.1.2", "10.9.0.2", "dev eth0 via 10.1.1.1"},
		{"10.1.1.2", "10.1.1.77", "dev eth0"},
		{"10.1.2.2", "10.9.0.2", "dev eth1 via 10.1.2.1"},
		{"10.1.2.2", "10.1.2.77", "dev eth1"},
		{"2001:db8:1::2", "2001:db8:9::2", "dev eth0 via 2001:db8:1::1"},
		{"2001:db8:1::2", "2001:db8:1::77", "dev eth0"},
		{"2001:db8:2::2", "2001:db8:9::2", "dev eth1 via 2001:db8:2::1"},
		{"2001:db8:2::2", "2001:db8:2::77", "dev eth1"},
	} {
		n.Client.WantRoute(c.dst, "from "+c.src, c.want)
	}
	unboundAsBefore(n, before)
	for _, p := range []*lab.Path{n.A, n.B} {
		leavesBy(n, p, p.Addr, n.ServerAddr, p.Gateway)
		leavesBy(n, p, p.Addr6, n.ServerAddr6, p.Gateway6)
	}
	twoSubflows(n, "10.9.0.2:5001", n.A.Addr, n.B.Addr)
	twoSubflows(n, "[2001:db8:9::2]:5001", n.A.Addr6, n.B.Addr6)
}

// TestOneSubnet is the second: two links in one subnet, with a stable and a temporary IPv6 address each and one router.
func TestOneSubnet(t *testing.T) {
	t.Parallel()
	n := lab.OneSubnet(t, lab.IPv6(), lab.ArpIgnore())
	before := n.Client.Table("-4", "main")
	n.Client.Daemon()
	reach(n, n.A, n.B)
	if err := containsInOrder(n.Client.Rules("-4"), []string{
		"32765: from 192.168.0.43 lookup 100003 suppress_prefixlength 0 proto 78",
		"32765: from 192.168.0.43 lookup main suppress_prefixlength 0 proto 77",
		"32765: from 192.168.0.43 lookup 100003 proto 77",
	}); err != nil {
		t.Error(err)
	}
	n.Client.WantTable("100003", "192.168.0.0/24 dev wlp3s0 proto 77 scope link",
		"default via 192.168.0.1 dev wlp3s0 proto 77 metric 600")
	n.Client.WantTable6("100003", "2001:db8:1::/64 dev wlp3s0 proto 77 metric 256", "fe80::/64 dev wlp3s0 proto 77 metric 256",
		"default via fe80::1 dev wlp3s0 proto 77 metric 600")
	n.Client.WantLimits("add_addr_accepted 4 subflows 4")

	for _, p := range []*lab.Path{n.A, n.B} {
		n.Client.WantRoute("10.9.0.2", "from "+p.Addr, "dev "+p.Dev+" via 192.168.0.1")
		n.Client.WantRoute("192.168.0.77", "from "+p.Addr, "dev "+p.Dev)
		leavesBy(n, p, p.Addr, n.ServerAddr, p.Gateway)
		all := append(n.Client.Addrs6(p.Dev, false), n.Client.Addrs6(p.Dev, true)...)
		if len(all) != 2 {
			t.Fatalf("%s has IPv6 addresses %v, wanted a stable and a temporary one", p.Dev, all)
		}
		for _, a := range all {
			n.Client.WantRoute("2001:db8:9::2", "from "+a, "dev "+p.Dev+" via fe80::1")
			n.Client.WantRoute("2001:db8:1::77", "from "+a, "dev "+p.Dev)
			leavesBy(n, p, a, n.ServerAddr6, "2001:db8:1::1")
		}
	}
	unboundAsBefore(n, before)
	twoSubflows(n, "10.9.0.2:5001", n.A.Addr, n.B.Addr)
	twoSubflows(n, "[2001:db8:9::2]:5001", n.Client.Addrs6(n.A.Dev, true)[0], n.Client.Addrs6(n.B.Dev, true)[0])
}

// TestRouterAdvertisements is one subnet as it comes in life: addresses, prefix and router by advertisements.
func TestRouterAdvertisements(t *testing.T) {
	t.Parallel()
	n := lab.OneSubnet(t, lab.SLAAC(), lab.IPv6Only())
	n.A.Gateway6, n.B.Gateway6 = "fe80::1", "fe80::1"
	n.Client.Daemon()
	reach(n, n.A, n.B)
	if err := n.CheckUplinks("subflow", n.A, n.B); err != nil {
		t.Error(err)
	}
	twoSubflows(n, "[2001:db8:9::2]:5001", n.Client.Addrs6(n.A.Dev, true)[0], n.Client.Addrs6(n.B.Dev, true)[0])
}

// TestDefaultOutsideMain has eth1's default route in a table of the administrator's, reached by address or by everybody.
func TestDefaultOutsideMain(t *testing.T) {
	t.Parallel()
	for _, rule := range []string{
		"from 10.1.2.2 lookup 200 pref 1000", "from 10.1.2.0/24 lookup 200 pref 1000",
		"from all lookup 200 pref 40000",
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			n := lab.TwoSubnets(t, lab.NoDefault("eth1"))
			n.Client.IP("route add default via 10.1.2.1 dev eth1 table 200", "rule add "+rule)
			before := n.Client.Table("-4", "200")
			n.Client.Daemon()
			lab.Eventually(t, soon, "eth1 an uplink", func() error {
				return n.Client.CheckEndpoints("10.1.1.2 subflow dev eth0", "10.1.2.2 subflow dev eth1")
			})
			n.Client.WantTable("100003", "10.1.2.0/24 dev eth1 proto 77 scope link", "default via 10.1.2.1 dev eth1 proto 77")
			n.Client.WantTable("200", before...)
			n.Client.WantRoute(n.ServerAddr, "", "dev eth0 via 10.1.1.1")
			twoSubflows(n, "10.9.0.2:5001", n.A.Addr, n.B.Addr)
		})
	}
}

// TestGatewayInConfiguration has eth1's gateways nowhere but in the configuration.
func TestGatewayInConfiguration(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.IPv6(), lab.NoDefault("eth1"))
	before := n.Client.Table("-4", "main")
	n.Client.DaemonConfig("[[link]]\nname = \"eth1\"\ngateway4 = \"10.1.2.1\"\ngateway6 = \"2001:db8:2::1\"\n")
	lab.Eventually(t, soon, "two paths", func() error { return n.CheckUplinks("subflow", n.A, n.B) })
	unboundAsBefore(n, before)
	leavesBy(n, n.B, n.B.Addr, n.ServerAddr, n.B.Gateway)
	leavesBy(n, n.B, n.B.Addr6, n.ServerAddr6, n.B.Gateway6)
	twoSubflows(n, "10.9.0.2:5001", n.A.Addr, n.B.Addr)
	twoSubflows(n, "[2001:db8:9::2]:5001", n.A.Addr6, n.B.Addr6)
}

// TestThroughput is not parallel: it measures.
//
// What the peer reads after a cut comes behind all that is queued on the path that is left. With the buffers of a desktop
// that is up to 0.7 s here, ours and the kernel's part included; smaller ones leave room for a busy machine.
func TestThroughput(t *testing.T) {
	for _, h := range []struct {
		name string
		make func(testing.TB, ...lab.Option) *lab.Net
	}{{"two subnets", lab.TwoSubnets}, {"one subnet", lab.OneSubnet}} {
		t.Run(h.name, func(t *testing.T) {
			n := h.make(t, lab.Rate("20mbit"), lab.ArpIgnore(),
				lab.ClientSysctl("net.ipv4.tcp_wmem", "4096 16384 700000"))
			n.Client.Daemon()
			reach(n, n.A, n.B)
			n.Server.Listen("10.9.0.2:5001")
			c := n.Client.Dial("10.9.0.2:5001")
			c.WantSubflows(n.A.Addr, n.B.Addr)
			a, _ := n.Client.LinkBytes(n.A.Dev)
			b, _ := n.Client.LinkBytes(n.B.Dev)
			r := c.Upload(5 * time.Second)
			t.Log(r)
			if r.Err != nil || r.Mbps <= 30 {
				t.Errorf("%v, %v; wanted more than 30 Mbit/s over two paths of 20", r, r.Err)
			}
			nowA, _ := n.Client.LinkBytes(n.A.Dev)
			nowB, _ := n.Client.LinkBytes(n.B.Dev)
			if nowA-a < r.Bytes/4 || nowB-b < r.Bytes/4 {
				t.Errorf("%s sent %d bytes and %s %d, of %d: wanted about half each", n.A.Dev, nowA-a, n.B.Dev, nowB-b, r.Bytes)
			}
			cutUnderTransfer(t, n, c)
		})
	}
}

// cutUnderTransfer cuts the link that the connection started on while it sends.
func cutUnderTransfer(t *testing.T, n *lab.Net, c *lab.Conn) {
	t.Helper()
	up := c.StartUpload()
	lab.Eventually(t, soon, "a transfer under way", func() error {
		if up.Bytes() < 3e6 {
			return fmt.Errorf("%d bytes", up.Bytes())
		}
		return nil
	})
	n.A.Cut()
	r := up.Stop(3 * time.Second)
	t.Log("cut: ", r)
	if r.Err != nil || r.Stall >= time.Second {
		t.Errorf("after the cut: stall of %v, error %v; wanted less than a second and none", r.Stall, r.Err)
	}
	if last := sum(r.Bins[max(0, len(r.Bins)-10):]); last < 1e6 {
		t.Errorf("after the cut: %d bytes in the last second, wanted about 2000000", last)
	}
	c.WantEcho(soon)
}

func sum(v []int) (s int) {
	for _, x := range v {
		s += x
	}
	return s
}

// containsInOrder tells whether the wanted lines are among the found ones, in this order.
func containsInOrder(found, want []string) error {
	i := 0
	for _, l := range found {
		if i < len(want) && l == want[i] {
			i++
		}
	}
	if i == len(want) {
		return nil
	}
	return fmt.Errorf("wanted, in this order:\n  %q\nfound:\n  %q", want, found)
}

// unboundAsBefore checks that traffic without a source address goes where it went, and that main is untouched.
func unboundAsBefore(n *lab.Net, main []string) {
	n.T.Helper()
	n.Client.WantTable("main", main...)
	n.Client.WantRoute(n.ServerAddr, "", "dev "+n.A.Dev+" via "+n.A.Gateway+" src "+n.A.Addr)
	n.Client.WantRoute(n.ServerAddr6, "", "dev "+n.A.Dev+" via "+n.A.Gateway6)
}

// leavesBy sends packets from an address, beyond the gateway and to the gateway itself, which is a neighbour, and checks
// by the counters of both links that they leave by their own.
func leavesBy(n *lab.Net, p *lab.Path, src string, dsts ...string) {
	n.T.Helper()
	other := n.A
	if p == n.A {
		other = n.B
	}
	for _, dst := range dsts {
		own, _ := n.Client.LinkBytes(p.Dev)
		alien, _ := n.Client.LinkBytes(other.Dev)
		n.Client.Run("ping", "-n", "-q", "-c", "60", "-i", "0.01", "-s", "1000", "-W", "10", "-I", src, dst)
		nowOwn, _ := n.Client.LinkBytes(p.Dev)
		nowAlien, _ := n.Client.LinkBytes(other.Dev)
		if nowOwn-own < 60000 || nowAlien-alien > 30000 {
			n.Dump()
			n.T.Fatalf("60 packets of 1000 bytes from %s to %s: %s sent %d bytes, %s %d",
				src, dst, p.Dev, nowOwn-own, other.Dev, nowAlien-alien)
		}
	}
}

// twoSubflows checks that a new MPTCP connection gets a subflow from each address, two as a rule, and no other.
func twoSubflows(n *lab.Net, server string, addrs ...string) {
	n.T.Helper()
	n.Server.Listen(server)
	c := n.Client.Dial(server)
	c.WantSubflows(addrs...)
	c.WantEcho(soon)
}
