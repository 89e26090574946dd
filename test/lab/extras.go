package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Container makes a host behind a bridge of this host, as Docker does by default: docker0 172.17.0.1/16, the container
// with 172.17.0.2 (the next with .3) on eth0, forwarding, and masquerading of what leaves by other links.
func (h *Host) Container(name string) *Host {
	h.Lab.T.Helper()
	Need(h.Lab.T, "nft")
	if _, err := h.TryIP("link show dev docker0"); err != nil {
		h.IP("link add docker0 type bridge", "addr add 172.17.0.1/16 dev docker0", "link set docker0 up")
		h.Sysctl("net.ipv4.ip_forward", "1")
		h.NFT("add table ip nat",
			"add chain ip nat post { type nat hook postrouting priority 100; }",
			"add rule ip nat post ip saddr 172.17.0.0/16 oifname != docker0 masquerade")
	}
	h.containers++
	c := h.Lab.Host(name)
	veth := fmt.Sprintf("veth%d", h.containers)
	Veth(c, "eth0", h, veth)
	h.IP("link set " + veth + " master docker0")
	c.IP(fmt.Sprintf("addr add 172.17.0.%d/16 dev eth0", h.containers+1), "route add default via 172.17.0.1")
	return c
}

// NFT runs commands of nft(8) in the namespace.
func (h *Host) NFT(commands ...string) {
	h.Lab.T.Helper()
	Need(h.Lab.T, "nft")
	for _, c := range commands {
		h.Run("nft", c)
	}
}

// StripMPTCP has the router remove the MPTCP options of all packets that it forwards from and to this path's link, as
// some middleboxes do.
func (p *Path) StripMPTCP() {
	p.A.Lab.T.Helper()
	table := "strip" + p.DevB
	p.B.NFT("add table inet "+table,
		"add chain inet "+table+" pre { type filter hook forward priority -300; }",
		fmt.Sprintf("add rule inet %s pre iifname %s reset tcp option mptcp", table, p.DevB),
		fmt.Sprintf("add rule inet %s pre oifname %s reset tcp option mptcp", table, p.DevB))
}

// DaemonCapable starts subflowd as user nobody with CAP_NET_ADMIN and nothing more.
func (h *Host) DaemonCapable(args ...string) *Daemon {
	h.Lab.T.Helper()
	const nobody = 65534
	h.writeConfig("")
	// The cache directory of root is closed to others.
	bin := filepath.Join(h.StateDir(), "subflowd")
	// Not copied by this process: a child that another test starts meanwhile would inherit the file open for writing,
	// and it could not be executed (ETXTBSY).
	h.Run("cp", Bin(h.Lab.T, "subflowd"), bin)
	if err := os.Chown(h.StateDir(), nobody, nobody); err != nil {
		h.Lab.T.Fatal(err)
	}
	d := &Daemon{Dir: h.StateDir(), Socket: h.socket(), Config: h.configFile(), args: args}
	cmd := h.Command(bin, h.daemonArgs(args)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: nobody, Gid: nobody},
		AmbientCaps: []uintptr{unix.CAP_NET_ADMIN},
		Pdeathsig:   syscall.SIGKILL,
	}
	d.Proc = h.StartCommand(cmd)
	return d
}
