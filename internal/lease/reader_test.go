package lease

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/subflowd/subflowd/internal/netstate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host is a reader in a directory of its own, with eth0 (ifindex 2, 10.1.1.50)
// and eth1 (ifindex 3, the address of the test).
type host struct {
	t     testing.TB
	r     Reader
	links []netstate.Link
	addrs []netstate.Addr
	now   time.Time
}

func newHost(t testing.TB, addr string) *host {
	up := func(i int, name string) netstate.Link {
		return netstate.Link{Index: i, Name: name, Flags: netstate.FlagUp | netstate.FlagLowerUp}
	}
	h := &host{t: t, links: []netstate.Link{up(2, "eth0"), up(3, "eth1")}, now: utc("2026-11-21 21:30:00")}
	h.r.Root = t.TempDir()
	h.addr(2, "10.1.1.50/24")
	if addr != "" {
		h.addr(3, addr)
	}
	return h
}

func (h *host) addr(link int, p string) {
	h.addrs = append(h.addrs, netstate.Addr{Link: link, Local: netip.MustParsePrefix(p)})
}

// write makes a file, at 21:00, half an hour ago.
func (h *host) write(path, text string) { h.writeAt(path, text, written) }

func (h *host) writeAt(path, text string, at time.Time) {
	h.t.Helper()
	path = filepath.Join(h.r.Root, path)
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(text), 0o644)
	}
	if err == nil {
		err = os.Chtimes(path, at, at)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// gateways is what the reader finds: "eth1 10.1.2.1 dhclient, /var/...".
func (h *host) gateways() string {
	var list []string
	found := h.r.Gateways(h.links, h.addrs, h.now)
	for _, l := range h.links {
		if gw, ok := found[netstate.LinkFamily{Link: l.Index, Family: netstate.IPv4}]; ok {
			list = append(list, fmt.Sprintf("%s %s %s", l.Name, gw, h.r.Sources()[netstate.LinkFamily{Link: l.Index, Family: netstate.IPv4}]))
		}
	}
	return strings.Join(list, "\n")
}

func (h *host) want(want string) {
	h.t.Helper()
	if got := h.gateways(); got != want {
		h.t.Errorf("found %q, wanted %q", got, want)
	}
}

func TestGatewaysOfEachClient(t *testing.T) {
	for _, c := range []struct{ golden, path, addr, want string }{
		{"networkd", "run/systemd/netif/leases/3", "10.1.2.58/24", "systemd-networkd"},
		{"networkmanager-internal", "run/NetworkManager/devices/3", "10.1.2.53/24", "NetworkManager"},
		{"networkmanager-dhclient", "run/NetworkManager/devices/3", "10.1.2.53/24", "NetworkManager"},
		{"networkd", "var/lib/NetworkManager/internal-49a15637-1aec-4ae3-b207-220dfb3141ac-eth1.lease", "10.1.2.58/24", "NetworkManager"},
		{"dhclient-networkmanager", "var/lib/NetworkManager/dhclient-e8e51b91-0a26-48a9-88b4-796f8acd9e96-eth1.lease", "10.1.2.53/24", "NetworkManager"},
		{"dhclient-routers", "var/lib/dhcp/dhclient.leases", "10.1.2.58/24", "dhclient"},
		{"dhclient-classless", "var/lib/dhcp/dhclient.eth1.leases", "10.1.2.59/24", "dhclient"},
		{"dhclient-epoch", "var/lib/dhclient/dhclient-eth1.leases", "10.1.2.50/24", "dhclient"},
		{"dhclient-routers", "var/lib/dhclient/dhclient--eth1.lease", "10.1.2.58/24", "dhclient"},
		{"dhcpcd", "var/lib/dhcpcd/eth1.lease", "10.1.2.55/24", "dhcpcd"},
		{"dhcpcd-routers", "var/lib/dhcpcd/eth1-Home Net.lease", "10.1.2.51/24", "dhcpcd"},
		{"dhcpcd", "var/lib/dhcpcd5/dhcpcd-eth1.lease", "10.1.2.55/24", "dhcpcd"},
	} {
		t.Run(c.path, func(t *testing.T) {
			h := newHost(t, c.addr)
			h.write(c.path, string(golden(t, c.golden)))
			h.want("eth1 10.1.2.1 " + c.want + ", /" + c.path)
			h.want("eth1 10.1.2.1 " + c.want + ", /" + c.path)
		})
	}
}

// simple is a lease of networkd.
func simple(addr, router string) string { return "ADDRESS=" + addr + "\nROUTER=" + router + "\n" }

const eth1Lease = "run/systemd/netif/leases/3"

func TestGatewaysThatDoNotCount(t *testing.T) {
	for name, c := range map[string]struct{ addr, text string }{
		"another address":         {"10.1.2.51/24", simple("10.1.2.50", "10.1.2.1")},
		"no address":              {"", simple("10.1.2.50", "10.1.2.1")},
		"link-local":              {"169.254.7.7/16", simple("169.254.7.7", "169.254.1.1")},
		"no router":               {"10.1.2.50/24", "ADDRESS=10.1.2.50\n"},
		"torn":                    {"10.1.2.50/24", "ADDRESS=10.1.2.50\nROUTER=10.1.2.1"},
		"no address at all":       {"10.1.2.50/24", "ROUTER=10.1.2.1\n"},
		"router is ourselves":     {"10.1.2.50/24", simple("10.1.2.50", "10.1.2.50")},
		"router is our other one": {"10.1.2.50/24", simple("10.1.2.50", "10.1.1.50")},
		"unspecified":             {"10.1.2.50/24", simple("10.1.2.50", "0.0.0.0")},
		"this network":            {"10.1.2.50/24", simple("10.1.2.50", "0.1.2.3")},
		"loopback":                {"10.1.2.50/24", simple("10.1.2.50", "127.0.0.1")},
		"multicast":               {"10.1.2.50/24", simple("10.1.2.50", "224.0.0.1")},
		"broadcast":               {"10.1.2.50/24", simple("10.1.2.50", "255.255.255.255")},
		"broadcast of the subnet": {"10.1.2.50/24", simple("10.1.2.50", "10.1.2.255")},
		"IPv6":                    {"10.1.2.50/24", simple("10.1.2.50", "2001:db8::1")},
		"a name":                  {"10.1.2.50/24", simple("10.1.2.50", "router.example.net")},
		"only classless routes":   {"10.1.2.50/24", simple("10.1.2.50", "10.1.2.1") + "CLASSLESS_ROUTES=10.99.0.0/16,10.1.2.2\n"},
		"too long":                {"10.1.2.50/24", simple("10.1.2.50", "10.1.2.1") + strings.Repeat("#\n", maxFile)},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, c.addr)
			h.write(eth1Lease, c.text)
			h.want("")
		})
	}
}

func TestGatewaysThatCount(t *testing.T) {
	for name, c := range map[string]struct{ addr, text, want string }{
		"first that is valid":       {"10.1.2.50/24", simple("10.1.2.50", "0.0.0.0 10.1.2.9 10.1.2.1"), "10.1.2.9"},
		"option 121 before 3":       {"10.1.2.50/24", simple("10.1.2.50", "10.1.2.1") + "ROUTES=0.0.0.0/0,10.1.2.7\n", "10.1.2.7"},
		"outside the prefix":        {"10.1.2.50/32", simple("10.1.2.50", "10.1.2.1"), "10.1.2.1"},
		"link-local as clouds have": {"10.1.2.50/32", simple("10.1.2.50", "169.254.1.1"), "169.254.1.1"},
		"last address of a pair":    {"10.1.2.0/31", simple("10.1.2.0", "10.1.2.1"), "10.1.2.1"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, c.addr)
			h.write(eth1Lease, c.text)
			h.want("eth1 " + c.want + " systemd-networkd, /" + eth1Lease)
		})
	}
}

func TestGatewaysOfLinksThatCannotBeUplinks(t *testing.T) {
	for name, change := range map[string]func(l *netstate.Link, a *netstate.Addr){
		"down":      func(l *netstate.Link, _ *netstate.Addr) { l.Flags &^= netstate.FlagUp },
		"port":      func(l *netstate.Link, _ *netstate.Addr) { l.Master = 9 },
		"loopback":  func(l *netstate.Link, _ *netstate.Addr) { l.Flags |= netstate.FlagLoopback },
		"dadfailed": func(_ *netstate.Link, a *netstate.Addr) { a.Flags |= netstate.AddrDADFailed },
		"elsewhere": func(_ *netstate.Link, a *netstate.Addr) { a.Link = 2 },
		"renumbered interface": func(l *netstate.Link, a *netstate.Addr) {
			l.Index, a.Link = 4, 4 // of another namespace, by chance with the name
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, "10.1.2.50/24")
			h.write(eth1Lease, simple("10.1.2.50", "10.1.2.1"))
			change(&h.links[1], &h.addrs[1])
			h.want("")
		})
	}
}

func block(link, addr, router string, expire time.Time) string {
	return fmt.Sprintf("lease {\n  interface %q;\n  fixed-address %s;\n  option routers %s;\n  expire %s;\n}\n",
		link, addr, router, expire.UTC().Format("1 2006/01/02 15:04:05"))
}

func TestLastLeaseThatHasNotExpired(t *testing.T) {
	h := newHost(t, "10.1.2.50/24")
	const path = "var/lib/dhcp/dhclient.leases"
	old, soon := written.Add(-time.Hour), h.now.Add(time.Hour)
	h.write(path, block("eth1", "10.1.2.50", "10.1.2.1", soon)+block("eth1", "10.1.2.50", "10.1.2.2", soon)+
		block("eth1", "10.1.2.50", "10.1.2.3", old)+block("eth0", "10.1.1.50", "10.1.1.1", soon)+block("eth1", "10.1.2.66", "10.1.2.4", soon))
	h.want("eth0 10.1.1.1 dhclient, /" + path + "\neth1 10.1.2.2 dhclient, /" + path)
	h.now = soon.Add(writePause - time.Second) // renewed, and not written down yet
	h.want("eth0 10.1.1.1 dhclient, /" + path + "\neth1 10.1.2.2 dhclient, /" + path)
	h.now = soon.Add(writePause + time.Second)
	h.want("")
}

func TestNewestFileFirst(t *testing.T) {
	h := newHost(t, "10.1.2.50/24")
	soon := h.now.Add(time.Hour)
	h.writeAt("var/lib/dhcp/dhclient.leases", block("eth1", "10.1.2.50", "10.1.2.1", soon), written.Add(-time.Hour))
	h.write("var/lib/dhcp/dhclient.eth1.leases", block("eth1", "10.1.2.50", "10.1.2.2", soon))
	h.write("var/lib/dhcp/dhclient.eth11.leases", block("eth1", "10.1.2.50", "10.1.2.3", soon))
	h.want("eth1 10.1.2.2 dhclient, /var/lib/dhcp/dhclient.eth1.leases")
	h.write(eth1Lease, simple("10.1.2.50", "10.1.2.4"))
	h.want("eth1 10.1.2.4 systemd-networkd, /" + eth1Lease)
}

func TestLongLog(t *testing.T) {
	h := newHost(t, "10.1.2.50/24")
	soon := h.now.Add(time.Hour)
	h.write("var/lib/dhcp/dhclient.leases", strings.Repeat(block("eth1", "10.1.2.49", "10.1.2.9", soon), 4000)+
		block("eth1", "10.1.2.50", "10.1.2.1", soon))
	h.want("eth1 10.1.2.1 dhclient, /var/lib/dhcp/dhclient.leases")
}

func TestUnchangedFilesAreNotRead(t *testing.T) {
	h := newHost(t, "10.1.2.50/24")
	const path, want = "var/lib/dhcp/dhclient.leases", "eth1 10.1.2.1 dhclient, /var/lib/dhcp/dhclient.leases"
	h.links = h.links[1:]
	h.now = time.Now().Add(time.Minute) // the directory is old as well
	soon := h.now.Add(time.Hour)
	h.write(path, block("eth1", "10.1.2.50", "10.1.2.1", soon))
	h.want(want)
	var before *file
	for _, x := range h.r.files.read {
		before = x
	}
	h.want(want)
	for _, x := range h.r.files.read {
		if x != before {
			t.Error("the file was read again")
		}
	}
	h.write(path, block("eth1", "10.1.2.50", "10.1.2.2", soon)) // the same size and time: ctime differs
	h.want("eth1 10.1.2.2 dhclient, /" + path)
	if err := os.Remove(filepath.Join(h.r.Root, path)); err != nil {
		t.Fatal(err)
	}
	h.want("")
	if len(h.r.files.read) != 0 {
		t.Error("a file that is gone is remembered")
	}
}

// TestFileThatIsBeingWritten: dhclient empties its file to write it anew.
func TestFileThatIsBeingWritten(t *testing.T) {
	h := newHost(t, "10.1.2.50/24")
	const path, want = "var/lib/dhcp/dhclient.leases", "eth1 10.1.2.1 dhclient, /var/lib/dhcp/dhclient.leases"
	text := block("eth1", "10.1.2.50", "10.1.2.1", h.now.Add(time.Hour))
	h.write(path, text)
	h.want(want)
	h.writeAt(path, "", h.now)
	h.now = h.now.Add(time.Second)
	h.want(want)
	h.writeAt(path, text[:len(text)/2], h.now)
	h.want(want)
	h.now = h.now.Add(time.Minute)
	h.want("") // that is not writing any more
	h.writeAt(path, text, h.now)
	h.want(want)
	h.writeAt(path, "", h.now)
	h.addrs[1].Local = netip.MustParsePrefix("10.1.2.51/24")
	h.want("")
}

func TestFilesThatAreNone(t *testing.T) {
	h := newHost(t, "10.1.2.50/24")
	dir := filepath.Join(h.r.Root, "run/systemd/netif/leases")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "3"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readBounded(filepath.Join(dir, "3"), false); err == nil {
		t.Error("a fifo was read")
	}
	for _, path := range []string{"run/NetworkManager/devices/3", "var/lib/dhcp/dhclient.leases", "var/lib/dhcpcd/eth1.lease"} {
		if err := os.MkdirAll(filepath.Join(h.r.Root, path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.write("var/lib/NetworkManager", "a file in the place of a directory")
	h.want("")
}

func TestLooksAgain(t *testing.T) {
	pauses := looks
	t.Cleanup(func() { looks = pauses })
	looks = [...]time.Duration{20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond}
	h := newHost(t, "10.1.2.50/24")
	h.links = h.links[1:]
	again := make(chan struct{}, 16)
	h.r.Again = func() { again <- struct{}{} }
	begun := time.Now()
	for range looks {
		h.now = time.Now()
		h.want("")
		select {
		case <-again:
		case <-time.After(30 * time.Second):
			t.Fatal("no look")
		}
	}
	if last := looks[len(looks)-1]; time.Since(begun) < last {
		t.Errorf("the last look came after %v, wanted %v or more", time.Since(begun), last)
	}
	h.now = time.Now()
	h.want("")
	if h.r.timer != nil {
		t.Error("looks for ever")
	}
	h.addrs[1].Local = netip.MustParsePrefix("10.1.2.51/24")
	h.want("")
	if h.r.timer == nil {
		t.Error("does not look again for another address")
	}
	h.write(eth1Lease, simple("10.1.2.51", "10.1.2.1"))
	h.want("eth1 10.1.2.1 systemd-networkd, /" + eth1Lease)
	if h.r.timer != nil {
		t.Error("looks again though it has found the gateway")
	}
}

func TestWithoutDefault(t *testing.T) {
	h := newHost(t, "")
	h.links = append(h.links, netstate.Link{Index: 4, Name: "eth2"}, netstate.Link{Index: 5, Name: "eth3"})
	all := netip.MustParsePrefix("0.0.0.0/0")
	routes := []netstate.Route{
		{Family: netstate.IPv4, Table: netstate.TableMain, Dst: all, Type: netstate.Unicast, Link: 2},
		{Family: netstate.IPv4, Table: 100003, Dst: all, Type: netstate.Unicast, Link: 3},
		{Family: netstate.IPv4, Table: netstate.TableMain, Dst: netip.MustParsePrefix("10.1.3.0/24"), Type: netstate.Unicast, Link: 4},
		{Family: netstate.IPv6, Table: netstate.TableMain, Dst: netip.MustParsePrefix("::/0"), Type: netstate.Unicast, Link: 5},
	}
	var names []string
	for _, l := range WithoutDefault(h.links, routes) {
		names = append(names, l.Name)
	}
	if got := strings.Join(names, " "); got != "eth1 eth2 eth3" {
		t.Errorf("asked for %s", got)
	}
}

func BenchmarkNothingChanged(b *testing.B) {
	h := newHost(b, "10.1.2.50/24")
	h.now = time.Now().Add(time.Minute)
	h.write("var/lib/dhcp/dhclient.leases", block("eth1", "10.1.2.50", "10.1.2.1", h.now.Add(time.Hour)))
	for b.Loop() {
		h.r.Gateways(h.links, h.addrs, h.now)
	}
}
