package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/test/lab"
)

// nobody is what setpriv(1) starts before a command of an ordinary user.
var nobody = []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}

func as(user []string, command ...string) []string {
	return append(user[:len(user):len(user)], command...)
}

// TestMPTCPOff: calls go on as plain TCP, and run says why, unless it is to be quiet. The next call is asked anew.
func TestMPTCPOff(t *testing.T) {
	t.Parallel()
	h := host(t)
	h.Sysctl("net.mptcp.enabled", "0")
	r := finish(h, byRun(h, "sh", "-c", protocolOf(t)+"; echo 1 >/proc/sys/net/mptcp/enabled; "+protocolOf(t)))
	const warning = "subflowctl: net.mptcp.enabled is 0: the program's connections are plain TCP while it is\n"
	if r.code != 0 || r.out != "6\n262\n" || r.errs != warning {
		t.Errorf("%v %q %q", r.state, r.out, r.errs)
	}
	h.Sysctl("net.mptcp.enabled", "0")
	if r := finish(h, h.Command(ctl(t), "run", "--quiet", "sh", "-c", protocolOf(t))); r.out != "6\n" || r.errs != "" {
		t.Errorf("--quiet: %v %q %q", r.state, r.out, r.errs)
	}
}

// TestOtherNamespace: the socket belongs to the namespace that the program is in. Where the supervisor may not go the
// call goes on.
func TestOtherNamespace(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	h, other := l.Host("host"), l.Host("other")
	other.Sysctl("net.mptcp.enabled", "1")
	other.IP("addr add 192.0.2.1/32 dev lo")
	// A server on an address that only the other namespace has, and its client.
	script := fmt.Sprintf(`%[1]s; ip netns exec %[2]s sh -c '%[1]s; %[3]s serve 192.0.2.1:7000 & until ss -Htln | grep -q 192.0.2.1:7000; do sleep 0.05; done; %[3]s send 192.0.2.1:7000 1000; grep -A1 MPTcpExt /proc/self/net/netstat; kill $!'; %[1]s`,
		protocolOf(t), other.NS, probe(t))
	out := want(h, byRun(h, "sh", "-c", script))
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if n := len(lines); n != 6 || lines[0] != "262" || lines[1] != "262" || lines[5] != "262" {
		t.Errorf("protocols: %s", out)
	}
	if n := other.Counter("MPTcpExtMPCapableACKRX"); n == 0 {
		t.Error("no MPTCP connection was made in the other namespace")
	}
	if n := h.Counter("MPTcpExtMPCapableSYNTX"); n != 0 {
		t.Errorf("%d MPTCP connections were begun in the first one", n)
	}
	// An ordinary user's namespace, inside an ordinary user's run: the supervisor may not enter it.
	user := as(nobody, ctl(t), "run", "sh", "-c", protocolOf(t)+"; unshare -Urn sh -c '"+protocolOf(t)+"'")
	if out := want(h, h.Command(user[0], user[1:]...)); out != "262\n6\n" {
		t.Errorf("as nobody, before and after unshare: %q", out)
	}
}

// TestSandboxes: filters that were there before keep their say.
func TestSandboxes(t *testing.T) {
	t.Parallel()
	h := host(t)
	r := decode[report](t, want(h, h.Command(probe(t), "deny", ctl(t), "run", probe(t), "report")))
	if r.Sockets["inet"] != mptcp || r.Sockets["inet6"] != -int(unix.EAFNOSUPPORT) {
		t.Errorf("behind a filter that denies IPv6: %v", r.Sockets)
	}
	other := finish(h, h.Command(probe(t), "listen", ctl(t), "run", "sh", "-c", protocolOf(t)))
	const warning = "subflowctl: the program starts with plain TCP: another program answers this one's system calls: device or resource busy\n"
	if other.code != 0 || other.out != "6\n" || other.errs != warning {
		t.Errorf("beside another listener: %v %q %q", other.state, other.out, other.errs)
	}
}

// TestUser: a socket has the user of the process that asked for it, for firewalls too, whoever the supervisor is.
func TestUser(t *testing.T) {
	t.Parallel()
	h := host(t)
	lab.Need(t, "nft")
	h.NFT("add table inet t", "add chain inet t out { type filter hook output priority 0; }",
		"add rule inet t out tcp dport 7000 meta skuid 65534 counter", "add rule inet t out tcp dport 7000 meta skuid 0 counter")
	p := h.StartCommand(byRun(h, probe(t), "serve", "127.0.0.1:7000"))
	lab.Eventually(t, soon, "the server", func() error { return logged(p, "listening") })
	drop := strings.Join(as(nobody, probe(t)), " ")
	r := decode[report](t, want(h, byRun(h, "sh", "-c", drop+" report; "+drop+" send 127.0.0.1:7000 100000")))
	if r.Owner != 65534 || r.Sockets["inet"] != mptcp {
		t.Errorf("owner %d, sockets %v", r.Owner, r.Sockets)
	}
	if n := h.Counter("MPTcpExtMPCapableACKRX"); n != 1 {
		t.Errorf("%d MPTCP connections were made", n)
	}
	var packets [2]int
	for i, rule := range strings.Split(h.Run("nft", "list", "chain", "inet", "t", "out"), "skuid ")[1:] {
		_, count, _ := strings.Cut(rule, "packets ")
		if _, err := fmt.Sscan(count, &packets[i]); err != nil {
			t.Fatal(err)
		}
	}
	if packets[0] == 0 || packets[1] != 0 {
		t.Errorf("packets of nobody and of root: %d", packets)
	}
}

// TestControlGroup: a process that has moved to another control group keeps plain TCP, for the socket would be accounted
// to, and filtered as, the group of the supervisor.
func TestControlGroup(t *testing.T) {
	t.Parallel()
	h := host(t)
	group := filepath.Join(ownGroup(t), "sfl-"+h.Lab.ID)
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(group)
	script := protocolOf(t) + "; echo $$ >" + group + "/cgroup.procs; " + protocolOf(t)
	if out := want(h, byRun(h, "sh", "-c", script)); out != "262\n6\n" {
		t.Errorf("before and after: %q", out)
	}
}

// ownGroup is the directory of this process's group in the unified hierarchy.
func ownGroup(t *testing.T) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	_, path, _ := strings.Cut("\n"+string(own), "\n0::")
	path, _, _ = strings.Cut(path, "\n")
	for line := range strings.Lines(string(mounts)) {
		if w := strings.Fields(line); w[2] == "cgroup2" {
			return filepath.Join(w[1], path)
		}
	}
	t.Fatal("no hierarchy of control groups of version 2 is mounted")
	return ""
}

// count is what the probe says of many sockets.
type count struct {
	MPTCP, TCP, Failed int
	Left               int
	Seconds            float64
	Last               string
}

// TestManySockets: threads that make sockets as fast as they can all get theirs.
func TestManySockets(t *testing.T) {
	t.Parallel()
	h := host(t)
	const threads, each = 32, 1000
	c := decode[count](t, want(h, byRun(h, probe(t), "sockets", fmt.Sprint(threads), fmt.Sprint(each))))
	if c.MPTCP != threads*each || c.Left != 0 {
		t.Errorf("%+v", c)
	}
	t.Logf("%.0f sockets a second", threads*each/c.Seconds)
}

// TestStoppedSupervisor: whatever interrupts it, a suspend or a frozen group as well as these stops, every call ends with
// a socket, and none with a descriptor that is something else.
func TestStoppedSupervisor(t *testing.T) {
	t.Parallel()
	h := host(t)
	const threads, each = 8, 2000
	p := h.StartCommand(byRun(h, probe(t), "sockets", fmt.Sprint(threads), fmt.Sprint(each)))
	var s int
	lab.Eventually(t, soon, "the supervisor", func() error {
		if s = supervisor(p.Pid); s == 0 {
			return errors.New("none")
		}
		return nil
	})
	stops := 0
	for p.Running() && syscall.Kill(s, syscall.SIGSTOP) == nil && syscall.Kill(s, syscall.SIGCONT) == nil {
		stops++
	}
	if p.Wait(soon); stops < 10 {
		t.Errorf("%d stops only", stops)
	}
	if c := decode[count](t, p.Log()); c.MPTCP != threads*each || c.Left != 0 {
		t.Errorf("%+v", c)
	}
}

// TestSignalsDuringCalls: a call that a signal interrupts is made again, where the handler wants that, and leaves nothing
// behind where it does not.
func TestSignalsDuringCalls(t *testing.T) {
	t.Parallel()
	h := host(t)
	lab.Need(t, "python3")
	const script = `
import os, signal, socket
hits = 0
def hit(*_):
    global hits
    hits += 1
signal.signal(signal.SIGALRM, hit)
for interrupt in False, True:
    signal.siginterrupt(signal.SIGALRM, interrupt)
    before = len(os.listdir("/proc/self/fd"))
    signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
    made = interrupted = hits = 0
    while made + interrupted < 3000:
        try:
            s = socket.socket()
            made += s.getsockopt(socket.SOL_SOCKET, 38) == 262
            s.close()
        except InterruptedError:
            interrupted += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(hits > 10, interrupted <= hits if interrupt else interrupted, len(os.listdir("/proc/self/fd")) - before)
`
	if out := want(h, byRun(h, "python3", "-c", script)); out != "True 0 0\nTrue True 0\n" {
		t.Error(out)
	}
}

// TestDescriptorsRunOut: the kernel itself tells the program, as always.
func TestDescriptorsRunOut(t *testing.T) {
	t.Parallel()
	h := host(t)
	lab.Need(t, "python3")
	const script = `
import errno, resource, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
kept = []
try:
    while True:
        kept.append(socket.socket())
except OSError as e:
    print(errno.errorcode[e.errno], len(kept) > 20, {s.getsockopt(socket.SOL_SOCKET, 38) for s in kept})
`
	if out := want(h, byRun(h, "python3", "-c", script)); out != "EMFILE True {262}\n" {
		t.Error(out)
	}
}
