package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/subflowd/subflowd/test/vm/task"
)

// memory of the machine in MiB: what the tests write stays in it.
const memory = 2048

// upWithin is how long a machine with kvm may take for its first word. Virtual machines may offer a kvm that does
// not get a kernel up; without kvm it takes 5 s on an idle machine.
const upWithin = 30 * time.Second

var errNotUp = errors.New("the machine did not get up")

// boot runs the plan on a machine and returns how its processor was made.
func boot(ctx context.Context, s settings, k *kernel, plan *task.Plan, r *report) (accel string, err error) {
	dir, err := os.MkdirTemp("", "subflowd-vm-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	guest := filepath.Join(dir, "guest")
	if _, err := output(ctx, s.root, "env", "CGO_ENABLED=0", "go", "build", "-ldflags=-s -w", "-o", guest, "./test/vm/guest"); err != nil {
		return "", err
	}
	env := plan.Env
	for _, accel = range accels(s.accel) {
		plan.Env = env
		if accel == "tcg" {
			plan.Env = append(plan.Env, fmt.Sprintf("SUBFLOW_PATIENCE=%g", s.patience))
		}
		if err = writeImage(filepath.Join(dir, "initrd"), guest, k, plan); err != nil {
			return accel, err
		}
		if err = machine(ctx, dir, accel, k, r); !errors.Is(err, errNotUp) {
			return accel, err
		}
		fmt.Printf("%s: %v\n", accel, err)
	}
	return accel, err
}

func accels(want string) []string {
	if want != "auto" {
		return []string{want}
	}
	if f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err == nil {
		f.Close()
		return []string{"kvm", "tcg"}
	}
	return []string{"tcg"}
}

// machine runs qemu to its end. Neither it nor anything of it is left.
func machine(whole context.Context, dir, accel string, k *kernel, r *report) error {
	ctx, kill := context.WithCancel(whole)
	defer kill()
	console, socket := filepath.Join(dir, "console"), filepath.Join(dir, accel)
	// Not its standard output: with nothing to read from, that stops the guest's driver.
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	defer l.Close()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-no-user-config", "-M", "q35", "-accel", accel, "-cpu", "max",
		"-smp", "2", "-m", fmt.Sprint(memory), "-nic", "none", "-display", "none", "-monitor", "none", "-no-reboot",
		"-kernel", k.image, "-initrd", filepath.Join(dir, "initrd"),
		"-append", "console=ttyS0 quiet panic=-1 mitigations=off",
		"-serial", "file:"+console,
		"-chardev", "socket,id=results,path="+socket,
		"-device", "virtio-serial-pci", "-device", "virtserialport,chardev=results",
		"-virtfs", "local,path=/,mount_tag=hostroot,security_model=none,readonly=on,multidevs=remap")
	var complaints strings.Builder
	cmd.Stderr = &complaints
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start qemu: %w", err)
	}
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		l.Close()
		ended <- err
	}()
	var up atomic.Bool
	if accel == "kvm" {
		late := time.AfterFunc(upWithin, func() {
			if !up.Load() {
				kill()
			}
		})
		defer late.Stop()
	}
	var readErr error
	if results, err := l.Accept(); err == nil {
		readErr = r.read(results, func() { up.Store(true) })
		results.Close()
	}
	if r.finished || readErr != nil {
		// It turns itself off, unless the guest cannot.
		time.AfterFunc(10*time.Second, kill)
	}
	waitErr := <-ended
	switch {
	case r.finished:
		return nil
	case readErr != nil:
		return readErr
	case whole.Err() != nil:
		return context.Cause(whole)
	case accel == "kvm" && !up.Load():
		return fmt.Errorf("%w within %v: %v%s", errNotUp, upWithin, waitErr, complaints.String())
	}
	text, _ := os.ReadFile(console)
	return fmt.Errorf("the machine ended before its work was done (qemu: %v%s); its console:\n%s", waitErr, complaints.String(), tail(text))
}

// tail is the end of what a console printed.
func tail(b []byte) []byte {
	const n = 8000
	return b[max(0, len(b)-n):]
}

// read takes what the guest tells until it is done, or the machine is gone.
func (r *report) read(in io.Reader, up func()) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return r.abandon()
		}
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			continue
		}
		switch kind, rest := line[0], line[1:]; kind {
		case task.Hello:
			up()
		case task.Begin:
			err = r.begin(rest)
		case task.Output:
			err = r.line(rest)
		case task.End:
			err = r.end(rest)
		case task.Failed:
			err = fmt.Errorf("in the guest: %s", rest)
		case task.Done:
			r.finished = true
			return nil
		}
		if err != nil {
			return errors.Join(err, r.abandon())
		}
	}
}
