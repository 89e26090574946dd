package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/subflowd/subflowd/test/lab"
)

// leaseHost is a client one of whose links gets its address by DHCP, without a default route. The DHCP client and the
// daemon see a /run and a /var/lib/dhcpcd of the test's own.
type leaseHost struct {
	*lab.Net
	dir string // holds run and dhcpcd
}

func newLeaseHost(t *testing.T, client string) *leaseHost {
	t.Helper()
	lab.Need(t, client, "unshare")
	h := &leaseHost{Net: lab.TwoSubnets(t, lab.Bare())}
	h.dir = h.TempDir()
	// networkd and dhcpcd give up root, so /run must be open to all.
	for _, d := range []string{"run", "dhcpcd"} {
		if err := os.Mkdir(filepath.Join(h.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.Router.DHCP("r0", h.A.Addr, h.A.Gateway)
	return h
}

// start runs a shell command, with $1 and so on, that sees the directories; /var/lib/dhcpcd only where a package made it.
func (h *leaseHost) start(name, command string, args ...string) *lab.Proc {
	h.T.Helper()
	resolv := h.write("resolv.conf", "")
	script := `mount --bind ` + h.dir + `/run /run || exit 9
		if [ -d /var/lib/dhcpcd ]; then mount --bind ` + h.dir + `/dhcpcd /var/lib/dhcpcd || exit 9; fi
		if [ -e /etc/resolv.conf ]; then mount --bind ` + resolv + ` /etc/resolv.conf || exit 9; fi
		PATH=$PATH:/usr/sbin:/sbin:/lib/systemd:/usr/lib/systemd; ` + command
	p := h.Client.Start("unshare", append([]string{"-m", "--propagation", "private", "sh", "-c", script, "sh"}, args...)...)
	p.Name = name
	return p
}

func (h *leaseHost) write(name, text string) string {
	h.T.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		h.T.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		h.T.Fatal(err)
	}
	return path
}

func (h *leaseHost) daemon() *lab.Proc {
	h.T.Helper()
	dir := h.Client.StateDir()
	return h.start("subflowd", `exec "$@"`, lab.Bin(h.T, "subflowd"), "--state-dir", dir,
		"--socket", filepath.Join(dir, "control.sock"), "--log-format", "console", "--log-level", "debug")
}

// pathByLease wants the link a path by the lease's router, while main has no default route.
func (h *leaseHost) pathByLease(lease string) {
	h.T.Helper()
	h.Client.WaitAddr("eth0", h.A.Addr)
	lab.Eventually(h.T, soon, "eth0 a path", func() error {
		if err := h.Client.CheckEndpoints("10.1.1.2 subflow dev eth0"); err != nil {
			return err
		}
		return h.Client.CheckRoute(h.ServerAddr, "from 10.1.1.2", "dev eth0 via 10.1.1.1")
	})
	if out := h.Client.IP("route show table main default"); out != "" {
		h.T.Errorf("main has a default route: %s", out)
	}
	if out, err := h.Client.TryIP("route get " + h.ServerAddr); err == nil {
		h.T.Errorf("traffic that is not bound has a route: %s", out)
	}
	table := tableOf(h.Client, "eth0")
	if out := h.Client.IP("rule show from " + h.A.Addr); !strings.Contains(out, "lookup "+table) {
		h.T.Errorf("no rule from %s to table %s:\n%s", h.A.Addr, table, out)
	}
	lab.Eventually(h.T, soon, "a status that says where the gateway is from", func() error {
		if r := h.Client.Ctl("-o", "json", "status"); !strings.Contains(r.Stdout, "gateway in the DHCP lease") {
			return fmt.Errorf("%s%s", r.Stdout, r.Stderr)
		}
		return nil
	})
	if _, err := os.Stat(filepath.Join(h.dir, lease)); err != nil {
		h.T.Errorf("the client's lease is elsewhere: %v", err)
	}
	if err := h.Client.Ping(h.ServerAddr, h.A.Addr); err != nil {
		h.T.Error(err)
	}
}

// both has the lease come while the daemon runs, then be there before the daemon.
func (h *leaseHost) both(client func() *lab.Proc, lease string) {
	h.T.Helper()
	d := h.daemon()
	client()
	h.pathByLease(lease)
	if code := d.Stop(); code != 0 {
		h.T.Errorf("subflowd: exit status %d", code)
	}
	// Else the next one would only find what this one left.
	if r := h.Client.Subflowd("--cleanup"); r.Code != 0 {
		h.T.Fatalf("subflowd --cleanup: exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	h.Client.WantEndpoints()
	h.daemon()
	h.pathByLease(lease)
}

func TestLeaseOfNetworkd(t *testing.T) {
	t.Parallel()
	h := newLeaseHost(t, "systemd-networkd")
	h.write("run/systemd/network/10-eth0.network", "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\n"+
		"IPv6AcceptRA=no\n[DHCPv4]\nUseGateway=no\nUseRoutes=no\n")
	// Where /sys is read-only networkd does without udev, which knows no links of namespaces.
	networkd := func() *lab.Proc {
		return h.start("systemd-networkd", "chown -R systemd-network /run/systemd && mount -o remount,ro,bind /sys && exec systemd-networkd")
	}
	h.both(networkd, fmt.Sprintf("run/systemd/netif/leases/%d", h.Client.Ifindex("eth0")))
}

func TestLeaseOfDhcpcd(t *testing.T) {
	t.Parallel()
	h := newLeaseHost(t, "dhcpcd")
	conf := h.write("dhcpcd.conf", "noarp\noption routers\nnogateway\nnoipv6rs\n")
	dhcpcd := func() *lab.Proc {
		return h.start("dhcpcd", `exec dhcpcd -B -4 -c /bin/true -f "$1" eth0`, conf)
	}
	h.both(dhcpcd, "dhcpcd/eth0.lease")
}
