package managers

import (
	"fmt"
	"strings"
	"testing"

	"github.com/subflowd/subflowd/test/lab"
)

// TestClasslessRoutes: eth1's server names a router (option 3), and in option 121 a route and no default route, so that
// the router does not count (RFC 3442): the link is no path. At a renewal the default route is there, and at another it is
// gone again.
func TestClasslessRoutes(t *testing.T) {
	t.Parallel()
	const static = "--dhcp-option=option:classless-static-route,10.99.0.0/16,10.1.2.9"
	for _, c := range clients {
		if c.name == "udhcpc" {
			continue // Debian's script does not ask for it
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			d := h.Client.Daemon()
			d.WaitSocket()
			h.Router.DHCP("r0", "10.1.1.2", "10.1.1.1")
			dhcp := h.Router.DHCP("r1", "10.1.2.2", "10.1.2.1", static)
			c.start(h)
			eth0, eth1 := c.eth0("10.1.1.2"), c.eth1("10.1.2.2")
			alone := func(what string) {
				t.Helper()
				lab.Eventually(t, soon, what, func() error {
					if err := h.check(eth0); err != nil {
						return err
					}
					if err := h.Client.CheckRoute("10.99.0.1", "", "dev eth1 via 10.1.2.9"); err != nil {
						return err
					}
					// A lease may be written down later than it counts.
					if r := h.Client.Ctl("explain", "eth1"); !strings.Contains(r.Stdout, "no default route") {
						return fmt.Errorf("%s%s", r.Stdout, r.Stderr)
					}
					return nil
				})
				h.settled()
				if err := h.check(eth0); err != nil {
					t.Errorf("%s, looked at again: %v", what, err)
				}
			}
			if c.name == "NetworkManager" && h.defaultOfRouter("eth1") {
				h.reach("two leases", eth0, eth1)
				return
			}
			alone("a lease with a route and no default route")
			conn := h.Client.Dial("10.9.0.2:5001")
			conn.WantSubflows("10.1.1.2")
			conn.Talk(t, soon)

			serve := func(options ...string) {
				t.Helper()
				dhcp.Stop()
				dhcp = h.Router.DHCP("r1", "10.1.2.2", "10.1.2.1", options...)
			}
			serve(static + ",0.0.0.0/0,10.1.2.1")
			h.reach("a default route", eth0, eth1)
			h.watch.log(c.name+", option 121 gets a default route", "eth1", "10.1.2.2")
			h.subflows(conn, "10.1.1.2", "10.1.2.2")

			serve(static)
			alone("no default route any more")
			h.subflows(conn, "10.1.1.2")
		})
	}
}

// defaultOfRouter tells whether NetworkManager made a default route of the router all the same, as it does before 1.58:
// what is in main counts.
func (h *host) defaultOfRouter(dev string) bool {
	h.T.Helper()
	lab.Eventually(h.T, soon, "NetworkManager is done with "+dev, func() error {
		if out, err := h.Client.Try("nmcli", "-g", "GENERAL.STATE", "device", "show", dev); !strings.HasPrefix(out, "100 ") {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	return h.Client.IP("route show default dev "+dev) != ""
}
