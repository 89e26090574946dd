package system

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

// notifier is a service of Type=notify: it says that it is ready with its own process id, and writes what it was started
// with.
const notifier = `import os, socket, sys, time
s = socket.socket()
s.bind(("0.0.0.0", 7001))
s.listen()
status = open("/proc/self/status").read()
with open(os.environ["STATE_DIRECTORY"] + "/args", "w") as f:
    f.write("\n".join(sys.argv[1:] + [status[status.index("SigIgn"):].split("\n")[0], str(s.getsockopt(1, 38))]))
n = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
n.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
time.sleep(3600)
`

// notifierUnit has arguments that systemd would read otherwise, a list of system calls without seccomp, and another user.
const notifierUnit = `[Service]
Type=notify
NotifyAccess=main
DynamicUser=yes
StateDirectory=notifier
Environment=WORDS=a\x20b
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
RestrictAddressFamilies=AF_INET AF_UNIX
MemoryDenyWriteExecute=yes
ProtectSystem=strict
PrivateTmp=yes
TimeoutStopSec=20
ExecStart=/usr/bin/python3 /usr/local/lib/notifier.py 100%% "two words" "" "quoted \"\\" $WORDS ${WORDS} ';' %n
`

const onceUnit = `[Service]
Type=oneshot
ExecStart=-/bin/false
ExecStart=@/bin/sh name -c 'echo $$0 >/run/once'
ExecStart=+/bin/sh -c 'cat /proc/$$$$/cmdline | tr "\\0" " " >>/run/once'
`

// picky goes on only with as many seccomp filters as at its first start.
const picky = `found=$(grep Seccomp_filters /proc/self/status)
test -e /run/first || echo "$found" >/run/first
test "$found" = "$(cat /run/first)" && exec sleep 1000
`

// TestEnable has systemd start services by run, as their units have it, and without again.
func TestEnable(t *testing.T) {
	t.Parallel()
	lab.Need(t, "nginx", "python3")
	n := lab.TwoSubnets(t)
	m := bootWith(n, "1")
	b, err := os.ReadFile(lab.Bin(t, "subflowctl"))
	if err != nil {
		t.Fatal(err)
	}
	m.write("usr/bin/subflowctl", string(b))
	m.run("chmod", "755", "/usr/bin/subflowctl")
	m.write("usr/local/lib/notifier.py", notifier)
	m.write("etc/systemd/system/notifier.service", notifierUnit)
	m.write("etc/systemd/system/once.service", onceUnit)
	m.write("etc/systemd/system/echo.socket", "[Socket]\nListenStream=7003\nAccept=yes\n")
	m.write("etc/systemd/system/echo@.service", "[Service]\nExecStart=/bin/cat\nStandardInput=socket\n")
	m.write("etc/systemd/system/late.socket", "[Socket]\nListenStream=7004\n")
	m.write("etc/systemd/system/late.service", "[Service]\nExecStart=/bin/sleep 1000\n")
	m.write("usr/local/lib/picky.sh", picky)
	m.write("etc/systemd/system/picky.service", "[Service]\nExecStart=/bin/sh /usr/local/lib/picky.sh\n")
	m.write("etc/systemd/system/hidden.service", "[Service]\nTemporaryFileSystem=/usr/bin\nBindReadOnlyPaths=/usr/bin/sleep\nExecStart=/usr/bin/sleep 1000\n")
	m.write("etc/systemd/system/guess.service", "[Service]\nType=forking\nExecStart=/bin/true\n")
	m.run("systemctl", "daemon-reload")

	m.enableNginx()
	m.enableNotifier()
	m.enableOnce()
	for name, why := range map[string]string{
		"guess":          "guess.service is left as it is: it is of Type=forking without PIDFile=",
		"nonesuch":       "the unit is not-found",
		"user@0.service": "Delegate=",
		"subflowd@":      "is a template",
		"hidden":         "it has /usr/bin/subflowctl out of its sight",
	} {
		if out, err := m.try("subflowctl", "enable", name); err == nil || !strings.Contains(out, why) {
			t.Errorf("enable %s: %v, wanted %q", name, err, why)
		}
	}
	m.enableLate()
	m.enablePicky()
	m.enableSocket()
}

// listener waits until a port has a listener of this kind: "tcp" or "mptcp".
func (m *machine) listener(port, kind string) {
	m.t.Helper()
	lab.Eventually(m.t, soon, kind+" on port "+port, func() error {
		out := m.run("ss", "-HtlnM", "sport = :"+port)
		if strings.Contains(out, "mptcp") != (kind == "mptcp") || out == "" {
			return fmt.Errorf("listeners:\n%s", out)
		}
		return nil
	})
}

func (m *machine) enableNginx() {
	m.t.Helper()
	m.run("systemctl", "start", "nginx")
	m.listener("80", "tcp")
	const drop = "/etc/systemd/system/nginx.service.d/zz-subflowd.conf"
	preview := m.run("subflowctl", "enable", "--dry-run", "nginx")
	if want := "ExecStart=\nExecStart=/usr/bin/subflowctl run -- /usr/sbin/nginx -g \"daemon on; master_process on;\"\n"; !strings.Contains(preview, want) {
		m.t.Errorf("preview: %s", preview)
	}
	if m.exists(drop) {
		m.t.Error("--dry-run has made the drop-in")
	}
	m.run("subflowctl", "enable", "nginx")
	if found := m.run("cat", drop); found != preview {
		m.t.Errorf("drop-in: %s", found)
	}
	m.listener("80", "tcp") // until it is restarted
	m.run("subflowctl", "enable", "--now", "nginx.service")
	m.listener("80", "mptcp")
	if state := m.run("systemctl", "is-active", "nginx"); state != "active\n" {
		m.t.Errorf("nginx is %s", state)
	}
	if pid, main := m.run("cat", "/run/nginx.pid"), m.run("systemctl", "show", "--value", "-p", "MainPID", "nginx"); pid != main {
		m.t.Errorf("its main process is %s for nginx and %s for systemd", pid, main)
	}
	m.run("systemctl", "reload", "nginx")
	m.run("subflowctl", "disable", "--now", "nginx")
	m.listener("80", "tcp")
	if m.exists("/etc/systemd/system/nginx.service.d") {
		m.t.Error("disable has left the directory")
	}
	if out := m.run("subflowctl", "disable", "nginx"); out != "nginx.service was not enabled\n" {
		m.t.Errorf("disable: %q", out)
	}
}

// enableNotifier compares what the service finds with and without run.
func (m *machine) enableNotifier() {
	m.t.Helper()
	look := func() string {
		m.run("systemctl", "restart", "notifier")
		found := m.run("cat", "/var/lib/private/notifier/args")
		begun := time.Now()
		m.run("systemctl", "stop", "notifier")
		if took := time.Since(begun); took > 15*time.Second {
			m.t.Errorf("the stop took %v: somebody ignored it", took)
		}
		if r := m.run("systemctl", "show", "--value", "-p", "Result", "notifier"); r != "success\n" {
			m.t.Errorf("stopped: %s", r)
		}
		return found
	}
	before := look()
	m.run("subflowctl", "enable", "notifier")
	// Newer ones allow seccomp by @default, which has @sandbox.
	known := strings.Contains(m.run("systemd-analyze", "syscall-filter", "@default"), "@sandbox")
	if drop := m.run("cat", "/etc/systemd/system/notifier.service.d/zz-subflowd.conf"); strings.Contains(drop, "\nSystemCallFilter=seccomp\n") == known {
		m.t.Errorf("drop-in: %s", drop)
	}
	after := look()
	if want := strings.TrimSuffix(before, "6") + "262"; after != want {
		out, _ := m.try("journalctl", "--no-pager", "-u", "notifier", "-n", "30")
		m.t.Errorf("started with\n%s\nwanted\n%s\n%s", after, want, out)
	}
}

func (m *machine) enableOnce() {
	m.t.Helper()
	m.run("systemctl", "start", "once")
	before := m.run("cat", "/run/once")
	m.run("subflowctl", "enable", "once")
	m.run("systemctl", "start", "once")
	if after := m.run("cat", "/run/once"); after != before {
		m.t.Errorf("several commands: %q, wanted %q", after, before)
	}
	m.run("subflowctl", "disable", "once")
}

// enableLate: a service for which systemd listens makes no such socket itself.
func (m *machine) enableLate() {
	m.t.Helper()
	const note = "late.socket listens for it, and stays as it is"
	for _, listens := range []bool{false, true} {
		if listens {
			m.run("systemctl", "start", "late.socket")
		}
		if out := m.run("subflowctl", "enable", "late"); strings.Contains(out, note) != listens {
			m.t.Errorf("a socket that listens, %v: %s", listens, out)
		}
	}
}

// enablePicky: a service that ends at once with run is no success, and how to have it back is said.
func (m *machine) enablePicky() {
	m.t.Helper()
	m.run("systemctl", "start", "picky")
	lab.Eventually(m.t, soon, "the first start", func() error {
		_, err := m.try("test", "-s", "/run/first")
		return err
	})
	out, err := m.try("subflowctl", "enable", "--now", "picky")
	if err == nil || !strings.Contains(out, "restart picky.service: it has failed right after the start") ||
		!strings.Contains(out, "subflowctl disable picky.service && systemctl restart picky.service") {
		m.t.Errorf("%v", err)
	}
	m.run("sh", "-c", "subflowctl disable picky.service && systemctl restart picky.service")
	if state := m.run("systemctl", "is-active", "picky"); state != "active\n" {
		m.t.Errorf("afterwards it is %s", state)
	}
}

// enableSocket: systemd 252 does not know the setting, and 257 does.
func (m *machine) enableSocket() {
	m.t.Helper()
	out, err := m.try("subflowctl", "enable", "echo.socket")
	if strings.HasPrefix(m.run("systemctl", "--version"), "systemd 252 ") {
		if err == nil || !strings.Contains(out, "echo.socket is left as it is: systemd 252 does not know SocketProtocol=mptcp") {
			m.t.Errorf("a socket unit: %v", err)
		}
		return
	}
	if err != nil {
		m.t.Fatal(err)
	}
	m.run("systemctl", "start", "echo.socket")
	m.listener("7003", "mptcp")
}
