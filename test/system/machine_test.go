package system

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/test/lab"
)

// soon is how long a test waits for what takes moments: the machine may be busy.
const soon = 30 * time.Second

// machine is a host of the lab on which systemd runs as the first process, over the files of the running system. What it
// writes is lost with it.
type machine struct {
	t       *testing.T
	host    *lab.Host
	root    string
	name    string
	console string   // the file with what nspawn and systemd print
	groups  []string // control groups
	unified string
	nspawn  *exec.Cmd
	ended   chan struct{} // closed when nspawn is
	lead    int           // its first process, as seen from outside
}

// boot starts systemd on the host, with control groups as they are here.
func boot(n *lab.Net) *machine {
	n.T.Helper()
	return bootWith(n, "")
}

// bootWith is boot with the unified hierarchy of control groups ("1") or without ("0").
func bootWith(n *lab.Net, unified string) *machine {
	t := n.T.(*testing.T)
	t.Helper()
	lab.Need(t, lab.Root, "systemd-nspawn", "nsenter", "dpkg", "rpm")
	m := &machine{t: t, host: n.Client, name: "sfl-" + n.ID, root: overlay(n.Lab), console: filepath.Join(n.TempDir(), "console")}
	m.strip()
	m.groups, m.unified = cgroups(t, m.name)
	if os.Getenv(rootEnv) != "" && unified == "" {
		unified = "1" // newer ones know nothing else
	}
	if unified != "" {
		m.unified = unified
	}
	t.Cleanup(m.end)
	m.start()
	return m
}

// end ends the machine: its first process takes all others with it, and nspawn tidies up.
func (m *machine) end() {
	if m.ended != nil {
		select {
		case <-m.ended:
		default:
			if m.lead != 0 {
				_ = syscall.Kill(m.lead, syscall.SIGKILL)
			} else {
				_ = m.nspawn.Process.Kill()
			}
		}
		<-m.ended
	}
	_ = os.Remove("/run/systemd/nspawn/propagate/" + m.name)
	for _, g := range m.groups {
		removeGroups(g)
	}
}

// start runs nspawn, and waits until systemd is up.
func (m *machine) start() {
	m.t.Helper()
	const script = `for c; do echo $$ >"$c/cgroup.procs" || exit 1; done
exec systemd-nspawn -D "$ROOT" --machine="$NAME" --register=no --keep-unit --network-namespace-path="/run/netns/$NS" \
	--capability=all --resolv-conf=off --timezone=off --link-journal=no --console=pipe \
	-b systemd.unit=multi-user.target systemd.log_target=journal systemd.show_status=0`
	// Not by the lab's host: its threads do not see the control groups.
	cmd := exec.Command("sh", append([]string{"-c", script, "sh"}, m.groups...)...)
	console, err := os.Create(m.console)
	if err != nil {
		m.t.Fatal(err)
	}
	defer console.Close()
	cmd.Stdout, cmd.Stderr = console, console
	cmd.Env = append(os.Environ(), "ROOT="+m.root, "NAME="+m.name, "NS="+m.host.NS,
		"SYSTEMD_NSPAWN_API_VFS_WRITABLE=network", "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY="+m.unified)
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	m.nspawn, m.ended, m.lead = cmd, ended, 0
	lab.Eventually(m.t, soon, "systemd starts", func() (err error) {
		select {
		case <-ended:
			text, _ := os.ReadFile(m.console)
			m.t.Fatalf("systemd-nspawn ended: %s", text)
		default:
		}
		m.lead, err = firstProcess(cmd.Process.Pid)
		return err
	})
	lab.Eventually(m.t, 2*soon, "systemd is up", func() error {
		out, err := m.try("systemctl", "is-system-running")
		if s := strings.TrimSpace(out); s == "running" || s == "degraded" {
			return nil
		}
		return fmt.Errorf("%s: %w", out, err)
	})
	// nspawn mounts an identity of its own over the kernel's, which the daemon sees in a /proc of its own; a host has one.
	m.run("umount", "/proc/sys/kernel/random/boot_id")
}

// reboot ends the machine in order, and starts it again.
func (m *machine) reboot() {
	m.t.Helper()
	_, _ = m.try("systemctl", "reboot")
	select {
	case <-m.ended:
	case <-time.After(2 * soon):
		m.t.Fatal("the machine does not shut down")
	}
	m.start()
}

// rootEnv names the root of another Debian than this one, with another systemd: docs/managers.md has how one is made.
const rootEnv = "SUBFLOW_ROOT"

// overlay is a writable view of this system's root, or of the other one, in memory.
func overlay(l *lab.Lab) string {
	l.T.Helper()
	dir := l.TempDir()
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1g,mode=755")
	for _, d := range []string{"upper", "work", "root"} {
		if err == nil {
			err = os.Mkdir(filepath.Join(dir, d), 0o755)
		}
	}
	root := filepath.Join(dir, "root")
	l.T.Cleanup(func() {
		_ = unix.Unmount(root, unix.MNT_DETACH)
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	})
	if err == nil {
		lower := cmp.Or(os.Getenv(rootEnv), "/")
		err = unix.Mount("overlay", root, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", lower, dir, dir))
	}
	if err != nil {
		l.T.Fatalf("mount an overlay over the root: %v", err)
	}
	return root
}

// strip takes from the copy what this system would start, and what keeps packages from starting theirs.
func (m *machine) strip() {
	m.t.Helper()
	for _, pattern := range []string{
		"etc/systemd/system/*.wants/*", "etc/systemd/system/*.requires/*", "etc/rc?.d/*", "etc/fstab", "etc/crypttab",
		"etc/systemd/system/subflowd.service*", "usr/sbin/policy-rc.d", "etc/resolv.conf", "etc/subflowd",
	} {
		found, err := filepath.Glob(filepath.Join(m.root, pattern))
		if err != nil {
			m.t.Fatal(err)
		}
		for _, f := range found {
			if err := os.RemoveAll(f); err != nil {
				m.t.Fatal(err)
			}
		}
	}
	m.write("etc/machine-id", "0123456789abcdef0123456789abcdef\n")
	m.write("etc/hostname", "subflowd-test\n")
	if err := os.MkdirAll(filepath.Join(m.root, "var/log/journal"), 0o755); err != nil {
		m.t.Fatal(err)
	}
}

// cgroups makes a group of this test's own in each hierarchy that systemd uses here, so that machines beside each other
// do not share nspawn's, and says which kind the machine sees.
func cgroups(t *testing.T, name string) (groups []string, unified string) {
	t.Helper()
	parents, unified := []string{"/sys/fs/cgroup"}, "1"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err != nil {
		parents, unified = []string{"/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"}, "0"
	}
	for _, p := range parents {
		g := filepath.Join(p, name)
		err := os.Mkdir(g, 0o755)
		if errors.Is(err, os.ErrNotExist) {
			continue // legacy without the hybrid
		}
		if err != nil {
			t.Fatalf("make control group: %v", err)
		}
		groups = append(groups, g)
	}
	return groups, unified
}

// removeGroups removes a control group and those below it, which hold no process any more.
func removeGroups(dir string) {
	var all []string
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			all = append(all, path)
		}
		return nil
	})
	for _, d := range slices.Backward(all) {
		_ = os.Remove(d)
	}
}

// firstProcess is the child of nspawn that is systemd.
func firstProcess(nspawn int) (int, error) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", nspawn))
	if err != nil {
		return 0, err
	}
	for _, list := range lists {
		b, err := os.ReadFile(list)
		if err != nil {
			continue
		}
		for _, pid := range strings.Fields(string(b)) {
			if comm, err := os.ReadFile("/proc/" + pid + "/comm"); err == nil && string(comm) == "systemd\n" {
				return strconv.Atoi(pid)
			}
		}
	}
	return 0, errors.New("no systemd below nspawn")
}

// write makes a file of the machine; the path is relative.
func (m *machine) write(path, text string) {
	m.t.Helper()
	full := filepath.Join(m.root, path)
	err := os.MkdirAll(filepath.Dir(full), 0o755)
	if err == nil {
		err = os.WriteFile(full, []byte(text), 0o644)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// remove deletes a file of the machine.
func (m *machine) remove(path string) {
	m.t.Helper()
	if err := os.RemoveAll(filepath.Join(m.root, path)); err != nil {
		m.t.Fatal(err)
	}
}

// exists tells whether there is such a file, as the machine sees it: its /run is in no directory here.
func (m *machine) exists(path string) bool {
	m.t.Helper()
	_, err := m.try("test", "-e", "/"+path)
	return err == nil
}

// take copies a package to the machine and returns its path there.
func (m *machine) take(file string) string {
	m.t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		m.t.Fatal(err)
	}
	path := "/var/tmp/" + filepath.Base(file)
	m.write(path, string(b))
	return path
}

// try runs a program on the machine and returns all that it prints.
func (m *machine) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*soon)
	defer cancel()
	enter := []string{
		"-t", strconv.Itoa(m.lead), "-m", "-u", "-i", "-n", "-p", "-C", "--", "env", "-i",
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TERM=dumb", "LC_ALL=C", "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0", "DEBIAN_FRONTEND=noninteractive",
	}
	out, err := exec.CommandContext(ctx, "nsenter", append(enter, args...)...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// run is try for what has to succeed.
func (m *machine) run(args ...string) string {
	m.t.Helper()
	out, err := m.try(args...)
	if err != nil {
		m.log()
		m.t.Fatal(err)
	}
	return out
}

// property is one of the daemon's unit.
func (m *machine) property(name string) string {
	m.t.Helper()
	return strings.TrimSpace(m.run("systemctl", "show", "--value", "-p", name, "subflowd.service"))
}

// mainPID is the daemon's process as the machine numbers it.
func (m *machine) mainPID() string { return m.property("MainPID") }

// is waits until a property has a value.
func (m *machine) is(name, want string) {
	m.t.Helper()
	defer func() {
		if m.t.Failed() {
			m.log()
		}
	}()
	lab.Eventually(m.t, soon, name+"="+want, func() error {
		if found := m.property(name); found != want {
			return fmt.Errorf("%s is %q, wanted %q", name, found, want)
		}
		return nil
	})
}

// log prints the daemon's journal.
func (m *machine) log() {
	m.t.Helper()
	out, err := m.try("journalctl", "-u", "subflowd", "--no-pager", "-o", "short-monotonic", "-n", "80")
	m.t.Logf("journal: %v\n%s", err, out)
}
