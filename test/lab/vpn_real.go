package lab

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Gate is the host of a VPN's operator, behind the router: 10.7.0.2, reached from the client by both links. It forwards
// what comes out of the tunnel. Packets with another source than the client's tunnel address do not come out: the VPNs
// themselves drop them.
type Gate struct {
	*Host
	net *Net
}

// GateAddr is the gate's address, and with it the outer destination of all that a VPN sends.
const GateAddr = "10.7.0.2"

// RealVPN is a VPN between the client and a gate, by the programs that people use. In the tunnel the client is
// 10.88.0.2, and 2001:db8:88::2 by WireGuard or 2001:db8:88::1000 by OpenVPN.
type RealVPN struct {
	Dev          string // on the client
	Port         int    // UDP, of the gate
	Addr, Addr6  string // of the client in the tunnel
	Up, Down     func() // as the user does; both wait until it is done
	Kill         func() // SIGKILL for the process that holds the tunnel
	CheckHealthy func() error
}

// Gate adds the gate to the net.
func (n *Net) Gate() *Gate {
	n.T.Helper()
	g := &Gate{Host: n.Host("gate"), net: n}
	g.Sysctl("net.ipv4.conf.all.rp_filter", "0", "net.ipv4.conf.default.rp_filter", "0",
		"net.ipv6.conf.default.accept_dad", "0", "net.ipv6.conf.default.dad_transmits", "0",
		"net.ipv4.ip_forward", "1", "net.ipv6.conf.all.forwarding", "1",
		"net.ipv4.conf.all.send_redirects", "0", "net.ipv4.conf.default.send_redirects", "0")
	Veth(g.Host, "eth0", n.Router, "rg")
	g.IP("addr add "+GateAddr+"/24 dev eth0", "addr add 2001:db8:7::2/64 dev eth0 nodad",
		"route add default via 10.7.0.1", "link set lo up")
	g.IP("-6 route add default via 2001:db8:7::1")
	n.Router.IP("addr add 10.7.0.1/24 dev rg", "addr add 2001:db8:7::1/64 dev rg nodad",
		"route add 10.88.0.0/24 via "+GateAddr)
	n.Router.IP("-6 route add 2001:db8:88::/64 via 2001:db8:7::2")
	return g
}

// certificate makes a key and a self-signed certificate in dir, NAME.key and NAME.crt, and returns its fingerprint.
func certificate(l *Lab, dir, name string) string {
	l.T.Helper()
	Need(l.T, "openssl")
	out := ""
	for _, command := range []string{
		"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=" + name +
			" -keyout " + name + ".key -out " + name + ".crt",
		"x509 -noout -fingerprint -sha256 -in " + name + ".crt",
	} {
		cmd := exec.Command("openssl", strings.Fields(command)...)
		cmd.Dir = dir
		b, err := cmd.Output()
		if err != nil {
			l.T.Fatalf("openssl %s: %v", command, err)
		}
		out = string(b)
	}
	_, print, _ := strings.Cut(strings.TrimSpace(out), "=")
	return print
}

const openVPNUp = "Initialization Sequence Completed"

// OpenVPN starts an OpenVPN server on the gate that pushes these options, such as "redirect-gateway def1", to the
// client.
func (g *Gate) OpenVPN(push ...string) *RealVPN {
	t := g.Lab.T
	t.Helper()
	Need(t, "openvpn")
	dir := g.Lab.TempDir()
	server, client := certificate(g.Lab, dir, "server"), certificate(g.Lab, dir, "client")
	conf := func(name, peer string, lines ...string) string {
		f := filepath.Join(dir, name+".conf")
		lines = append(lines, "dev tun0", "proto udp", "cert "+name+".crt", "key "+name+".key", "peer-fingerprint "+peer)
		if err := os.WriteFile(f, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return f
	}
	lines := []string{
		"port 1194", "tls-server", "mode server", "topology subnet", "dh none", "keepalive 2 8",
		"server 10.88.0.0 255.255.255.0", "server-ipv6 2001:db8:88::/64",
	}
	for _, p := range push {
		lines = append(lines, `push "`+p+`"`)
	}
	up := func(h *Host, file string) *Proc {
		t.Helper()
		p := h.Start("openvpn", "--cd", dir, "--config", file)
		Eventually(t, 60*time.Second, "OpenVPN on "+h.Name, func() error {
			if !p.Running() {
				t.Fatalf("OpenVPN on %s ended:\n%s", h.Name, p.Log())
			}
			if !strings.Contains(p.Log(), openVPNUp) {
				return errors.New("not initialised")
			}
			return nil
		})
		return p
	}
	up(g.Host, conf("server", client, lines...))
	file := conf("client", server, "client", "nobind", "connect-retry 1", "remote "+GateAddr+" 1194")
	var p *Proc
	return &RealVPN{
		Dev: "tun0", Port: 1194, Addr: "10.88.0.2", Addr6: "2001:db8:88::1000",
		Up:   func() { t.Helper(); p = up(g.net.Client, file) },
		Down: func() { t.Helper(); p.Stop() },
		Kill: func() { t.Helper(); p.Kill() },
		CheckHealthy: func() error {
			if !p.Running() || strings.Count(p.Log(), openVPNUp) != 1 {
				return fmt.Errorf("OpenVPN did not stay connected: %s\n%s", p.status(), tail(p.Log(), 4000))
			}
			return g.net.Client.Ping("10.88.0.1", "")
		},
	}
}

// WireGuard prepares a WireGuard server on the gate, and a client for wg-quick(8) with these AllowedIPs, such as
// "0.0.0.0/0, ::/0". wg-quick takes wireguard-go where the kernel has no WireGuard.
func (g *Gate) WireGuard(allowed string) *RealVPN {
	t, c := g.Lab.T, g.net.Client
	t.Helper()
	Need(t, "wg-quick", "wg", "wireguard-go", "nft")
	const port = 51820
	here, there := wireGuardKey(g.Lab), wireGuardKey(g.Lab)
	server := g.wgConf("wgs0", here, there, "ListenPort = 51820", "Address = 10.88.0.1/24, 2001:db8:88::1/64",
		"AllowedIPs = 10.88.0.2/32, 2001:db8:88::2/128")
	client := c.wgConf("wgc0", there, here, "", "Address = 10.88.0.2/24, 2001:db8:88::2/64", "AllowedIPs = "+allowed,
		fmt.Sprintf("Endpoint = %s:%d", GateAddr, port), "PersistentKeepalive = 5")
	g.wgQuick("up", server)
	return &RealVPN{
		Dev: "wgc0", Port: port, Addr: "10.88.0.2", Addr6: "2001:db8:88::2",
		Up:   func() { t.Helper(); c.wgQuick("up", client) },
		Down: func() { t.Helper(); c.wgQuick("down", client) },
		Kill: func() { t.Helper(); c.killNamed("wireguard-go", "link del wgc0") },
		CheckHealthy: func() error {
			to := "10.88.0.1"
			if !strings.Contains(allowed, "0.0.0.0/0") && strings.Contains(allowed, "::/0") {
				to = "2001:db8:88::1"
			}
			return c.Ping(to, "")
		},
	}
}

func wireGuardKey(l *Lab) *ecdh.PrivateKey {
	l.T.Helper()
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		l.T.Fatal(err)
	}
	return k
}

// wgConf writes the configuration of an interface: the first two lines are the interface's, the rest the peer's. It gives
// the host a directory of its own for the interface's socket, whose name is the same in all namespaces.
func (h *Host) wgConf(dev string, own, peer *ecdh.PrivateKey, lines ...string) string {
	h.Lab.T.Helper()
	var err error
	h.spawn.call(func() {
		const sockets = "/run/wireguard"
		if err = os.MkdirAll(sockets, 0o755); err == nil {
			err = unix.Mount("tmpfs", sockets, "tmpfs", 0, "mode=755")
		}
	})
	if err != nil {
		h.Lab.T.Fatalf("[%s] mount /run/wireguard: %v", h.Name, err)
	}
	key := base64.StdEncoding.EncodeToString
	all := []string{"[Interface]", "PrivateKey = " + key(own.Bytes()), lines[0], lines[1], "[Peer]", "PublicKey = " + key(peer.PublicKey().Bytes())}
	file := filepath.Join(h.Lab.TempDir(), dev+".conf")
	if err := os.WriteFile(file, []byte(strings.Join(append(all, lines[2:]...), "\n")+"\n"), 0o600); err != nil {
		h.Lab.T.Fatal(err)
	}
	return file
}

// wgQuick runs wg-quick. Its output goes to a file: wireguard-go, which it leaves behind, would keep a pipe open.
func (h *Host) wgQuick(verb, file string) {
	h.Lab.T.Helper()
	log := strings.TrimSuffix(file, ".conf") + "." + verb
	f, err := os.Create(log)
	if err != nil {
		h.Lab.T.Fatal(err)
	}
	defer f.Close()
	cmd := h.Command("wg-quick", verb, file)
	cmd.Stdout, cmd.Stderr = f, f
	if err = h.begin(cmd); err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		b, _ := os.ReadFile(log)
		h.Lab.T.Fatalf("[%s] wg-quick %s: %v\n%s", h.Name, verb, err, b)
	}
}

// killNamed kills the processes of the namespace by that name; where there is none, because the kernel does their work,
// it runs a command of ip(8).
func (h *Host) killNamed(name, otherwise string) {
	h.Lab.T.Helper()
	out, err := exec.Command("ip", "netns", "pids", h.NS).Output()
	if err != nil {
		h.Lab.T.Fatalf("ip netns pids: %v", err)
	}
	killed := false
	for _, f := range strings.Fields(string(out)) {
		comm, _ := os.ReadFile("/proc/" + f + "/comm")
		pid, err := strconv.Atoi(f)
		if err != nil || strings.TrimSpace(string(comm)) != name {
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			h.Lab.T.Fatalf("kill %s: %v", name, err)
		}
		killed = true
	}
	if !killed {
		h.IP(otherwise)
	}
}

// Packet is one packet on a link, as tcpdump prints it.
type Packet struct {
	At   time.Time
	Dev  string // of the client
	Text string
}

// Wiretap records what the client sends by its two links.
type Wiretap struct {
	n     *Net
	mu    sync.Mutex
	procs map[*Path]*Proc
	marks int
}

// Wiretap begins to record what the client sends by its links and a filter of pcap-filter(7) matches, as the router
// receives it.
func (n *Net) Wiretap(filter string) *Wiretap {
	n.T.Helper()
	Need(n.T, "tcpdump")
	w := &Wiretap{n: n, procs: map[*Path]*Proc{}}
	for _, p := range []*Path{n.A, n.B} {
		w.procs[p] = n.Router.Start("tcpdump", "-i", p.DevB, "-Q", "in", "--immediate-mode", "-l", "-nn", "-tt",
			"("+filter+") or (icmp[icmptype] = icmp-echo and dst host "+p.Gateway+")")
	}
	for p, proc := range w.procs {
		Eventually(n.T, 20*time.Second, "tcpdump on "+p.DevB, func() error {
			if !strings.Contains(proc.Log(), "listening on") {
				return fmt.Errorf("not listening: %s", proc.Log())
			}
			return nil
		})
	}
	return w
}

// mark ends every call of Packets: what was sent before it has been recorded before it.
const mark = "ICMP echo request"

// Packets returns all that the client has sent until now, in order.
func (w *Wiretap) Packets() []Packet {
	t := w.n.T
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.marks++
	var all []Packet
	for p, proc := range w.procs {
		if err := w.n.Client.Ping(p.Gateway, p.Dev); err != nil {
			t.Fatal(err)
		}
		Eventually(t, 20*time.Second, "tcpdump on "+p.DevB, func() error {
			if k := strings.Count(proc.Log(), mark); k < w.marks {
				return fmt.Errorf("%d marks recorded of %d", k, w.marks)
			}
			return nil
		})
		for _, l := range strings.Split(proc.Log(), "\n") {
			at, text, _ := strings.Cut(l, " ")
			if secs, err := strconv.ParseFloat(at, 64); err == nil && !strings.Contains(l, mark) {
				all = append(all, Packet{time.UnixMicro(int64(secs * 1e6)), p.Dev, text})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Packet) int { return a.At.Compare(b.At) })
	return all
}

// Announced watches the routes and rules of the host. The returned function tells when the kernel announced the nth
// one whose line in ip monitor has all these words.
func (h *Host) Announced() func(nth int, words ...string) time.Time {
	t := h.Lab.T
	t.Helper()
	p := h.Start("ip", "-ts", "-o", "monitor", "route", "rule")
	Eventually(t, 20*time.Second, "ip monitor", func() error {
		if !h.listens(p.Pid) {
			return fmt.Errorf("no subscription: %s", p.Log())
		}
		return nil
	})
	return func(nth int, words ...string) (at time.Time) {
		t.Helper()
		Eventually(t, 20*time.Second, fmt.Sprintf("%q in ip monitor", words), func() error {
			found := 0
			for _, l := range strings.Split(p.Log(), "\n") {
				stamp, rest, ok := strings.Cut(strings.TrimPrefix(l, "["), "] ")
				has := func(w string) bool { return strings.Contains(rest, w) }
				if !ok || slices.ContainsFunc(words, func(w string) bool { return !has(w) }) || strings.HasPrefix(rest, "Deleted") {
					continue
				}
				if found++; found < nth {
					continue
				}
				var err error
				at, err = time.ParseInLocation("2006-01-02T15:04:05.999999", stamp, time.Local)
				return err
			}
			return errors.New("not announced")
		})
		return at
	}
}
