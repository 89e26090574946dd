package lab

import (
	"fmt"
	"os"
	"os/exec"
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
	h.writeConfig("")
	d := &Daemon{Dir: h.StateDir(), Socket: h.socket(), Config: h.configFile(), args: args}
	d.Proc = h.StartCommand(h.capable(args))
	return d
}

// subflowd is the command that runs subflowd: as root, or with SUBFLOW_USER=nobody as that user with CAP_NET_ADMIN alone.
func (h *Host) subflowd(args []string) *exec.Cmd {
	h.Lab.T.Helper()
	switch user := os.Getenv("SUBFLOW_USER"); user {
	case "":
		return h.Command(Bin(h.Lab.T, "subflowd"), h.daemonArgs(args)...)
	case "nobody":
		return h.capable(args)
	default:
		h.Lab.T.Fatalf("SUBFLOW_USER=%s: nobody, or nothing for root", user)
		return nil
	}
}

// capable is subflowd as user nobody.
func (h *Host) capable(args []string) *exec.Cmd {
	h.Lab.T.Helper()
	const nobody = 65534
	// The cache directory of root is closed to others.
	bin := filepath.Join(h.StateDir(), "subflowd")
	if _, err := os.Stat(bin); err != nil {
		// Not copied by this process: a child that another test starts meanwhile would inherit the file open for
		// writing, and it could not be executed (ETXTBSY).
		h.Run("cp", Bin(h.Lab.T, "subflowd"), bin)
	}
	if err := os.Chown(h.StateDir(), nobody, nobody); err != nil {
		h.Lab.T.Fatal(err)
	}
	cmd := h.Command(bin, h.daemonArgs(args)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: nobody, Gid: nobody},
		AmbientCaps: []uintptr{unix.CAP_NET_ADMIN},
		Pdeathsig:   syscall.SIGKILL,
	}
	return cmd
}
