package system

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

const serverPort = ":5001"

// TestDebian follows the deb from its installation to its purge on a running system.
func TestDebian(t *testing.T) {
	t.Parallel()
	lab.Need(t, lab.Root, "systemd-nspawn", "strace")
	old, next := one(t, "*_"+older+"-1_*.deb"), one(t, "*_"+newer+"-1_*.deb")
	n := lab.TwoSubnets(t)
	m := boot(n)
	before := n.Client.Settled()
	n.Server.Listen(n.ServerAddr + serverPort)

	m.run("dpkg", "-i", m.take(old))
	m.is("ActiveState", "active")
	m.complete(n, "subflow")
	checkUnit(m)
	checkPrivileges(m)
	checkJournal(m)
	checkJournalStands(m, n)

	checkReload(m, n)
	checkUpgrade(m, n, "dpkg", "-i", m.take(next))
	checkHang(m, n)
	checkKill(m, n)
	checkCrashLoop(m, n)
	checkCleanupByHand(m, n, before)

	// The configuration cannot be read any more; what the daemon made is removed all the same.
	m.write("etc/subflowd/conf.d/bad.toml", "rolle = 1\n")
	m.run("dpkg", "-r", "subflowd")
	n.Client.WantSnapshot(before)
	if m.exists("run/subflowd") || !m.exists("etc/subflowd/subflowd.toml") || m.exists("usr/sbin/subflowd") {
		t.Errorf("a removal leaves the configuration, and that alone:\n%s", m.run("sh", "-c", "ls -d /run/subflowd /etc/subflowd/* /usr/sbin/subflowd; true"))
	}
	m.remove("etc/subflowd/conf.d/bad.toml")
	m.run("dpkg", "-P", "subflowd")
	if m.exists("etc/subflowd") || m.exists("etc/systemd/system/multi-user.target.wants/subflowd.service") {
		t.Error("a purge leaves something in /etc")
	}
}

// TestRPM does the same with the rpm, which starts nothing by itself.
func TestRPM(t *testing.T) {
	t.Parallel()
	lab.Need(t, lab.Root, "systemd-nspawn", "rpm")
	old, next := one(t, "*-"+older+"-1.*.rpm"), one(t, "*-"+newer+"-1.*.rpm")
	n := lab.TwoSubnets(t)
	m := boot(n)
	before := n.Client.Settled()
	n.Server.Listen(n.ServerAddr + serverPort)

	// No rpm database here knows systemd.
	m.run("rpm", "-i", "--nodeps", m.take(old))
	m.is("ActiveState", "inactive")
	m.is("UnitFileState", "enabled")
	m.run("systemctl", "start", "subflowd")
	m.complete(n, "subflow")
	checkUpgrade(m, n, "rpm", "-U", "--nodeps", m.take(next))
	checkBoot(m, n, before)
	// rpm 4.20 and newer run scripts in an empty network namespace, where they are told to.
	m.run("unshare", "--net", "rpm", "-e", "subflowd")
	n.Client.WantSnapshot(before)
	if m.exists("run/subflowd") || m.exists("usr/sbin/subflowd") || m.exists("etc/systemd/system/multi-user.target.wants/subflowd.service") {
		t.Error("the rpm leaves something")
	}
}

// complete waits until both links are paths.
func (m *machine) complete(n *lab.Net, flags string) {
	m.t.Helper()
	lab.Eventually(m.t, soon, "both links are paths", func() error { return n.CheckUplinks(flags, n.A, n.B) })
}

func checkUnit(m *machine) {
	t := m.t
	t.Helper()
	for name, want := range map[string]string{"Type": "notify", "UnitFileState": "enabled", "NRestarts": "0"} {
		if found := m.property(name); found != want {
			t.Errorf("%s is %q, wanted %q", name, found, want)
		}
	}
	if s := m.property("StatusText"); s != "links that are paths: 2 (eth0, eth1), endpoints: 2" {
		t.Errorf("status: %q", s)
	}
	if s := m.property("Before"); !strings.Contains(s, "network-online.target") {
		t.Errorf("it starts before %q", s)
	}
	if s := m.run("systemd-analyze", "verify", "subflowd.service"); strings.Contains(s, "subflowd") {
		t.Errorf("systemd-analyze verify:\n%s", s)
	}
	s := m.run("systemd-analyze", "security", "--no-pager", "subflowd.service")
	found := regexp.MustCompile(`exposure level for subflowd.service: ([0-9.]+)`).FindStringSubmatch(s)
	if found == nil {
		t.Fatalf("systemd-analyze security:\n%s", s)
	}
	if level, err := strconv.ParseFloat(found[1], 64); err != nil || level > 1.5 {
		t.Errorf("exposure level %s:\n%s", found[1], s)
	}
	if s := m.run("subflowctl", "status"); !strings.HasPrefix(s, "converged") {
		t.Errorf("subflowctl status:\n%s", s)
	}
	// Anybody may ask, and nobody but root and the group may change.
	m.run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "subflowctl", "status")
	if out, err := m.try("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "subflowctl", "reload"); err == nil || !strings.Contains(err.Error(), "exit status 4") {
		t.Errorf("reload by nobody: %v\n%s", err, out)
	}
}

// checkPrivileges looks at the process: a user of its own with one capability.
func checkPrivileges(m *machine) {
	m.t.Helper()
	status := m.run("cat", "/proc/"+m.mainPID()+"/status")
	field := func(name string) string {
		_, rest, _ := strings.Cut(status, "\n"+name+":")
		line, _, _ := strings.Cut(rest, "\n")
		return strings.Join(strings.Fields(line), " ")
	}
	const netAdmin = "0000000000001000"
	for name, want := range map[string]string{
		"CapEff": netAdmin, "CapPrm": netAdmin, "CapBnd": netAdmin, "CapAmb": netAdmin, "NoNewPrivs": "1", "Seccomp": "2",
	} {
		if found := field(name); found != want {
			m.t.Errorf("%s is %s, wanted %s", name, found, want)
		}
	}
	if uid := field("Uid"); strings.HasPrefix(uid, "0 ") {
		m.t.Errorf("it runs as %s", uid)
	}
}

// checkReload has a good and a bad configuration read by a running daemon.
func checkReload(m *machine, n *lab.Net) {
	m.t.Helper()
	pid := m.mainPID()
	const file = "etc/subflowd/conf.d/10-test.toml"
	m.write(file, "role = \"both\"\n")
	m.run("systemctl", "reload", "subflowd")
	m.complete(n, "signal subflow")
	m.write(file, "rolle = 1\n")
	m.run("systemctl", "reload", "subflowd")
	lab.Eventually(m.t, soon, "the mistake is reported", func() error {
		if s, err := m.try("subflowctl", "status"); err != nil || !strings.Contains(s, "rolle") {
			return fmt.Errorf("%w\n%s", err, s)
		}
		return nil
	})
	m.is("ActiveState", "active")
	m.remove(file)
	m.run("systemctl", "reload", "subflowd")
	m.complete(n, "subflow")
	m.is("ActiveState", "active")
	if now := m.mainPID(); now != pid {
		m.t.Errorf("a reload made process %s of %s", now, pid)
	}
}

// checkUpgrade installs another version under a connection that transfers.
func checkUpgrade(m *machine, n *lab.Net, command ...string) {
	m.t.Helper()
	pid := m.mainPID()
	c := n.Client.Dial(n.ServerAddr + serverPort)
	c.WantSubflows(n.A.Addr, n.B.Addr)
	up := c.StartUpload()
	state, events := n.Client.Settled(), n.Client.Monitor()
	m.run(command...)
	m.is("ActiveState", "active")
	if now := m.mainPID(); now == pid {
		m.t.Error("the old version still runs")
	}
	if s := m.run("subflowctl", "status"); !strings.HasPrefix(s, "converged") {
		m.t.Errorf("after the upgrade:\n%s", s)
	}
	// Neighbours are looked up as the transfer needs them.
	events.WantNone()
	n.Client.WantSnapshot(state)
	up.Stop(0)
	if err := c.CheckSubflows(n.A.Addr, n.B.Addr); err != nil {
		m.t.Error(err)
	}
	c.WantEcho(soon)
	c.Close()
}

const dropIn = "etc/systemd/system/subflowd.service.d/test.conf"

// configure overrides settings of the unit; "" takes the override back.
func (m *machine) configure(settings string) {
	m.t.Helper()
	if settings == "" {
		m.remove(dropIn)
	} else {
		m.write(dropIn, "[Service]\n"+settings)
	}
	m.run("systemctl", "daemon-reload")
}

// watchdog is what systemd says of a service that did not answer in time.
const watchdog = "Watchdog timeout"

// checkHang has the process stand still, and then its loop alone, as bugs would: systemd notices, and starts another that
// changes nothing.
func checkHang(m *machine, n *lab.Net) {
	m.t.Helper()
	m.configure("WatchdogSec=4s\n")
	m.run("systemctl", "restart", "subflowd")
	m.complete(n, "subflow")
	pid := m.mainPID()
	lab.Never(m.t, 6*time.Second, "the daemon answers the watchdog more often than it reads everything", func() error {
		if now := m.mainPID(); now != pid {
			return fmt.Errorf("process %s (was %s)", now, pid)
		}
		return nil
	})
	m.hangs(n, func(pid string) { m.run("kill", "-STOP", pid) })
	m.hangs(n, func(pid string) {
		// In every round the loop, and nothing else, looks whether more was announced: it waits there for ten minutes.
		m.run("systemd-run", "--collect", "--unit=hang", "strace", "-f", "-o", "/dev/null", "-p", pid, "-e", "trace=ppoll",
			"-e", "inject=ppoll:delay_enter=600000000")
		lab.Eventually(m.t, soon, "the process is traced", func() error {
			if s := m.run("cat", "/proc/"+pid+"/status"); strings.Contains(s, "TracerPid:\t0\n") {
				return fmt.Errorf("%s", s)
			}
			return nil
		})
		n.Client.IP("link set eth1 alias hang")
		m.run("subflowctl", "status")
		lab.Eventually(m.t, soon, "the watchdog", func() error {
			if s := m.journal(); strings.Count(s, watchdog) < 2 {
				return fmt.Errorf("%s", s)
			}
			return nil
		})
		// No process ends before strace lets it go.
		_, _ = m.try("systemctl", "kill", "--signal=KILL", "hang")
	})
	m.configure("")
	m.run("systemctl", "restart", "subflowd")
}

// hangs waits until the process to which that was done is replaced.
func (m *machine) hangs(n *lab.Net, hang func(pid string)) {
	m.t.Helper()
	state, pid := n.Client.Settled(), m.mainPID()
	timeouts := strings.Count(m.journal(), watchdog)
	hang(pid)
	lab.Eventually(m.t, 2*soon, "the hung process is replaced", func() error {
		if now, active := m.mainPID(), m.property("ActiveState"); now == pid || now == "0" || active != "active" {
			return fmt.Errorf("process %s (was %s), %s", now, pid, active)
		}
		return nil
	})
	if s := m.journal(); strings.Count(s, watchdog) == timeouts {
		m.t.Errorf("it was not the watchdog:\n%s", s)
	}
	// Not by an exit status, which could be that of a wrong configuration: it is not tried again.
	if status := m.lastExit(); !strings.Contains(status, "ABRT") && !strings.Contains(status, "KILL") {
		m.t.Errorf("the hung process ended otherwise: %s", status)
	}
	n.Client.WantSnapshot(state)
}

// journal is all that it has of the daemon.
func (m *machine) journal() string {
	m.t.Helper()
	return m.run("journalctl", "-u", "subflowd", "--no-pager", "-o", "cat")
}

// lastExit is what the journal has of the last end of the main process.
func (m *machine) lastExit() string {
	m.t.Helper()
	last := "no exit"
	for line := range strings.Lines(m.journal()) {
		if strings.Contains(line, "Main process exited") {
			last = strings.TrimSpace(line)
		}
	}
	return last
}

// checkBoot has the daemon started by a boot: what waits for the network finds the paths.
func checkBoot(m *machine, n *lab.Net, before string) {
	m.t.Helper()
	// The namespace outlives the machine, unlike that of a host: it is given back as it was.
	m.run("systemctl", "stop", "subflowd")
	m.run("subflowd", "--cleanup")
	n.Client.WantSnapshot(before)
	m.write("etc/systemd/system/waits.service", `[Unit]
Wants=network-online.target
After=network-online.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'ip mptcp endpoint >/etc/endpoints'
`)
	m.run("systemctl", "add-wants", "multi-user.target", "waits.service")
	m.reboot()
	m.complete(n, "subflow")
	m.is("ActiveState", "active")
	if s := m.run("cat", "/etc/endpoints"); !strings.Contains(s, n.A.Addr) || !strings.Contains(s, n.B.Addr) {
		m.t.Errorf("at network-online.target the endpoints were: %q", s)
	}
}

// checkKill ends the process at once.
func checkKill(m *machine, n *lab.Net) {
	m.t.Helper()
	state, pid := n.Client.Settled(), m.mainPID()
	m.run("kill", "-KILL", pid)
	lab.Eventually(m.t, soon, "the killed process is replaced", func() error {
		if now, active := m.mainPID(), m.property("ActiveState"); now == pid || now == "0" || active != "active" {
			return fmt.Errorf("process %s (was %s), %s", now, pid, active)
		}
		return nil
	})
	n.Client.WantSnapshot(state)
}

// checkCrashLoop has every start fail: the service is left down before long, and what it made stays.
func checkCrashLoop(m *machine, n *lab.Net) {
	m.t.Helper()
	state := n.Client.Settled()
	m.configure("ExecStart=\nExecStart=/bin/sh -c 'exit 1'\nRestartSec=10ms\n")
	_, _ = m.try("systemctl", "restart", "subflowd")
	m.is("ActiveState", "failed")
	if s := m.property("NRestarts"); s == "0" {
		m.t.Error("a start that failed was not tried again")
	}
	if s := m.journal(); !strings.Contains(s, "Start request repeated too quickly") {
		m.t.Errorf("it was not the limit of starts:\n%s", s)
	}
	m.configure("")
	m.run("systemctl", "reset-failed", "subflowd")

	// What no other start mends is not tried again.
	const file = "etc/subflowd/conf.d/10-test.toml"
	m.write(file, "rolle = 1\n")
	if out, err := m.try("systemctl", "start", "subflowd"); err == nil {
		m.t.Errorf("a start with a wrong configuration succeeds: %s", out)
	}
	m.is("ActiveState", "failed")
	for name, want := range map[string]string{"NRestarts": "0", "ExecMainStatus": "2"} {
		if found := m.property(name); found != want {
			m.t.Errorf("with a wrong configuration %s is %q, wanted %q", name, found, want)
		}
	}
	m.remove(file)
	m.run("systemctl", "start", "subflowd")
	n.Client.WantSnapshot(state)
}

// checkCleanupByHand takes all back as root, and starts the unit after it, whose user is another.
func checkCleanupByHand(m *machine, n *lab.Net, before string) {
	m.t.Helper()
	if out, err := m.try("subflowd", "--cleanup"); err == nil {
		m.t.Errorf("a cleanup beside the daemon succeeds: %s", out)
	}
	m.run("systemctl", "stop", "subflowd")
	m.run("subflowd", "--cleanup")
	n.Client.WantSnapshot(before)
	m.run("systemctl", "start", "subflowd")
	m.complete(n, "subflow")
	if s := m.run("subflowctl", "status"); !strings.HasPrefix(s, "converged") {
		m.t.Errorf("after a cleanup by hand:\n%s", s)
	}
}
