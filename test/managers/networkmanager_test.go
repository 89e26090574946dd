package managers

import (
	"fmt"
	"strings"
	"testing"

	"github.com/subflowd/subflowd/test/lab"
)

// nmPaths are the paths of two connections by DHCP. NetworkManager adds one to the metric of the second.
func nmPaths() (eth0, eth1 path) {
	return v4("eth0", "10.1.1.2", "10.1.1.1", 100, "10.1.1.0/24 scope link metric 100"),
		v4("eth1", "10.1.2.2", "10.1.2.1", 101, "10.1.2.0/24 scope link metric 101")
}

// newNM has NetworkManager bring the links up by DHCP, one after the other, before there is a daemon.
func newNM(t *testing.T, conf map[string]string) *host {
	t.Helper()
	h := newHost(t)
	h.Client.NetworkManager(conf)
	for _, p := range []*lab.Path{h.A, h.B} {
		h.Router.DHCP(p.DevB, p.Addr, p.Gateway)
		h.addConnection(p.Dev)
		lab.Eventually(t, soon, "the default route of "+p.Dev, func() error {
			if out := h.Client.IP("route show default dev " + p.Dev); out == "" {
				return fmt.Errorf("none")
			}
			return nil
		})
	}
	return h
}

func (h *host) nmcli(args ...string) {
	h.T.Helper()
	h.Client.Run("nmcli", args...)
}

// settled waits until the daemon has looked at everything after now and has nothing left to do.
func (h *host) settled() {
	h.T.Helper()
	for _, args := range [][]string{{"reconcile"}, {"wait", "--timeout", "20s"}} {
		if r := h.Client.Ctl(args...); r.Code != 0 {
			h.T.Fatalf("subflowctl %v: exit status %d\n%s%s", args, r.Code, r.Stdout, r.Stderr)
		}
	}
}

// untouched runs a step that must leave all that is ours, and all endpoints, as they are.
func (h *host) untouched(what string, step func()) {
	h.T.Helper()
	m := h.Client.Monitor()
	step()
	h.settled()
	for _, l := range m.Stop() {
		if strings.Contains(l+" ", " proto 77 ") || strings.Contains(l, " mptcp ") {
			h.T.Errorf("%s: %s", what, l)
		}
	}
}

// TestNetworkManager takes two connections through what happens to a laptop, with the snippet of the package.
func TestNetworkManager(t *testing.T) {
	t.Parallel()
	h := newNM(t, map[string]string{"90-subflowd.conf": snippet(t, "networkmanager.conf")})
	h.Client.WantEndpoints()
	d := h.Client.Daemon()
	d.WaitSocket()
	h.ups(t, true)
}

// TestNetworkManagersEndpoints is the same without the snippet: NetworkManager makes the endpoints, and takes them away. It
// adds one before the link's routes, and a connection that exists tries it once, which may be too early. Only the next
// connection is certain to have both paths.
func TestNetworkManagersEndpoints(t *testing.T) {
	t.Parallel()
	h := newNM(t, nil)
	const own = "10.1.1.2 subflow dev eth0\n10.1.2.2 subflow dev eth1"
	lab.Eventually(t, soon, "endpoints of NetworkManager", func() error {
		if found := plain.Replace(strings.Join(h.Client.Endpoints(), "\n")); found != own {
			return fmt.Errorf("%s", found)
		}
		return nil
	})
	before := h.Client.IP("mptcp endpoint")
	d := h.Client.Daemon()
	d.WaitSocket()
	eth0, eth1 := nmPaths()
	h.reach("two connections", eth0, eth1)
	if after := h.Client.IP("mptcp endpoint"); before != after {
		t.Errorf("endpoints that were as they should be were changed:\n%sthey are now:\n%s", before, after)
	}
	h.ups(t, false)
}

// ups has connections re-applied, taken down and up, and lose their carrier; rejoined tells whether the connections
// that exist get their second path again.
func (h *host) ups(t *testing.T, rejoined bool) {
	t.Helper()
	eth0, eth1 := nmPaths()
	h.reach("two connections", eth0, eth1)
	unbound, bound := h.Client.Dial("10.9.0.2:5001"), h.Client.Dial("10.9.0.2:5001", lab.From("10.1.2.2"))
	for _, c := range []*lab.Conn{unbound, bound} {
		c.WantSubflows("10.1.1.2", "10.1.2.2")
		c.Talk(t, soon)
	}
	both := func(what string) {
		t.Helper()
		h.reach(what, eth0, eth1)
		h.watch.log("NetworkManager, "+what, "eth1", "10.1.2.2")
		next := h.Client.Dial("10.9.0.2:5001")
		next.WantSubflows("10.1.1.2", "10.1.2.2")
		next.Close() // idle, it would keep its endpoints when a link goes
		if rejoined {
			h.subflows(unbound, "10.1.1.2", "10.1.2.2")
			h.subflows(bound, "10.1.1.2", "10.1.2.2")
		}
	}
	one := func(what string) {
		t.Helper()
		h.reach(what, eth0)
		h.subflows(unbound, "10.1.1.2")
		h.subflows(bound, "10.1.1.2")
	}
	h.untouched("reapply", func() { h.nmcli("device", "reapply", "eth1") })
	h.nmcli("connection", "down", "eth1")
	one("connection down")
	h.nmcli("connection", "up", "eth1")
	both("connection up")
	h.nmcli("connection", "up", "eth1")
	both("connection up again")
	h.B.Cut()
	one("no carrier")
	h.B.Restore()
	both("carrier")
}

// TestNetworkManagerNeverDefault: a connection gets no default route, and its lease names a router. NetworkManager leaves
// no word of it that the daemon may read, so that the link is a path until the configuration says otherwise.
func TestNetworkManagerNeverDefault(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	d := h.Client.Daemon()
	h.Client.NetworkManager(map[string]string{"90-subflowd.conf": snippet(t, "networkmanager.conf")})
	h.Router.DHCP("r0", "10.1.1.2", "10.1.1.1")
	h.Router.DHCP("r1", "10.1.2.2", "10.1.2.1")
	h.addConnection("eth0")
	h.addConnection("eth1", "ipv4.never-default", "yes")
	eth0, _ := nmPaths()
	eth1 := v4("eth1", "10.1.2.2", "10.1.2.1", 1024, "10.1.2.0/24 scope link metric 101")
	h.reach("two leases", eth0, eth1)
	h.watch.log("NetworkManager, never-default", "eth1", "10.1.2.2")
	if out := h.Client.IP("route show table main default dev eth1"); out != "" {
		t.Errorf("NetworkManager made a default route: %s", out)
	}
	lab.Eventually(t, soon, "subflowctl explain eth1", func() error {
		if r := h.Client.Ctl("explain", "eth1"); !strings.Contains(r.Stdout, "gateway in the DHCP lease") {
			return fmt.Errorf("%s%s", r.Stdout, r.Stderr)
		}
		return nil
	})
	c := h.Client.Dial("10.9.0.2:5001")
	c.WantSubflows("10.1.1.2", "10.1.2.2")
	c.Talk(t, soon)
	d.Configure("[[link]]\nname = \"eth1\"\nuplink = false\n")
	h.reach("no path", eth0)
	h.subflows(c, "10.1.1.2")
}

// TestNetworkManagerTakeOver has the endpoints of NetworkManager replaced by others, which NetworkManager undoes at every
// reapply of either connection: it is repaired, more and more rarely, and named.
func TestNetworkManagerTakeOver(t *testing.T) {
	t.Parallel()
	h := newNM(t, nil)
	h.Client.DaemonConfig("foreign_endpoints = \"take-over\"\n[[link]]\nname = \"eth1\"\nbackup = true\n")
	ours := []string{"10.1.1.2 subflow dev eth0", "10.1.2.2 backup subflow dev eth1"}
	replaced := func() {
		t.Helper()
		lab.Eventually(t, soon, "endpoints replaced", func() error {
			// No event tells of endpoints: the resync would see it later.
			h.Client.Ctl("reconcile")
			return h.Client.CheckEndpoints(ours...)
		})
	}
	replaced()
	c := h.Client.Dial("10.9.0.2:5001")
	c.WantSubflows("10.1.1.2", "10.1.2.2")
	c.Talk(t, soon)
	for range 5 {
		h.nmcli("device", "reapply", "eth0")
		replaced()
	}
	h.subflows(c, "10.1.1.2", "10.1.2.2")
	if r := h.Client.Ctl("status"); !strings.Contains(r.Stdout, "Undone by somebody else") {
		t.Errorf("nobody is named:\n%s", r.Stdout)
	}
}
