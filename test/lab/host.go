package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// IP runs ip(8) commands in the namespace, each a string without quotes: h.IP("addr add 10.1.1.2/24 dev eth0"). Several
// are run as one batch, which is faster. It returns the output and ends the test when a command fails.
func (h *Host) IP(commands ...string) string {
	h.Lab.T.Helper()
	out, err := h.TryIP(commands...)
	if err != nil {
		h.Lab.T.Fatal(err)
	}
	return out
}

// TryIP is IP with an error in place of the end of the test.
func (h *Host) TryIP(commands ...string) (string, error) {
	plain := true
	for _, c := range commands {
		plain = plain && !strings.HasPrefix(c, "-") // a batch takes no options on its lines
	}
	if len(commands) == 1 || !plain {
		all := ""
		for _, c := range commands {
			out, err := h.Try("ip", strings.Fields(c)...)
			all += out
			if err != nil {
				return all, err
			}
		}
		return all, nil
	}
	cmd := h.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	out, err := h.output(cmd)
	if err != nil {
		err = fmt.Errorf("%w\n\tbatch: %s", err, strings.Join(commands, "\n\t       "))
	}
	return out, err
}

// JSON decodes what an ip command prints with -j, such as h.JSON(&v, "route show table all").
func (h *Host) JSON(v any, command string) {
	h.Lab.T.Helper()
	out := h.IP("-j " + command)
	if strings.TrimSpace(out) == "" {
		out = "[]"
	}
	if err := json.Unmarshal([]byte(out), v); err != nil {
		h.Lab.T.Fatalf("[%s] ip -j %s: %v: %s", h.Name, command, err, out)
	}
}

// Run runs a program in the namespace, returns its output and ends the test when it fails.
func (h *Host) Run(name string, args ...string) string {
	h.Lab.T.Helper()
	out, err := h.Try(name, args...)
	if err != nil {
		h.Lab.T.Fatal(err)
	}
	return out
}

// Try runs a program in the namespace and returns its standard output; the error holds its standard error and wraps
// *exec.ExitError.
func (h *Host) Try(name string, args ...string) (string, error) {
	return h.output(h.Command(name, args...))
}

// Command prepares a program for TryCommand and StartCommand; a test may set its environment and so on first.
func (h *Host) Command(name string, args ...string) *exec.Cmd {
	if p, err := lookTool(name); err == nil {
		name = p
	}
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	// A grandchild that keeps the pipe open must not hold the test up.
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// begin starts the program in the namespace, whichever thread calls.
func (h *Host) begin(cmd *exec.Cmd) error {
	var err error
	h.spawn.call(func() { err = cmd.Start() })
	return err
}

func (h *Host) output(cmd *exec.Cmd) (string, error) {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := h.begin(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		err = fmt.Errorf("[%s] %s: %w: %s", h.Name, commandLine(cmd), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), err
}

func commandLine(cmd *exec.Cmd) string {
	name := cmd.Args[0]
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		name = name[i+1:]
	}
	return strings.Join(append([]string{name}, cmd.Args[1:]...), " ")
}

// sysctlPath turns net.ipv4.conf.eth0.rp_filter into a path; a name with a slash is a path below /proc/sys already, for
// links with a dot in their name.
func sysctlPath(name string) string {
	if !strings.Contains(name, "/") {
		name = strings.ReplaceAll(name, ".", "/")
	}
	return "/proc/sys/" + name
}

// Sysctl sets pairs of name and value in the namespace: h.Sysctl("net.ipv4.ip_forward", "1").
func (h *Host) Sysctl(pairs ...string) {
	h.Lab.T.Helper()
	h.Do(func() {
		h.Lab.T.Helper()
		for i := 0; i+1 < len(pairs); i += 2 {
			// /proc/sys/net shows the namespace of the thread that opens a file.
			if err := os.WriteFile(sysctlPath(pairs[i]), []byte(pairs[i+1]), 0); err != nil {
				h.Lab.T.Fatalf("[%s] sysctl %s=%s: %v", h.Name, pairs[i], pairs[i+1], err)
			}
		}
	})
}

// GetSysctl reads one sysctl of the namespace.
func (h *Host) GetSysctl(name string) string {
	h.Lab.T.Helper()
	var b []byte
	h.Do(func() {
		var err error
		if b, err = os.ReadFile(sysctlPath(name)); err != nil {
			h.Lab.T.Fatalf("[%s] sysctl %s: %v", h.Name, name, err)
		}
	})
	return strings.TrimSpace(string(b))
}

// Counter reads one counter of the namespace by nstat's name: TcpExtIPReversePathFilter, MPTcpExtMPJoinSynTx.
func (h *Host) Counter(name string) uint64 {
	h.Lab.T.Helper()
	var b []byte
	h.Do(func() {
		for _, file := range []string{"netstat", "snmp"} {
			part, _ := os.ReadFile("/proc/thread-self/net/" + file)
			b = append(b, part...)
		}
	})
	lines := strings.Split(string(b), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		for k := 1; k < len(names) && k < len(values); k++ {
			if strings.TrimSuffix(names[0], ":")+names[k] == name {
				var v uint64
				fmt.Sscan(values[k], &v)
				return v
			}
		}
	}
	h.Lab.T.Fatalf("[%s] no counter %s", h.Name, name)
	return 0
}

// LinkBytes returns what the link has sent and received since it was made, in bytes.
func (h *Host) LinkBytes(dev string) (tx, rx uint64) {
	h.Lab.T.Helper()
	var v []struct {
		Stats64 struct {
			TX struct{ Bytes uint64 }
			RX struct{ Bytes uint64 }
		}
	}
	h.JSON(&v, "-s link show dev "+dev)
	return v[0].Stats64.TX.Bytes, v[0].Stats64.RX.Bytes
}

// Ping sends one echo request, from an address or a device when from is not empty, and waits at most two seconds.
func (h *Host) Ping(dst, from string) error {
	args := []string{"-n", "-c1", "-W2"}
	if from != "" {
		args = append(args, "-I", from)
	}
	_, err := h.Try("ping", append(args, dst)...)
	return err
}

// Ifindex returns the index of a link.
func (h *Host) Ifindex(dev string) int {
	h.Lab.T.Helper()
	var v []struct{ Ifindex int }
	h.JSON(&v, "link show dev "+dev)
	return v[0].Ifindex
}
