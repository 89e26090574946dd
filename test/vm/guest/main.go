// Command guest is the first process of the machine that test/vm boots: it puts the host's files, read-only below a layer
// in memory, in the place of its own, runs the tests, tells their results by a virtio port, and turns the machine off.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/test/vm/task"
)

const (
	planFile = "/plan"
	again    = "tasks" // the argument of the process that PID 1 starts
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == again {
		if err := work(os.Args[2]); err != nil {
			tell(task.Failed, err.Error())
		}
		return
	}
	if err := first(); err != nil {
		fmt.Println("guest:", err)
	}
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// first prepares the machine, and buries the dead until the process that does the work has ended.
func first() error {
	text, err := os.ReadFile(planFile)
	if err != nil {
		return err
	}
	var plan task.Plan
	if err := json.Unmarshal(text, &plan); err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	if err := moveIn(plan.Keep); err != nil {
		return err
	}
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=dumb", "LC_ALL=C"}
	p, err := os.StartProcess("/proc/self/exe", []string{"guest", again, string(text)},
		&os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}, Env: env})
	if err != nil {
		return err
	}
	for {
		pid, err := unix.Wait4(-1, nil, 0, nil)
		if pid == p.Pid || err == unix.ECHILD {
			return nil
		}
	}
}

// moveIn makes the host's root, with what a running system mounts over it, the root of this machine. What is to be kept
// stays where the host has it.
func moveIn(keep []string) error {
	for _, m := range []struct{ what, where, data string }{
		{"proc", "/proc", ""}, {"sysfs", "/sys", ""}, {"devtmpfs", "/dev", ""},
	} {
		if err := mount(m.what, m.where, m.data); err != nil {
			return err
		}
	}
	loadOwn()
	if err := mount("9p", "/host", "trans=virtio,version=9p2000.L,msize=262144,cache=loose"); err != nil {
		return err
	}
	if err := mount("tmpfs", "/layer", ""); err != nil {
		return err
	}
	for _, d := range []string{"/layer/upper", "/layer/work"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	if err := mount("overlay", "/root", "lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work"); err != nil {
		return err
	}
	for _, d := range []string{"/proc", "/sys", "/dev"} {
		if err := unix.Mount(d, "/root"+d, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s: %w", d, err)
		}
	}
	if err := unix.Chdir("/root"); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	held, err := hold(keep)
	if err != nil {
		return err
	}
	for _, m := range []struct{ what, where, data string }{
		{"tmpfs", "/run", "mode=755"},
		{"tmpfs", "/tmp", "mode=1777"},
		{"devpts", "/dev/pts", "mode=620,ptmxmode=666"},
		{"tmpfs", "/dev/shm", "mode=1777"},
		{"cgroup2", "/sys/fs/cgroup", ""},
	} {
		if err := mount(m.what, m.where, m.data); err != nil {
			return err
		}
	}
	if err := putBack(held); err != nil {
		return err
	}
	// What udev would make; wg-quick reads /dev/fd/63.
	for name, target := range map[string]string{"fd": "fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"} {
		if err := os.Symlink("/proc/self/"+target, "/dev/"+name); err != nil {
			return err
		}
	}
	return nil
}

// hold binds directories to a second place, by which it returns them.
func hold(dirs []string) (map[string]string, error) {
	held := map[string]string{}
	for i, dir := range dirs {
		at := fmt.Sprintf("/.kept%d", i)
		if err := os.Mkdir(at, 0o755); err != nil {
			return nil, err
		}
		if err := unix.Mount(dir, at, "", unix.MS_BIND, ""); err != nil {
			return nil, fmt.Errorf("bind %s: %w", dir, err)
		}
		held[at] = dir
	}
	return held, nil
}

func putBack(held map[string]string) error {
	for at, dir := range held {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(at, dir, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s: %w", dir, err)
		}
		if err := os.Remove(at); err != nil {
			return err
		}
	}
	return nil
}

func mount(kind, where, data string) error {
	_ = os.MkdirAll(where, 0o755)
	flags := uintptr(0)
	source := kind
	if kind == "9p" {
		flags, source = unix.MS_RDONLY, "hostroot"
	}
	if err := unix.Mount(source, where, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s at %s: %w", kind, where, err)
	}
	return nil
}

// loadOwn loads the modules that lead to the host's files, in the order of their names. One that the kernel has
// built in, or already, is no failure: a mount tells.
func loadOwn() {
	files, _ := filepath.Glob("/modules/*")
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		const compressedFile = 4 // MODULE_INIT_COMPRESSED_FILE (linux/module.h)
		flags := 0
		if filepath.Ext(file) != ".ko" {
			flags = compressedFile
		}
		_ = unix.FinitModule(int(f.Fd()), "", flags)
		f.Close()
	}
}

// work runs all tasks, one after the other.
func work(text string) error {
	var plan task.Plan
	if err := json.Unmarshal([]byte(text), &plan); err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	tell(task.Hello, unix.ByteSliceToString(u.Release[:]))
	dir := filepath.Join("/lib/modules", plan.Release)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("link the modules: %w", err)
	}
	if _, err := os.Stat(dir); err != nil {
		if err := os.Symlink(plan.Modules, dir); err != nil {
			return fmt.Errorf("link the modules: %w", err)
		}
	}
	for _, args := range append([][]string{{"ip", "link", "set", "lo", "up"}}, loads(plan.Load)...) {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w: %s", args, err, out)
		}
	}
	// Once a test has used the kernel's tunnels, each new namespace would begin with ten links of theirs, and the numbers of
	// links and tables that later tests name would be others.
	if err := os.WriteFile("/proc/sys/net/core/fb_tunnels_only_for_init_net", []byte("1\n"), 0); err != nil {
		return fmt.Errorf("keep tunnels out of namespaces: %w", err)
	}
	for _, t := range plan.Tasks {
		tell(task.Begin, t.Name)
		tell(task.End, t.Name, run(t, plan.Env))
	}
	tell(task.Done)
	return nil
}

func loads(names []string) (all [][]string) {
	for _, n := range names {
		all = append(all, []string{"modprobe", n})
	}
	return all
}

// run runs one task and returns its exit status, -1 after a signal. Whatever it leaves behind is killed.
func run(t task.Task, env []string) int {
	cmd := exec.Command(t.Args[0], t.Args[1:]...)
	cmd.Dir, cmd.Env = t.Dir, append(os.Environ(), env...)
	cmd.Stdout = &lines{}
	cmd.Stderr = cmd.Stdout
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		tell(task.Output, err.Error())
		return -1
	}
	late := time.AfterFunc(time.Duration(t.Seconds)*time.Second, func() {
		tell(task.Output, fmt.Sprintf("killed after %d s", t.Seconds))
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
	})
	defer late.Stop()
	_ = cmd.Wait()
	_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
	return cmd.ProcessState.ExitCode()
}
