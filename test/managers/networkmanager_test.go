package managers

import (
	"fmt"
	"strings"
	"testing"
	"time"

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
	h.ups(t)
}

// TestNetworkManagersEndpoints is the same without the snippet: NetworkManager makes the endpoints, and takes them away.
func TestNetworkManagersEndpoints(t *testing.T) {
	t.Parallel()
	h := newNM(t, nil)
	own := []string{"10.1.1.2 subflow dev eth0", "10.1.2.2 subflow dev eth1"}
	lab.Eventually(t, soon, "endpoints of NetworkManager", func() error { return h.Client.CheckEndpoints(own...) })
	before := h.Client.IP("mptcp endpoint")
	d := h.Client.Daemon()
	d.WaitSocket()
	eth0, eth1 := nmPaths()
	h.reach("two connections", eth0, eth1)
	if after := h.Client.IP("mptcp endpoint"); before != after {
		t.Errorf("endpoints that were as they should be were changed:\n%sthey are now:\n%s", before, after)
	}
	h.ups(t)
}

// ups has connections re-applied, taken down and up, and lose their carrier.
func (h *host) ups(t *testing.T) {
	t.Helper()
	eth0, eth1 := nmPaths()
	h.reach("two connections", eth0, eth1)
	unbound, bound := h.Client.Dial("10.9.0.2:5001"), h.Client.Dial("10.9.0.2:5001", lab.From("10.1.2.2"))
	for _, c := range []*lab.Conn{unbound, bound} {
		c.WantSubflows("10.1.1.2", "10.1.2.2")
		talk(t, c)
	}
	both := func(what string) {
		t.Helper()
		h.reach(what, eth0, eth1)
		h.watch.log("NetworkManager, "+what, "eth1", "10.1.2.2")
		h.subflows(unbound, "10.1.1.2", "10.1.2.2")
		h.subflows(bound, "10.1.1.2", "10.1.2.2")
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

// TestNetworkManagerOnlyLink: the only link loses its carrier until NetworkManager has taken its address, or its connection
// is taken down and up, while the server accepts no joins. The connection goes on as it does without subflowd.
func TestNetworkManagerOnlyLink(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		begin, end func(h *host)
	}{
		{"carrier", func(h *host) { h.A.Cut() }, func(h *host) { h.A.Restore() }},
		{
			"down and up",
			func(h *host) { h.nmcli("connection", "down", "eth0") },
			func(h *host) { h.nmcli("connection", "up", "eth0") },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			both(t, func(t *testing.T, with bool) {
				h := newHost(t, lab.RefuseJoins())
				h.Server.Sysctl("net.mptcp.close_timeout", "2")
				h.Client.NetworkManager(map[string]string{"90-subflowd.conf": snippet(t, "networkmanager.conf")})
				h.Router.DHCP("r0", "10.1.1.2", "10.1.1.1")
				h.addConnection("eth0")
				h.Client.WaitAddr("eth0", "10.1.1.2")
				eth0, _ := nmPaths()
				if with {
					h.Client.Daemon()
					h.reach("the only link", eth0)
				}
				conn := h.Client.Dial("10.9.0.2:5001")
				conn.WantSubflows("10.1.1.2")
				c.begin(h)
				answer := make(chan error, 1)
				go func() { answer <- conn.Echo(90 * time.Second) }()
				lab.Eventually(t, soon, "no address", func() error {
					if out := h.Client.IP("-4 -o addr show dev eth0"); out != "" {
						return fmt.Errorf("%s", out)
					}
					return nil
				})
				// Longer than the kernel's patience with a connection that has lost its last subflow.
				lab.Never(t, 3*time.Second, "the connection waits", func() error {
					select {
					case err := <-answer:
						return fmt.Errorf("it ended: %w", err)
					default:
						return nil
					}
				})
				c.end(h)
				if err := <-answer; err != nil {
					t.Errorf("the connection did not go on: %v", err)
				}
				if with {
					h.reach("the only link again", eth0)
				}
			})
		})
	}
}
