package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

// plainDebian is a client with two links that ISC dhclient configures as Debian's ifupdown has it do, without metrics:
// the default route of the link that is second fails to be added, because one without a metric exists. The client and
// the daemon see a /var/lib/dhcp of the test's own.
type plainDebian struct {
	*lab.Net
	leases string
}

func newPlainDebian(t *testing.T) *plainDebian {
	t.Helper()
	lab.Need(t, "dhclient", "unshare")
	h := &plainDebian{Net: lab.TwoSubnets(t, lab.Bare())}
	h.leases = h.TempDir()
	h.Router.DHCP("r0", h.A.Addr, h.A.Gateway)
	h.Router.DHCP("r1", h.B.Addr, h.B.Gateway)
	return h
}

// start runs a program beside the others that see the leases.
func (h *plainDebian) start(name string, args ...string) *lab.Proc {
	h.T.Helper()
	resolv := filepath.Join(h.TempDir(), "resolv.conf")
	if err := os.WriteFile(resolv, nil, 0o644); err != nil {
		h.T.Fatal(err)
	}
	script := `mount --bind ` + h.leases + ` /var/lib/dhcp && mount -t tmpfs -o mode=755 tmpfs /run || exit 9
		if [ -e /etc/resolv.conf ]; then mount --bind ` + resolv + ` /etc/resolv.conf || exit 9; fi
		PATH=$PATH:/usr/sbin:/sbin; exec "$@"`
	p := h.Client.Start("unshare", append([]string{"-m", "--propagation", "private", "sh", "-c", script, "sh", name}, args...)...)
	p.Name = filepath.Base(name)
	return p
}

// dhclient is what ifup runs.
func (h *plainDebian) dhclient(p *lab.Path, args ...string) *lab.Proc {
	h.T.Helper()
	c := h.start("dhclient", append(args, "-4", "-d", "-i", "-pf", "/run/dhclient."+p.Dev+".pid",
		"-lf", "/var/lib/dhcp/dhclient."+p.Dev+".leases", p.Dev)...)
	h.Client.WaitAddr(p.Dev, p.Addr)
	return c
}

func (h *plainDebian) daemon() *lab.Proc {
	h.T.Helper()
	dir := h.Client.StateDir()
	return h.start(lab.Bin(h.T, "subflowd"), "--state-dir", dir, "--socket", filepath.Join(dir, "control.sock"),
		"--log-format", "console", "--log-level", "debug")
}

// bothArePaths waits until both links are, without a default route by the second one in main.
func (h *plainDebian) bothArePaths() {
	h.T.Helper()
	lab.Eventually(h.T, soon, "both links paths", func() error {
		return h.Client.CheckEndpoints("10.1.1.2 subflow dev eth0", "10.1.2.2 subflow dev eth1")
	})
	h.Client.WantTable("main", "default via 10.1.1.1 dev eth0", "10.1.1.0/24 dev eth0 proto kernel scope link src 10.1.1.2",
		"10.1.2.0/24 dev eth1 proto kernel scope link src 10.1.2.2")
	h.Client.WantTable("100003", "10.1.2.0/24 dev eth1 proto 77 scope link", "default via 10.1.2.1 dev eth1 proto 77 metric 1024")
	h.Client.WantRoute(h.ServerAddr, "", "dev eth0 via 10.1.1.1")
	h.Client.WantRoute(h.ServerAddr, "from 10.1.1.2", "dev eth0 via 10.1.1.1")
	h.Client.WantRoute(h.ServerAddr, "from 10.1.2.2", "dev eth1 via 10.1.2.1")
}

// TestLeaseOfDhclient has the links come while the daemon runs: the lease is written after the address is there.
func TestLeaseOfDhclient(t *testing.T) {
	t.Parallel()
	h := newPlainDebian(t)
	d := h.daemon()
	h.dhclient(h.A)
	lab.Eventually(t, soon, "eth0 a path", func() error { return h.Client.CheckEndpoints("10.1.1.2 subflow dev eth0") })
	c := h.dhclient(h.B)
	begun := time.Now()
	h.bothArePaths()
	t.Logf("eth1 was a path %v after its address", time.Since(begun).Round(time.Millisecond))
	twoSubflows(h.Net, "10.9.0.2:5001", h.A.Addr, h.B.Addr)

	if r := h.Client.Ctl("-o", "json", "status"); !strings.Contains(r.Stdout, "gateway in the DHCP lease") {
		t.Errorf("the status does not say where the gateway is from:\n%s%s", r.Stdout, r.Stderr)
	}

	// A lease that stays behind says nothing about another address. The endpoint may linger: a connection has it.
	c.Stop()
	h.Client.IP("addr add 10.1.2.77/24 dev eth1", "addr del 10.1.2.2/24 dev eth1")
	lab.Eventually(t, soon, "eth1 no path", func() error {
		for _, l := range found(h.Client) {
			if ours(l) && strings.Contains(l, "10.1.2.") {
				return fmt.Errorf("left: %s", l)
			}
		}
		return nil
	})
	if code := d.Stop(); code != 0 {
		t.Errorf("subflowd: exit status %d", code)
	}
}

// TestLeaseBeforeDaemon has the daemon find the leases when it starts.
func TestLeaseBeforeDaemon(t *testing.T) {
	t.Parallel()
	h := newPlainDebian(t)
	h.dhclient(h.A)
	lab.Eventually(t, soon, "the default route of eth0", func() error {
		return h.Client.CheckRoute(h.ServerAddr, "", "dev eth0 via 10.1.1.1")
	})
	h.dhclient(h.B)
	h.daemon()
	h.bothArePaths()
	twoSubflows(h.Net, "10.9.0.2:5001", h.A.Addr, h.B.Addr)
}

// TestLeaseWrittenLate has a hook of dhclient hold up the lease: it is found without an event and before the resync.
func TestLeaseWrittenLate(t *testing.T) {
	t.Parallel()
	h := newPlainDebian(t)
	h.daemon()
	h.dhclient(h.A)
	lab.Eventually(t, soon, "eth0 a path", func() error { return h.Client.CheckEndpoints("10.1.1.2 subflow dev eth0") })

	dir := h.TempDir()
	script, gate := filepath.Join(dir, "script"), filepath.Join(dir, "gate")
	text := "#!/bin/sh\ndhclient-script \"$@\"\nif [ \"$reason\" = BOUND ]; then while [ ! -e " + gate + " ]; do sleep 0.05; done; fi\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	h.dhclient(h.B, "-sf", script)
	lab.Never(t, 2*time.Second, "eth1 no path without a lease", func() error {
		return h.Client.CheckEndpoints("10.1.1.2 subflow dev eth0")
	})
	if err := os.WriteFile(gate, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	h.bothArePaths()
}
