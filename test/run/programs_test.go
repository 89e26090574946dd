package run

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/subflowd/subflowd/test/lab"
)

// size is what a transfer carries: at the rate of the lab's links a second and a half.
const size = 4 << 20

// network is a client with two paths and a server; the daemon runs on the client.
func network(t testing.TB) *lab.Net {
	t.Helper()
	n := lab.TwoSubnets(t, lab.Rate("20mbit"))
	n.Client.Daemon()
	lab.Eventually(t, soon, "two paths", func() error { return n.CheckUplinks("subflow", n.A, n.B) })
	return n
}

// site is a directory with a file to be fetched, which other users may read.
func site(n *lab.Net) string {
	n.T.Helper()
	dir := n.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), make([]byte, size), 0o644); err != nil {
		n.T.Fatal(err)
	}
	return dir
}

// overBoth runs a transfer and judges by the counters of both ends and by the links: it was one Multipath TCP connection,
// with a second subflow that the server accepted, and both links carried a good part of it.
func overBoth(n *lab.Net, transfer func()) {
	n.T.Helper()
	type counter struct {
		h    *lab.Host
		name string
	}
	counters := []counter{
		{n.Client, "MPTcpExtMPCapableSYNACKRX"},
		{n.Server, "MPTcpExtMPCapableACKRX"},
		{n.Client, "MPTcpExtMPJoinSynAckRx"},
		{n.Server, "MPTcpExtMPJoinAckRx"},
		{n.Client, "MPTcpExtMPCapableFallbackSYNACK"},
		{n.Server, "MPTcpExtMPCapableFallbackACK"},
	}
	before := make([]uint64, len(counters))
	for i, c := range counters {
		before[i] = c.h.Counter(c.name)
	}
	carried := func(p *lab.Path) uint64 {
		tx, rx := n.Client.LinkBytes(p.Dev)
		return tx + rx
	}
	a, b := carried(n.A), carried(n.B)
	transfer()
	for i, c := range counters {
		found := c.h.Counter(c.name) - before[i]
		if fallback := strings.Contains(c.name, "Fallback"); fallback != (found == 0) {
			n.T.Errorf("[%s] %s rose by %d", c.h.Name, c.name, found)
		}
	}
	a, b = carried(n.A)-a, carried(n.B)-b
	if min(a, b) < size/8 {
		n.T.Errorf("of %d bytes %s carried %d and %s %d", size, n.A.Dev, a, n.B.Dev, b)
	}
}

// listening waits for a server.
func listening(h *lab.Host, address string) {
	h.Lab.T.Helper()
	_, port, _ := strings.Cut(address, ":")
	lab.Eventually(h.Lab.T, soon, "a listener on "+address, func() error {
		if out := h.Run("ss", "-Htln", "sport = :"+port); out == "" {
			return fmt.Errorf("none")
		}
		return nil
	})
}

// TestClients has each program fetch a file from nginx, all of them by run.
func TestClients(t *testing.T) {
	t.Parallel()
	lab.Need(t, "nginx", "curl", "python3", "busybox", "node")
	n := network(t)
	dir := site(n)
	// Workers are another user's, as the package has it.
	conf := fmt.Sprintf("daemon off; user www-data; worker_processes 2; pid %[1]s/pid; error_log stderr;\nevents {}\nhttp { access_log off; server { listen 10.9.0.2:8080; listen [::]:8080 ipv6only=on; root %[1]s; } }\n", dir)
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	n.Server.StartCommand(byRun(n.Server, "nginx", "-c", filepath.Join(dir, "nginx.conf")))
	listening(n.Server, "10.9.0.2:8080")
	const url = "http://10.9.0.2:8080/file"
	fetched := fmt.Sprintf("%d\n", size)
	for _, command := range []string{
		"curl -sS " + url + " | wc -c",
		"busybox wget -q -O - " + url + " | wc -c",
		`python3 -c 'import urllib.request; print(len(urllib.request.urlopen("` + url + `").read()))'`,
		// The transfer is a worker thread's.
		`node -e '
			const { Worker, isMainThread, parentPort } = require("node:worker_threads");
			new Worker("const { parentPort } = require(\"node:worker_threads\"); let n = 0; require(\"node:http\").get(\"` + url + `\", r => { r.on(\"data\", d => n += d.length); r.on(\"end\", () => parentPort.postMessage(n)) })", { eval: true }).on("message", n => console.log(n))'`,
	} {
		name, _, _ := strings.Cut(command, " ")
		overBoth(n, func() {
			if out := want(n.Client, byRun(n.Client, "sh", "-c", command)); out != fetched {
				t.Errorf("%s: %q", name, out)
			}
		})
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

// TestServers: each by run, with a client that is plain without it.
func TestServers(t *testing.T) {
	t.Parallel()
	lab.Need(t, "python3", "iperf3", "curl")
	n := network(t)
	dir := site(n)
	for _, c := range []struct {
		name, address  string
		server, client []string
		answer         string
	}{
		{"a static Go program", "10.9.0.2:7001", []string{probe(t), "serve", "10.9.0.2:7001"}, []string{probe(t), "send", "10.9.0.2:7001", fmt.Sprint(size)}, ""},
		{"iperf3", "10.9.0.2:5201", []string{"iperf3", "-s", "-1"}, []string{"iperf3", "-c", "10.9.0.2", "-n", fmt.Sprint(size)}, "iperf Done."},
		{"iperf3, reverse", "10.9.0.2:5201", []string{"iperf3", "-s", "-1"}, []string{"iperf3", "-R", "-c", "10.9.0.2", "-n", fmt.Sprint(size)}, "iperf Done."},
		{"python3", "10.9.0.2:8000", []string{"python3", "-m", "http.server", "--directory", dir, "8000"}, []string{"curl", "-sSo", "/dev/null", "http://10.9.0.2:8000/file"}, ""},
	} {
		p := n.Server.StartCommand(byRun(n.Server, c.server...))
		listening(n.Server, c.address)
		overBoth(n, func() {
			if out := want(n.Client, byRun(n.Client, c.client...)); !strings.Contains(out, c.answer) {
				t.Errorf("%s: %q", c.name, out)
			}
		})
		p.Stop()
		if t.Failed() {
			t.Fatal(c.name)
		}
	}
}

// TestFailover: the cable of the path that carries an scp is pulled, and the copy is whole.
func TestFailover(t *testing.T) {
	t.Parallel()
	lab.Need(t, "ssh", "sshd")
	n := network(t)
	dir := site(n)
	copied := filepath.Join(dir, "copy")
	options := startSSHD(n, dir)
	scp := n.Client.StartCommand(byRun(n.Client, append(append([]string{"scp"}, options...), "root@10.9.0.2:"+dir+"/file", copied)...))
	lab.Eventually(t, soon, "the copy", func() error {
		if st, err := os.Stat(copied); err != nil || st.Size() < size/8 {
			return fmt.Errorf("not begun: %v", err)
		}
		return nil
	})
	n.A.Cut()
	if code := scp.Wait(2 * soon); code != 0 {
		t.Fatalf("scp: exit status %d: %s", code, scp.Log())
	}
	if st, err := os.Stat(copied); err != nil || st.Size() != size {
		t.Errorf("copied %v, %v", st, err)
	}
	if k := n.Client.Counter("MPTcpExtMPJoinSynAckRx"); k == 0 {
		t.Error("there was no second subflow")
	}
	n.A.Restore()
	lab.Eventually(t, soon, "two paths", func() error { return n.CheckUplinks("subflow", n.A, n.B) })
	overBoth(n, func() {
		upload := append(append([]string{"scp", "-q"}, options...), copied, "root@10.9.0.2:"+dir+"/back")
		want(n.Client, byRun(n.Client, upload...))
	})
}

// startSSHD starts a server with keys of its own, by run, and returns the options of its clients. It has a sandbox of
// seccomp for what it does before it knows the user.
func startSSHD(n *lab.Net, dir string) []string {
	n.T.Helper()
	for _, key := range []string{"host", "user"} {
		n.Server.Run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key))
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // of the package's service
		n.T.Fatal(err)
	}
	n.Server.StartCommand(byRun(n.Server, "/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", "-p", "2222", "-h", filepath.Join(dir, "host"),
		"-o", "AuthorizedKeysFile="+filepath.Join(dir, "user.pub"), "-o", "StrictModes=no", "-o", "PermitRootLogin=yes",
		"-o", "UsePAM=no", "-o", "PidFile=none", "-o", "Subsystem=sftp internal-sftp"))
	listening(n.Server, "10.9.0.2:2222")
	return []string{
		"-F", "/dev/null", "-i", filepath.Join(dir, "user"), "-P", "2222", "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes",
	}
}
