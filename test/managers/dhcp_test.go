package managers

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/subflowd/subflowd/test/lab"
)

// client is a DHCP client of Debian, and what subflowd should make of the default routes that it sets.
type client struct {
	name string
	// start starts it for both links; renew, for clients that do not renew when the server wishes, has that of eth1 do so.
	start func(h *host) (renew func())
	// eth0 and eth1 give the path with an address of the link.
	eth0, eth1 func(addr string) path
	config     string
}

// clients are those with option 121 for eth1: 10.99.0.0/16 by 10.1.2.9, and the default route.
var clients = []client{
	{
		// As ifupdown starts it: without metrics, so that the kernel refuses the second link's default route.
		name: "dhclient", start: startDhclient,
		eth0: func(addr string) path { return v4("eth0", addr, "10.1.1.1", 0) },
		eth1: func(addr string) path {
			return v4("eth1", addr, "10.1.2.1", 1024, "10.1.2.0/24 scope link", "10.99.0.0/16 via 10.1.2.9")
		},
	},
	{
		// The same, and it leaves no file with its lease; its script knows no option 121.
		name: "udhcpc", start: startUdhcpc, config: "[[link]]\nname = \"eth1\"\ngateway4 = \"10.1.2.1\"\n",
		eth0: func(addr string) path { return v4("eth0", addr, "10.1.1.1", 0) },
		eth1: func(addr string) path { return v4("eth1", addr, "10.1.2.1", 1024) },
	},
	{
		name: "dhcpcd", start: startDhcpcd,
		eth0: func(addr string) path {
			return v4("eth0", addr, "10.1.1.1", 1002, "10.1.1.0/24 scope link metric 1002")
		},
		eth1: func(addr string) path {
			return v4("eth1", addr, "10.1.2.1", 1003, "10.1.2.0/24 scope link metric 1003", "10.99.0.0/16 via 10.1.2.9 metric 1003")
		},
	},
	{
		name: "systemd-networkd", start: startNetworkd,
		eth0: func(addr string) path {
			return v4("eth0", addr, "10.1.1.1", 100, "10.1.1.0/24 scope link metric 100", "10.1.1.1 scope link metric 100")
		},
		eth1: func(addr string) path {
			return v4("eth1", addr, "10.1.2.1", 600, "10.1.2.0/24 scope link metric 600", "10.1.2.1 scope link metric 600",
				"10.1.2.9 scope link metric 600", "10.99.0.0/16 via 10.1.2.9 metric 600")
		},
	},
	{
		name: "NetworkManager", start: startNetworkManager,
		eth0: func(addr string) path { return v4("eth0", addr, "10.1.1.1", 100, "10.1.1.0/24 scope link metric 100") },
		eth1: func(addr string) path {
			return v4("eth1", addr, "10.1.2.1", 101, "10.1.2.0/24 scope link metric 101", "10.99.0.0/16 via 10.1.2.9 metric 101")
		},
	},
}

func startDhclient(h *host) func() {
	for _, p := range []*lab.Path{h.A, h.B} {
		h.dhclient(p)
	}
	return nil
}

// dhclient is what ifup runs.
func (h *host) dhclient(p *lab.Path) {
	h.T.Helper()
	lab.Need(h.T, "dhclient")
	h.Client.Start("dhclient", "-4", "-d", "-i", "-pf", "/run/dhclient."+p.Dev+".pid",
		"-lf", "/var/lib/dhcp/dhclient."+p.Dev+".leases", p.Dev)
	h.Client.WaitAddr(p.Dev, p.Addr)
}

func startUdhcpc(h *host) func() {
	lab.Need(h.T, "busybox", "udhcpc")
	var p *lab.Proc
	for _, link := range []*lab.Path{h.A, h.B} {
		p = h.Client.Start("busybox", "udhcpc", "-f", "-R", "-T", "1", "-A", "1", "-i", link.Dev, "-s", "/etc/udhcpc/default.script")
		h.Client.WaitAddr(link.Dev, link.Addr)
	}
	return func() { _ = p.Signal(syscall.SIGUSR1) }
}

func startDhcpcd(h *host) func() {
	lab.Need(h.T, "dhcpcd")
	h.Client.WriteFile("/run/dhcpcd.conf", "noarp\noption classless_static_routes\noption routers\nnoipv6rs\n")
	// udev knows no links of namespaces; the hooks would change the machine's settings.
	h.Client.Start("dhcpcd", "-B", "-4", "--nodev", "-c", "/bin/true", "-f", "/run/dhcpcd.conf", "eth0", "eth1")
	return nil
}

func startNetworkd(h *host) func() {
	h.Client.Networkd(map[string]string{"10-eth0.network": networkFile("eth0", 100), "10-eth1.network": networkFile("eth1", 600)})
	return nil
}

func networkFile(dev string, metric int, lines ...string) string {
	return fmt.Sprintf("[Match]\nName=%s\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n[DHCPv4]\nRouteMetric=%d\n%s\n",
		dev, metric, strings.Join(lines, "\n"))
}

// startNetworkManager has it with the snippet of the package.
func startNetworkManager(h *host) func() {
	h.Client.NetworkManager(map[string]string{"90-subflowd.conf": snippet(h.T, "networkmanager.conf")})
	for _, dev := range []string{"eth0", "eth1"} {
		h.addConnection(dev)
	}
	return nil
}

// addConnection makes an Ethernet connection with DHCP that has the name of its link.
func (h *host) addConnection(dev string, settings ...string) {
	h.T.Helper()
	h.Client.Run("nmcli", append([]string{
		"connection", "add", "type", "ethernet", "ifname", dev, "con-name", dev, "ipv4.method", "auto", "ipv6.method", "ignore",
	}, settings...)...)
}

// udhcpd serves one address of eth1's for 8 seconds: dnsmasq leases none for less than two minutes.
func (h *host) udhcpd(addr string) *lab.Proc {
	h.T.Helper()
	lab.Need(h.T, "busybox")
	var v []struct{ Address string }
	h.Client.JSON(&v, "link show dev eth1")
	dir := h.TempDir()
	conf := filepath.Join(dir, "udhcpd.conf")
	h.Router.WriteFile(conf, fmt.Sprintf("start %[1]s\nend %[1]s\ninterface r1\nmin_lease 2\nlease_file %[2]s/leases\npidfile %[2]s/pid\n"+
		"static_lease %[3]s %[1]s\nopt router 10.1.2.1\nopt subnet 255.255.255.0\nopt lease 8\n", addr, dir, v[0].Address))
	h.Router.WriteFile(dir+"/leases", "")
	return h.Router.Start("busybox", "udhcpd", "-f", conf)
}

// TestDHCP has two links leased, and eth1 renumbered, its lease ended, and leased again.
func TestDHCP(t *testing.T) {
	t.Parallel()
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.Client.DaemonConfig(c.config)
			h.Router.DHCP("r0", "10.1.1.2", "10.1.1.1")
			const classless = "--dhcp-option=option:classless-static-route,10.99.0.0/16,10.1.2.9,0.0.0.0/0,10.1.2.1"
			dhcp := h.Router.DHCP("r1", "10.1.2.2", "10.1.2.1", classless)
			renew := c.start(h)
			eth0 := c.eth0("10.1.1.2")
			h.reach("two leases", eth0, c.eth1("10.1.2.2"))
			h.watch.log(c.name+", first lease", "eth0", "10.1.1.2")
			h.watch.log(c.name+", second link", "eth1", "10.1.2.2")
			unbound, bound := h.Client.Dial("10.9.0.2:5001"), h.Client.Dial("10.9.0.2:5001", lab.From("10.1.2.2"))
			for _, conn := range []*lab.Conn{unbound, bound} {
				conn.WantSubflows("10.1.1.2", "10.1.2.2")
				conn.Talk(t, soon)
			}

			dhcp.Serve("10.1.2.50")
			if renew != nil {
				renew()
			}
			h.reach("another address", eth0, c.eth1("10.1.2.50"))
			h.watch.log(c.name+", another address", "eth1", "10.1.2.50")
			h.subflows(unbound, "10.1.1.2", "10.1.2.50")
			h.subflows(bound, "10.1.1.2", "10.1.2.50")

			dhcp.Stop()
			short := h.udhcpd("10.1.2.50")
			acks := func() int { return strings.Count(short.Log(), "sending ACK to 10.1.2.50") }
			lab.Eventually(t, soon, "a short lease", func() error {
				if acks() > 0 {
					return nil
				}
				if renew != nil {
					renew()
				}
				return fmt.Errorf("udhcpd: %s", short.Log())
			})
			// A client that renews after half of eight seconds has taken the lease.
			first := acks()
			lab.Eventually(t, soon, "the short lease is renewed", func() error {
				if acks() == first {
					return fmt.Errorf("udhcpd: %s", short.Log())
				}
				return nil
			})
			short.Kill()
			h.reach("the lease's end", eth0)
			h.subflows(unbound, "10.1.1.2")
			h.subflows(bound, "10.1.1.2")

			dhcp.Serve("10.1.2.51")
			h.reach("a lease again", eth0, c.eth1("10.1.2.51"))
			h.watch.log(c.name+", after the end of a lease", "eth1", "10.1.2.51")
			h.subflows(unbound, "10.1.1.2", "10.1.2.51")
			h.subflows(bound, "10.1.1.2", "10.1.2.51")
		})
	}
}
