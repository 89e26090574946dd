package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Root is the need for uid 0: namespaces, links and routes are made by root.
const Root = "root"

// packages names the Debian package of every tool that a test may ask for.
var packages = map[string]string{
	"arping":             "arping",
	"busybox":            "busybox",
	"conntrack":          "conntrack",
	"curl":               "curl",
	"dbus-daemon":        "dbus-daemon",
	"dhclient":           "isc-dhcp-client",
	"dhcpcd":             "dhcpcd-base",
	"dhcpd":              "isc-dhcp-server",
	"dnsmasq":            "dnsmasq-base",
	"go":                 "golang-go",
	"ip":                 "iproute2",
	"iperf3":             "iperf3",
	"mount":              "mount",
	"mptcpd":             "mptcpd",
	"mptcpize":           "mptcpize",
	"NetworkManager":     "network-manager",
	"networkctl":         "systemd",
	"nft":                "nftables",
	"nginx":              "nginx-light",
	"nmcli":              "network-manager",
	"node":               "nodejs",
	"openvpn":            "openvpn",
	"ping":               "iputils-ping",
	"pppd":               "ppp",
	"python3":            "python3",
	"radvd":              "radvd",
	"rdisc6":             "ndisc6",
	"setpriv":            "util-linux",
	"script":             "bsdutils",
	"ss":                 "iproute2",
	"ssh":                "openssh-client",
	"sshd":               "openssh-server",
	"systemd-networkd":   "systemd",
	"systemd-nspawn":     "systemd-container",
	"tc":                 "iproute2",
	"tcpdump":            "tcpdump",
	"tmux":               "tmux",
	"udhcpc":             "udhcpc",
	"unshare":            "util-linux",
	"wg":                 "wireguard-tools",
	"wg-quick":           "wireguard-tools",
	"wireguard-go":       "wireguard-go",
	"qemu-system-x86_64": "qemu-system-x86",
}

// Need makes a test depend on root (lab.Root) and on tools by the name of their program. Without root a test that
// needs it is skipped; as root nothing is skipped: a missing tool fails the test and names its Debian package.
func Need(t testing.TB, needs ...string) {
	t.Helper()
	for _, n := range needs {
		if n == Root && os.Geteuid() != 0 {
			t.Skip("needs root: run the tests as root to make network namespaces")
		}
	}
	for _, n := range needs {
		if n == Root {
			continue
		}
		if _, err := lookTool(n); err == nil {
			continue
		}
		p, ok := packages[n]
		if !ok {
			p = n
		}
		if os.Geteuid() != 0 {
			t.Skipf("needs %s: apt-get install %s", n, p)
		}
		t.Fatalf("%s is missing: apt-get install --no-install-recommends %s", n, p)
	}
}

// lookTool finds a program also where PATH of an ordinary user does not lead.
func lookTool(name string) (string, error) {
	p, err := exec.LookPath(name)
	if err == nil {
		return p, nil
	}
	for _, d := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin", "/lib/systemd", "/usr/lib/systemd"} {
		if st, e := os.Stat(filepath.Join(d, name)); e == nil && !st.IsDir() {
			return filepath.Join(d, name), nil
		}
	}
	return "", err
}
