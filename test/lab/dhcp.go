package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// DHCP is a dnsmasq that serves addresses on one link.
type DHCP struct {
	*Proc
	h     *Host
	dev   string
	lines []string
}

// DHCP starts dnsmasq on a link of the router whose address is the gateway: h.DHCP("r0", "10.1.1.50", "10.1.1.1"). The
// one address is leased for 120 s, the least that dnsmasq gives, and clients renew it after 5 s. Options are further
// words of dnsmasq: "--dhcp-option=26,1400".
func (h *Host) DHCP(dev, addr, gateway string, options ...string) *DHCP {
	h.Lab.T.Helper()
	Need(h.Lab.T, "dnsmasq")
	d := &DHCP{h: h, dev: dev, lines: append([]string{"--dhcp-option=3," + gateway}, options...)}
	d.Serve(addr)
	return d
}

// Serve restarts the server with another address, as when a network is renumbered: clients that renew are told to give
// the old address up.
func (d *DHCP) Serve(addr string) {
	d.h.Lab.T.Helper()
	if d.Proc != nil {
		d.Proc.Stop()
	}
	args := append([]string{
		"-k", "-C", "/dev/null", "--pid-file=" + filepath.Join(d.h.Lab.TempDir(), "pid"), "--no-daemon",
		"--port=0", "--interface=" + d.dev, "--bind-interfaces", "--dhcp-authoritative", "--no-ping", "--leasefile-ro",
		"--dhcp-range=" + addr + "," + addr + ",255.255.255.0,120",
		"--dhcp-option=58,5", "--dhcp-option=59,8", "--user=root",
	}, d.lines...)
	d.Proc = d.h.Start("dnsmasq", args...)
	d.h.waitLog(d.Proc, "DHCP, sockets bound")
}

// waitLog waits for a line of a process that says that it is ready.
func (h *Host) waitLog(p *Proc, text string) {
	h.Lab.T.Helper()
	Eventually(h.Lab.T, 20*time.Second, p.Name+" ready", func() error {
		if strings.Contains(p.Log(), text) {
			return nil
		}
		if !p.Running() {
			h.Lab.T.Fatalf("%s ended: %s\n%s", p.Name, p.status(), p.Log())
		}
		return fmt.Errorf("no %q in its log:\n%s", text, p.Log())
	})
}

// private prepares a program that sees an empty tmpfs in place of each of the directories and an /etc/resolv.conf of its
// own.
func (h *Host) private(dirs []string, name string, args ...string) *Proc {
	h.Lab.T.Helper()
	resolv := filepath.Join(h.Lab.TempDir(), "resolv.conf")
	if err := os.WriteFile(resolv, nil, 0o644); err != nil {
		h.Lab.T.Fatal(err)
	}
	script := "for d in " + strings.Join(dirs, " ") + `; do mount -t tmpfs -o mode=755 tmpfs $d || exit 9; done
		if [ -e /etc/resolv.conf ]; then mount --bind ` + resolv + ` /etc/resolv.conf || exit 9; fi
		exec "$@"`
	path, err := lookTool(name)
	if err != nil {
		h.Lab.T.Fatal(err)
	}
	p := h.Start("unshare", append([]string{"-m", "--propagation", "private", "sh", "-c", script, "sh", path}, args...)...)
	p.Name = name
	return p
}

// Dhclient starts ISC dhclient on a link; its default route gets the metric, or none by 0. The DNS settings of the
// machine are not touched.
func (h *Host) Dhclient(dev string, metric int) *Proc {
	h.Lab.T.Helper()
	Need(h.Lab.T, "dhclient", "unshare")
	dir := h.Lab.TempDir()
	// /tmp, where the lease file is, must stay visible.
	args := []string{"-4", "-d", "-lf", filepath.Join(dir, "leases"), "-pf", filepath.Join(dir, "pid")}
	if metric > 0 {
		args = append(args, "-e", fmt.Sprintf("IF_METRIC=%d", metric))
	}
	return h.private([]string{"/var/lib/dhcp", "/run"}, "dhclient", append(args, dev)...)
}

// Udhcpc starts busybox udhcpc on a link, with a script that sets the address and a default route with the metric. It
// does not renew at T1 but at half of the lease: SIGUSR1 has it renew now.
func (h *Host) Udhcpc(dev string, metric int) *Proc {
	h.Lab.T.Helper()
	Need(h.Lab.T, "busybox", "unshare")
	script := filepath.Join(h.Lab.TempDir(), "udhcpc.sh")
	text := fmt.Sprintf(`#!/bin/sh
case $1 in
deconfig) ip -4 addr flush dev $interface ;;
bound|renew)
	ip -4 -o addr show dev $interface | grep -q " $ip/$mask " || {
		ip -4 addr flush dev $interface
		ip addr add $ip/$mask brd + dev $interface
		for r in $router; do ip route replace default via $r dev $interface proto dhcp metric %d; done
	} ;;
esac
exit 0
`, metric)
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		h.Lab.T.Fatal(err)
	}
	return h.private([]string{"/run"}, "busybox", "udhcpc", "-f", "-R", "-i", dev, "-s", script)
}

// WaitAddr waits until a link has an address, without prefix length, that is not tentative.
func (h *Host) WaitAddr(dev, addr string) {
	h.Lab.T.Helper()
	Eventually(h.Lab.T, 30*time.Second, "address of "+dev, func() error {
		out := h.IP("-o addr show dev " + dev)
		for _, l := range strings.Split(out, "\n") {
			if strings.Contains(l, " "+addr+"/") && !strings.Contains(l, " tentative") {
				return nil
			}
		}
		return fmt.Errorf("wanted %s, found:\n%s", addr, out)
	})
}
