package managers

import (
	"fmt"
	"testing"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

// TestOnlyLink: a manager takes the address of the only link away and brings it back, while the server accepts no joins.
// The connection waits and goes on, as it does without subflowd.
func TestOnlyLink(t *testing.T) {
	t.Parallel()
	startNM := func(h *host) {
		h.Client.NetworkManager(map[string]string{"90-subflowd.conf": snippet(h.T, "networkmanager.conf")})
		h.addConnection("eth0")
	}
	startNetworkd := func(h *host) {
		h.Client.Bus()
		h.Client.Networkd(map[string]string{"10-eth0.network": networkFile("eth0", 100), "90-subflowd.conf": snippet(h.T, "networkd.conf")})
	}
	startDhclient := func(h *host) { h.dhclient(h.A) }
	startDhcpcd := func(h *host) { startDhcpcd(h) }
	startUdhcpc := func(h *host) {
		lab.Need(h.T, "busybox", "udhcpc")
		h.Client.Start("busybox", "udhcpc", "-f", "-R", "-T", "1", "-A", "1", "-i", "eth0", "-p", "/run/udhcpc.pid", "-s", "/etc/udhcpc/default.script")
	}
	nm, _ := nmPaths()
	networkd, _ := networkdPaths()
	for _, c := range []struct {
		name       string
		start      func(h *host)
		want       path
		begin, end func(h *host)
	}{
		{"NetworkManager, carrier lost", startNM, nm, func(h *host) { h.A.Cut() }, func(h *host) { h.A.Restore() }},
		{
			"NetworkManager, connection down", startNM, nm,
			func(h *host) { h.nmcli("connection", "down", "eth0") },
			func(h *host) { h.nmcli("connection", "up", "eth0") },
		},
		{"systemd-networkd, carrier lost", startNetworkd, networkd, func(h *host) { h.A.Cut() }, func(h *host) { h.A.Restore() }},
		{
			"systemd-networkd, link down", startNetworkd, networkd,
			func(h *host) { h.Client.Run("networkctl", "down", "eth0") },
			func(h *host) { h.Client.Run("networkctl", "up", "eth0") },
		},
		{
			"dhclient, released", startDhclient, v4("eth0", "10.1.1.2", "10.1.1.1", 0),
			func(h *host) {
				// It knows what to release, and whom to end, a moment after the address is there.
				for file, what := range map[string]string{"/run/dhclient.eth0.pid": "[0-9]", "/var/lib/dhcp/dhclient.eth0.leases": "fixed-address"} {
					lab.Eventually(h.T, soon, file, func() error {
						_, err := h.Client.Try("grep", "-q", what, file)
						return err
					})
				}
				h.Client.Run("dhclient", "-4", "-r", "-pf", "/run/dhclient.eth0.pid", "-lf", "/var/lib/dhcp/dhclient.eth0.leases", "eth0")
			},
			startDhclient,
		},
		{
			"dhcpcd, carrier lost", startDhcpcd, v4("eth0", "10.1.1.2", "10.1.1.1", 1002, "10.1.1.0/24 scope link metric 1002"),
			func(h *host) { h.A.Cut() }, func(h *host) { h.A.Restore() },
		},
		{
			"udhcpc, released", startUdhcpc, v4("eth0", "10.1.1.2", "10.1.1.1", 0),
			func(h *host) {
				h.Client.Run("sh", "-c", "kill $(cat /run/udhcpc.pid)")
				lab.Eventually(h.T, soon, "udhcpc releases the address", func() error {
					if out := h.Client.IP("-4 -o addr show dev eth0"); out != "" {
						return fmt.Errorf("%s", out)
					}
					return nil
				})
			},
			startUdhcpc,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			both(t, func(t *testing.T, with bool) {
				h := newHost(t, lab.RefuseJoins())
				h.Server.Sysctl("net.mptcp.close_timeout", "2")
				h.Router.DHCP("r0", "10.1.1.2", "10.1.1.1")
				c.start(h)
				h.Client.WaitAddr("eth0", "10.1.1.2")
				if with {
					h.Client.Daemon()
					h.reach("the only link", c.want)
				} else {
					lab.Eventually(t, soon, "a way out", func() error { return h.Client.CheckRoute(h.ServerAddr, "", "dev eth0 via 10.1.1.1") })
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
				// Longer than the server has patience with a connection that has lost its last subflow.
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
					h.reach("the only link again", c.want)
				}
			})
		})
	}
}
