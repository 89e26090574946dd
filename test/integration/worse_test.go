package integration

import (
	"errors"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/test/lab"
)

// recovers is how long a connection may take to go on after an outage of about ten seconds: TCP doubles its pauses.
const recovers = 60 * time.Second

// both runs a scenario twice, each in a lab of its own: without subflowd, which shows what the host does by itself, and
// with it.
func both(t *testing.T, scenario func(t *testing.T, with bool)) {
	t.Helper()
	for _, with := range []bool{false, true} {
		name := "without"
		if with {
			name = "with"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			scenario(t, with)
		})
	}
}

// hasten has a host give a connection up two seconds after its last subflow, in place of sixty. Before 6.7 the kernel has
// no such setting: what an endpoint that goes too early cuts stays open for a minute then, and moves nothing.
func hasten(h *lab.Host) {
	if _, err := h.Try("sysctl", "-n", "net.mptcp.close_timeout"); err == nil {
		h.Sysctl("net.mptcp.close_timeout", "2")
	}
}

// strictServer hastens the server, and serves.
func strictServer(n *lab.Net) {
	hasten(n.Server)
	n.Server.Listen("10.9.0.2:5001")
	if n.V6 {
		n.Server.Listen("[2001:db8:9::2]:5001")
	}
}

// outage begins one, has the connections ask the server for an answer all through it, and ends it. None may get an
// answer or an error before the end, and all must get their answer after it.
func outage(t *testing.T, during time.Duration, begin, end func(), conns ...*lab.Conn) {
	t.Helper()
	begin()
	wait := waiting(t, during, conns...)
	end()
	wait()
}

// ask has each connection ask the server for an answer, and wait for it for a time and long enough to recover.
func ask(during time.Duration, conns ...*lab.Conn) <-chan error {
	answers := make(chan error, len(conns))
	for _, c := range conns {
		go func() { answers <- c.Echo(lab.Patient(during + recovers)) }()
	}
	return answers
}

// waiting has the connections ask for an answer, which none may get for a time, nor an error; the returned function
// waits for the answers.
func waiting(t *testing.T, during time.Duration, conns ...*lab.Conn) (answered func()) {
	t.Helper()
	answers := ask(during, conns...)
	start := time.Now()
	select {
	case err := <-answers:
		conns[0].Host.Lab.Dump()
		t.Fatalf("%v into the outage a connection should wait, and ended with: %v",
			time.Since(start).Round(time.Millisecond), err)
	case <-time.After(during):
	}
	return func() {
		t.Helper()
		for range conns {
			if err := <-answers; err != nil {
				conns[0].Host.Lab.Dump()
				t.Fatalf("a connection that was alive before the outage: %v", err)
			}
		}
	}
}

// TestOnlyLink: what a host with one uplink goes through, while the server accepts no joins. The connection waits, and
// goes on with the subflow that it had.
func TestOnlyLink(t *testing.T) {
	t.Parallel()
	const def = "route add default via 10.1.1.1 dev eth0 metric 100"
	ip := func(commands ...string) func(*lab.Net) {
		return func(n *lab.Net) { n.Client.IP(commands...) }
	}
	for _, c := range []struct {
		name       string
		during     time.Duration
		begin, end func(*lab.Net)
	}{
		// Longer than the grace, and than the first look at what lingers.
		{"carrier lost", 11 * time.Second, func(n *lab.Net) { n.A.Cut() }, func(n *lab.Net) { n.A.Restore() }},
		{"address vanished", 4 * time.Second, ip("addr del 10.1.1.2/24 dev eth0"), ip("addr add 10.1.1.2/24 dev eth0", def)},
		{
			"renumbered and back", 4 * time.Second,
			ip("addr del 10.1.1.2/24 dev eth0", "addr add 10.1.1.3/24 dev eth0", def),
			ip("addr del 10.1.1.3/24 dev eth0", "addr add 10.1.1.2/24 dev eth0", def),
		},
		{"down and up", 4 * time.Second, ip("link set eth0 down"), ip("link set eth0 up", def)},
		{"default route lost", 4 * time.Second, func(n *lab.Net) {
			n.Client.IP("route del default via 10.1.1.1 dev eth0 metric 100")
			lab.Eventually(n.T, soon, "no way out", func() error {
				return n.Client.CheckRoute(n.ServerAddr, "from 10.1.1.2", "unreachable")
			})
		}, ip(def)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			both(t, func(t *testing.T, with bool) {
				n := lab.TwoSubnets(t, lab.NoDefault("eth1"), lab.RefuseJoins())
				strictServer(n)
				if with {
					n.Client.Daemon()
					reach(n, n.A)
				}
				asking, idle := n.Client.Dial("10.9.0.2:5001"), n.Client.Dial("10.9.0.2:5001")
				for _, c := range []*lab.Conn{asking, idle} {
					c.WantSubflows(n.A.Addr)
				}
				before := [][]string{asking.Ends(), idle.Ends()}
				outage(t, c.during, func() { c.begin(n) }, func() { c.end(n) }, asking)
				idle.WantEcho(recovers)
				if after := [][]string{asking.Ends(), idle.Ends()}; !slices.EqualFunc(before, after, slices.Equal) {
					t.Errorf("subflows before %v, after %v", before, after)
				}
				if with {
					reach(n, n.A)
				}
			})
		})
	}
}

// TestOnlyLinkIPv6 takes the address away in IPv6, where the kernel announces all and keeps the default route.
func TestOnlyLinkIPv6(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, with bool) {
		n := lab.TwoSubnets(t, lab.IPv6Only(), lab.NoDefault("eth1"), lab.RefuseJoins())
		strictServer(n)
		if with {
			n.Client.Daemon()
			reach(n, n.A)
		}
		c := n.Client.Dial("[2001:db8:9::2]:5001")
		c.WantSubflows(n.A.Addr6)
		before := c.Ends()
		outage(t, 4*time.Second,
			func() { n.Client.IP("addr del 2001:db8:1::2/64 dev eth0") },
			func() { n.Client.IP("addr add 2001:db8:1::2/64 dev eth0") }, c)
		if after := c.Ends(); !slices.Equal(before, after) {
			t.Errorf("subflows before %v, after %v", before, after)
		}
		if with {
			reach(n, n.A)
		}
	})
}

// TestBlip: the connection's link loses its carrier for five seconds while another uplink is up, and the server accepts
// no joins: the connection could not be moved there.
func TestBlip(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, with bool) {
		n := lab.TwoSubnets(t, lab.RefuseJoins())
		strictServer(n)
		n.Server.Listen("10.9.0.2:5002", lab.TCP())
		if with {
			n.Client.Daemon()
			reach(n, n.A, n.B)
		}
		asking, idle := n.Client.Dial("10.9.0.2:5001"), n.Client.Dial("10.9.0.2:5001")
		plain := n.Client.Dial("10.9.0.2:5002", lab.TCP(), lab.From(n.A.Addr))
		plain.WantEcho(soon)
		for _, c := range []*lab.Conn{asking, idle} {
			c.WantSubflows(n.A.Addr)
		}
		before := [][]string{asking.Ends(), idle.Ends()}
		outage(t, 5*time.Second, n.A.Cut, n.A.Restore, asking, plain)
		idle.WantEcho(recovers)
		if after := [][]string{asking.Ends(), idle.Ends()}; !slices.EqualFunc(before, after, slices.Equal) {
			t.Errorf("subflows before %v, after %v", before, after)
		}
		if with {
			reach(n, n.A, n.B)
		}
	})
}

// TestBlipBehindFirewall: the link that main does not prefer loses its carrier for five seconds, and the network of the
// other answers what comes from a strange address with a reset, as firewalls do. Had the rules gone with the carrier,
// plain TCP would be reset. Without subflowd there is no such connection: the first packet is answered so.
func TestBlipBehindFirewall(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, with bool) {
		n := lab.TwoSubnets(t, lab.RefuseJoins())
		strictServer(n)
		n.Server.Listen("10.9.0.2:5002", lab.TCP())
		n.Router.IP("route add 10.1.2.0/24 via 10.1.1.2 dev r0 metric 1000") // for the answer, while r1 is down
		n.Router.NFT("add table inet wall", "add chain inet wall in { type filter hook forward priority 0; }",
			`add rule inet wall in iifname "r0" ip saddr 10.1.2.0/24 reject with tcp reset`)
		if !with {
			if _, err := n.Client.TryDial("10.9.0.2:5002", lab.TCP(), lab.From(n.B.Addr)); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("without subflowd: %v, wanted a refused connection", err)
			}
			return
		}
		n.Client.Daemon()
		reach(n, n.A, n.B)
		plain := n.Client.Dial("10.9.0.2:5002", lab.TCP(), lab.From(n.B.Addr))
		multi := n.Client.Dial("10.9.0.2:5001", lab.From(n.B.Addr))
		for _, c := range []*lab.Conn{plain, multi} {
			c.WantEcho(soon)
		}
		before := multi.Ends()
		outage(t, 5*time.Second, n.B.Cut, n.B.Restore, plain, multi)
		if after := multi.Ends(); !slices.Equal(before, after) {
			t.Errorf("subflows before %v, after %v", before, after)
		}
		reach(n, n.A, n.B)
	})
}

// TestSharedSubnetBlip: two links in one subnet, and the one that main does not prefer loses its carrier and keeps its
// address. A short blip resets nothing; after a longer one its traffic reaches the subnet by the other link.
func TestSharedSubnetBlip(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, with bool) {
		n := lab.OneSubnet(t)
		strictServer(n)
		n.Server.Listen("10.9.0.2:5002", lab.TCP())
		n.Router.Listen("192.168.0.1:5002", lab.TCP())
		if with {
			n.Client.Daemon()
			reach(n, n.A, n.B)
		}
		multi := n.Client.Dial("10.9.0.2:5001", lab.From(n.B.Addr))
		multi.WantEcho(soon)
		far := n.Client.Dial("10.9.0.2:5002", lab.TCP(), lab.From(n.B.Addr))
		near := n.Client.Dial("192.168.0.1:5002", lab.TCP(), lab.From(n.B.Addr))
		all := []*lab.Conn{multi, far, near}
		for _, c := range all {
			c.WantEcho(soon)
		}

		n.B.Cut()
		answers := ask(3*time.Second, all...)
		lab.Never(t, 3*time.Second, "the address keeps its own link", func() error {
			if !with {
				return nil
			}
			return n.Client.CheckRoute("192.168.0.1", "from "+n.B.Addr, "dev "+n.B.Dev)
		})
		n.B.Restore()
		for range all {
			if err := <-answers; err != nil {
				n.Dump()
				t.Fatalf("a short loss of the carrier: %v", err)
			}
		}
		for _, c := range all {
			c.WantEcho(recovers)
		}

		n.B.Cut()
		lab.Eventually(t, 30*time.Second, "the address without carrier reaches its subnet by the other link", func() error {
			return n.Client.CheckRoute("192.168.0.1", "from "+n.B.Addr, "dev "+n.A.Dev)
		})
		n.Router.IP("neigh flush dev br0")
		lab.Eventually(t, soon, "an answer from the subnet", func() error { return n.Client.Ping("192.168.0.1", n.B.Addr) })
		lab.Eventually(t, soon, "an answer from beyond it", func() error { return n.Client.Ping(n.ServerAddr, n.B.Addr) })
		for _, c := range all {
			c.WantEcho(recovers)
		}
		n.B.Restore()
		if with {
			reach(n, n.A, n.B)
		}
		for _, c := range all {
			c.WantEcho(recovers)
		}
	})
}
