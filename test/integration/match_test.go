package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/subflowd/subflowd/test/lab"
)

// containers makes a bridge on the client with these addresses (with prefix length), and a host behind it that has them
// as gateways and .2 or ::2 itself.
func containers(n *lab.Net, bridge string, gateways ...string) *lab.Host {
	n.T.Helper()
	c := n.Host("web")
	n.Client.IP("link add " + bridge + " type bridge")
	lab.Veth(c, "eth0", n.Client, "veth1")
	n.Client.IP("link set veth1 master " + bridge)
	c.Sysctl("net.ipv6.conf.default.accept_dad", "0", "net.ipv6.conf.eth0.accept_dad", "0")
	for _, g := range gateways {
		ip, bits, _ := strings.Cut(g, "/")
		n.Client.IP("addr add " + g + " dev " + bridge)
		c.IP("addr add "+strings.TrimSuffix(ip, "1")+"2/"+bits+" dev eth0", "route add default via "+ip)
	}
	n.Client.IP("link set " + bridge + " up")
	return c
}

// guardNetworks counts packets to these networks that leave the client by its uplinks.
func guardNetworks(n *lab.Net, networks ...string) (leaked func() uint64) {
	n.T.Helper()
	n.Client.NFT("add table inet watch", "add counter inet watch leaks",
		"add chain inet watch out { type filter hook postrouting priority 300; }")
	for _, p := range networks {
		nft := "ip"
		if strings.Contains(p, ":") {
			nft = "ip6"
		}
		n.Client.NFT(fmt.Sprintf(`add rule inet watch out oifname { "%s", "%s" } %s daddr %s counter name leaks`, n.A.Dev, n.B.Dev, nft, p))
	}
	return func() uint64 { return packets(n.Client, "leaks") }
}

// wantTalk checks by packets that a host behind the client and each of the client's addresses reach one another.
func wantTalk(n *lab.Net, c *lab.Host, containerAddr string, addrs ...string) {
	n.T.Helper()
	addr := containerAddr
	if strings.Contains(addr, ":") {
		addr = "[" + addr + "]"
	}
	c.Listen(addr+":80", lab.TCP())
	for _, a := range addrs {
		if err := n.Client.Ping(containerAddr, a); err != nil {
			n.Dump()
			n.T.Fatal(err)
		}
		n.Client.Dial(addr+":80", lab.TCP(), lab.From(a)).WantEcho(soon)
		if err := c.Ping(a, ""); err != nil {
			n.Dump()
			n.T.Fatal(err)
		}
	}
}

// TestStaticAndContainers: a static 172.16.0.0/12 by an uplink, and docker0's 172.17.0.0/16 inside it. In one subnet
// the path table is asked before main.
func TestStaticAndContainers(t *testing.T) {
	t.Parallel()
	for name, topology := range map[string]func(testing.TB, ...lab.Option) *lab.Net{"two subnets": lab.TwoSubnets, "one subnet": lab.OneSubnet} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := topology(t)
			static := "dev " + n.B.Dev + " via " + n.B.Gateway
			n.Client.IP("route add 172.16.0.0/12 via " + n.B.Gateway + " " + "dev " + n.B.Dev)
			web := n.Client.Container("web")
			ways := []way{
				{"172.20.0.5", "from " + n.A.Addr, static},
				{"172.20.0.5", "from " + n.B.Addr, static},
				{"172.20.0.5", "", static},
			}
			for _, src := range []string{"", "from " + n.A.Addr, "from " + n.B.Addr, "from 172.17.0.1"} {
				ways = append(ways, way{"172.17.0.2", src, "dev docker0"}, way{"172.17.255.1", src, "dev docker0"})
			}
			wantWays(n.Client, ways) // the same without subflowd
			leaked := guardNetworks(n, "172.17.0.0/16")
			d := n.Client.Daemon()
			lab.Eventually(t, soon, "both uplinks", func() error { return n.CheckUplinks("subflow", n.A, n.B) })
			settled(d)
			wantWays(n.Client, ways)
			wantTalk(n, web, "172.17.0.2", n.A.Addr, n.B.Addr)
			if err := web.Ping(n.ServerAddr, ""); err != nil {
				t.Errorf("a container does not reach the outside: %v", err)
			}
			if p := leaked(); p != 0 {
				t.Errorf("%d packets to containers left by the uplinks", p)
			}
			twoSubflows(n, "10.9.0.2:5001", n.A.Addr, n.B.Addr)
		})
	}
}

// TestContainersInsideSharedNetwork: both links are in one /16 (and one /56), and a network of containers inside it comes later
// and goes again.
func TestContainersInsideSharedNetwork(t *testing.T) {
	t.Parallel()
	n := lab.OneSubnet(t, lab.Bare(), lab.IPv6())
	n.Router.IP("addr add 10.5.0.1/16 dev br0", "addr add 2001:db8:500::1/56 dev br0 nodad")
	n.A.Addr, n.B.Addr, n.A.Gateway, n.B.Gateway = "10.5.1.37", "10.5.2.43", "10.5.0.1", "10.5.0.1"
	n.A.Addr6, n.B.Addr6, n.A.Prefix6, n.B.Prefix6 = "2001:db8:500::37", "2001:db8:500::43", "2001:db8:500::/56", "2001:db8:500::/56"
	for _, p := range []*lab.Path{n.A, n.B} {
		n.Client.IP("addr add "+p.Addr+"/16 dev "+p.Dev, "addr add "+p.Addr6+"/56 dev "+p.Dev)
		p.AddDefault()
		p.AddDefault6()
	}
	n.Client.Daemon()
	ready := func() error { return checkUplinksWide(n) }
	lab.Eventually(t, soon, "both uplinks", ready)
	far := func(devA, devB string) []way {
		return []way{
			{"10.5.77.2", "from " + n.A.Addr, devA},
			{"10.5.77.2", "from " + n.B.Addr, devB},
			{"2001:db8:500:77::2", "from " + n.A.Addr6, devA},
			{"2001:db8:500:77::2", "from " + n.B.Addr6, devB},
		}
	}
	onLink, inside := far("dev "+n.A.Dev, "dev "+n.B.Dev), far("dev br-web", "dev br-web")
	wantWays(n.Client, onLink)

	web := containers(n, "br-web", "10.5.77.1/24", "2001:db8:500:77::1/64")
	lab.Eventually(t, soon, "containers stay on the host", func() error { return checkWays(n.Client, inside) })
	lab.Eventually(t, soon, "both uplinks", ready)
	leaked := guardNetworks(n, "10.5.77.0/24", "2001:db8:500:77::/64")
	wantTalk(n, web, "10.5.77.2", n.A.Addr, n.B.Addr)
	wantTalk(n, web, "2001:db8:500:77::2", n.A.Addr6, n.B.Addr6)
	if p := leaked(); p != 0 {
		t.Errorf("%d packets to containers left by the uplinks", p)
	}
	n.Client.IP("link del br-web")
	lab.Eventually(t, soon, "the network on-link again", func() error { return checkWays(n.Client, onLink) })
	for _, p := range []*lab.Path{n.A, n.B} {
		for _, f := range []string{"-4", "-6"} {
			lab.Eventually(t, soon, "no hole is left", func() error {
				if l := n.Client.Table(f, tableOf(n.Client, p.Dev)); slices.ContainsFunc(l, func(r string) bool { return strings.HasPrefix(r, "throw ") }) {
					return fmt.Errorf("%s: %q", p.Dev, l)
				}
				return nil
			})
		}
	}
	twoSubflows(n, "10.9.0.2:5001", n.A.Addr, n.B.Addr)
}

// checkUplinksWide is CheckUplinks for two links in one wide network.
func checkUplinksWide(n *lab.Net) error {
	var ways []way
	for _, p := range []*lab.Path{n.A, n.B} {
		ways = append(ways, way{n.ServerAddr, "from " + p.Addr, "dev " + p.Dev + " via " + p.Gateway},
			way{"10.5.3.99", "from " + p.Addr, "dev " + p.Dev},
			way{n.ServerAddr6, "from " + p.Addr6, "dev " + p.Dev + " via " + p.Gateway6},
			way{"2001:db8:500:3::99", "from " + p.Addr6, "dev " + p.Dev})
	}
	if err := checkWays(n.Client, ways); err != nil {
		return err
	}
	return n.Client.CheckEndpoints(n.A.Addr+" subflow dev "+n.A.Dev, n.B.Addr+" subflow dev "+n.B.Dev,
		n.A.Addr6+" subflow dev "+n.A.Dev, n.B.Addr6+" subflow dev "+n.B.Dev)
}

// TestNestedSubnets: a /16 on one link and a /24 inside it on the other (in IPv6 a /48 and a /64).
func TestNestedSubnets(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.Bare(), lab.IPv6())
	n.Router.IP("addr add 10.1.0.1/16 dev r0", "addr add 2001:db8:f::1/48 dev r0 nodad", "addr add 2001:db8:f:2::1/64 dev r1 nodad")
	n.A.Addr, n.A.Gateway, n.A.Addr6, n.A.Gateway6 = "10.1.0.2", "10.1.0.1", "2001:db8:f::2", "2001:db8:f::1"
	n.B.Addr6, n.B.Gateway6 = "2001:db8:f:2::2", "2001:db8:f:2::1"
	n.Client.IP("addr add 10.1.0.2/16 dev eth0", "addr add 10.1.2.2/24 dev eth1",
		"addr add 2001:db8:f::2/48 dev eth0", "addr add 2001:db8:f:2::2/64 dev eth1")
	for _, p := range []*lab.Path{n.A, n.B} {
		p.AddDefault()
		p.AddDefault6()
	}
	var ways []way
	for _, src := range []string{"", "from 10.1.0.2", "from 10.1.2.2"} {
		ways = append(ways, way{"10.1.7.99", src, "dev eth0"}, way{"10.1.2.99", src, "dev eth1"})
	}
	for _, src := range []string{"", "from 2001:db8:f::2", "from 2001:db8:f:2::2"} {
		ways = append(ways, way{"2001:db8:f:7::99", src, "dev eth0"}, way{"2001:db8:f:2::99", src, "dev eth1"})
	}
	wantWays(n.Client, ways) // the same without subflowd
	d := n.Client.Daemon()
	lab.Eventually(t, soon, "both uplinks", func() error {
		return n.Client.CheckEndpoints("10.1.0.2 subflow dev eth0", "10.1.2.2 subflow dev eth1",
			n.Client.Addrs6("eth0", false)[0]+" subflow dev eth0", n.Client.Addrs6("eth1", false)[0]+" subflow dev eth1")
	})
	settled(d)
	wantWays(n.Client, ways)
	for _, p := range []*lab.Path{n.A, n.B} {
		n.Client.WantRoute(n.ServerAddr, "from "+p.Addr, "dev "+p.Dev+" via "+p.Gateway)
		n.Client.WantRoute(n.ServerAddr6, "from "+p.Addr6, "dev "+p.Dev+" via "+p.Gateway6)
		for _, dst := range []string{"10.1.0.1", "10.1.2.1"} {
			if err := n.Client.Ping(dst, p.Addr); err != nil {
				t.Error(err)
			}
		}
	}
	twoSubflows(n, "10.9.0.2:5001", n.A.Addr, n.B.Addr)
	twoSubflows(n, "[2001:db8:9::2]:5001", n.A.Addr6, n.B.Addr6)
}
