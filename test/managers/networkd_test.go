package managers

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/subflowd/subflowd/test/lab"
)

// networkdPaths are the paths of two links by DHCP.
func networkdPaths() (eth0, eth1 path) {
	return v4("eth0", "10.1.1.2", "10.1.1.1", 100, "10.1.1.0/24 scope link metric 100", "10.1.1.1 scope link metric 100"),
		v4("eth1", "10.1.2.2", "10.1.2.1", 600, "10.1.2.0/24 scope link metric 600", "10.1.2.1 scope link metric 600")
}

// TestNetworkd has links reconfigured, networkd restarted and a carrier lost, with and without the snippet of the package.
func TestNetworkd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		conf map[string]string
	}{
		{"bare", nil},
		{"snippet", map[string]string{"90-subflowd.conf": snippet(t, "networkd.conf")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.Router.DHCP("r0", "10.1.1.2", "10.1.1.1")
			h.Router.DHCP("r1", "10.1.2.2", "10.1.2.1")
			h.Client.Bus()
			files := map[string]string{"10-eth0.network": networkFile("eth0", 100), "10-eth1.network": networkFile("eth1", 600)}
			for name, text := range c.conf {
				files[name] = text
			}
			networkd := h.Client.Networkd(files)
			h.Client.Daemon()
			eth0, eth1 := networkdPaths()
			h.reach("two leases", eth0, eth1)
			unbound, bound := h.Client.Dial("10.9.0.2:5001"), h.Client.Dial("10.9.0.2:5001", lab.From("10.1.2.2"))
			for _, c := range []*lab.Conn{unbound, bound} {
				c.WantSubflows("10.1.1.2", "10.1.2.2")
				c.Talk(t, soon)
			}
			both := func(what string) {
				t.Helper()
				h.reach(what, eth0, eth1)
				h.watch.log("systemd-networkd, "+c.name+", "+what, "eth1", "10.1.2.2")
				h.subflows(unbound, "10.1.1.2", "10.1.2.2")
				h.subflows(bound, "10.1.1.2", "10.1.2.2")
			}
			h.untouched("reload", func() { h.Client.Run("networkctl", "reload") })
			h.untouched("renew", func() { h.Client.Run("networkctl", "renew", "eth1") })

			m := h.Client.Monitor()
			h.Client.Run("networkctl", "reconfigure", "eth1")
			lab.Eventually(t, soon, "eth1 reconfigured", func() error {
				for _, l := range m.Lines() {
					if strings.HasPrefix(l, "Deleted 3: eth1 inet 10.1.2.2/24") {
						return nil
					}
				}
				return errors.New("its address stays")
			})
			both("reconfigure")
			taken := slices.ContainsFunc(m.Stop(), func(l string) bool { return strings.HasPrefix(l, "Deleted 32765: from 10.1.1.2") })
			t.Logf("rules of eth0 taken by a reconfigure of eth1: %v", taken)
			if taken && c.conf != nil {
				t.Error("the rules of eth0 were taken, in spite of the snippet")
			}

			networkd.Stop()
			h.Client.Networkd(files)
			for _, dev := range []string{"eth0", "eth1"} {
				lab.Eventually(t, soon, dev+" configured", func() error {
					if out, err := h.Client.Try("networkctl", "--no-pager", "status", dev); !strings.Contains(out, "(configured)") {
						return fmt.Errorf("%w: %s", err, out)
					}
					return nil
				})
			}
			both("restart")
			h.B.Cut()
			h.reach("no carrier", eth0)
			h.subflows(unbound, "10.1.1.2")
			h.subflows(bound, "10.1.1.2")
			h.B.Restore()
			both("carrier")
		})
	}
}
