package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/subflowd/subflowd/test/lab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// program builds the program where every host can run it, or takes it from SUBFLOW_BIN, as lab.Bin does.
func program(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "pm_nl_ctl")
	if built := os.Getenv("SUBFLOW_BIN"); built != "" {
		if out, err := exec.Command("cp", filepath.Join(built, "pm_nl_ctl"), path).CombinedOutput(); err != nil {
			t.Fatalf("cp: %v: %s", err, out)
		}
		return path
	}
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	return path
}

// TestAgainstIP: what this program does, ip(8) sees, and the other way round.
func TestAgainstIP(t *testing.T) {
	l := lab.New(t)
	h := l.Host("host")
	exe := program(t, l.TempDir())
	ctl := func(line string) string {
		out, _ := h.Try(exe, strings.Fields(line)...)
		return strings.TrimRight(out, "\n")
	}
	ip := func(command string) string { return strings.TrimSpace(h.IP(command)) }
	h.IP("addr add 10.0.1.4/32 dev lo") // the kernel itself listens on an endpoint with a port
	for _, c := range []struct{ do, ctl, ip string }{
		{"add 10.0.1.1", "id 1 flags  10.0.1.1", "10.0.1.1 id 1"},
		{"add 10.0.1.2 flags subflow dev lo", "id 2 flags subflow dev lo 10.0.1.2", "10.0.1.2 id 2 subflow dev lo"},
		{"add flags signal,backup id 9 2001:db8::3", "id 9 flags signal,backup 2001:db8::3", "2001:db8::3 id 9 signal backup"},
		{"add 10.0.1.4 flags signal port 5001", "id 10 flags signal 10.0.1.4 5001", "10.0.1.4 id 10 signal port 5001"},
		{"set 10.0.1.2 flags backup", "id 2 flags subflow,backup dev lo 10.0.1.2", "10.0.1.2 id 2 subflow backup dev lo"},
		{"set id 2 flags nobackup,fullmesh", "id 2 flags subflow,fullmesh dev lo 10.0.1.2", "10.0.1.2 id 2 subflow fullmesh dev lo"},
	} {
		if out := ctl(c.do); out != "" {
			t.Errorf("%s: printed %q", c.do, out)
		}
		id := strings.Fields(c.ctl)[1]
		if got := ctl("get " + id); got != c.ctl {
			t.Errorf("after %s: get %s prints %q, wanted %q", c.do, id, got, c.ctl)
		}
		got := strings.Join(strings.Fields(ip("mptcp endpoint show id "+id)), " ")
		if !same(got, c.ip) {
			t.Errorf("after %s: ip says %q, wanted %q", c.do, got, c.ip)
		}
	}
	if got := len(strings.Split(ctl("dump"), "\n")); got != 4 {
		t.Errorf("dump has %d lines, wanted 4:\n%s", got, ctl("dump"))
	}
	ctl("del 2")
	if got := ctl("get 2"); got != "" {
		t.Errorf("after del 2: get 2 prints %q", got)
	}
	ctl("limits 3 4")
	if got := ctl("limits"); got != "accept 3\nsubflows 4" {
		t.Errorf("limits prints %q", got)
	}
	if got := ip("mptcp limits"); got != "add_addr_accepted 3 subflows 4" {
		t.Errorf("ip says limits %q", got)
	}
	ctl("flush")
	if got := ctl("dump") + ip("mptcp endpoint"); got != "" {
		t.Errorf("after flush there is %q", got)
	}
	h.IP("mptcp endpoint add 10.0.1.7 id 77 signal")
	if got := ctl("dump"); got != "id 77 flags signal 10.0.1.7" {
		t.Errorf("after ip's add: dump prints %q", got)
	}
}

// same compares words in any order: versions of ip(8) differ in it.
func same(a, b string) bool {
	x, y := strings.Fields(a), strings.Fields(b)
	if len(x) != len(y) {
		return false
	}
	for _, w := range x {
		if !strings.Contains(" "+b+" ", " "+w+" ") {
			return false
		}
	}
	return true
}

func TestRefusals(t *testing.T) {
	l := lab.New(t)
	h := l.Host("host")
	exe := program(t, l.TempDir())
	h.Run(exe, "add", "10.0.1.1")
	for _, c := range []struct{ args, want string }{
		{"add 10.0.1.1", "netlink error -17 |too many addresses or duplicate one"}, // the second in 6.1
		{"get 9", "netlink ext ack msg: address not found"},
		{"limits 999 1", "netlink error -22 "},
		{"add 10.0.1", "add [flags"},
		{"add 10.0.1.2 flags sideways", "unknown flag sideways"},
		{"del 0", "needs an address"},
		{"ann 10.0.0.1 id 1 token 5", "ann: only the path manager of the kernel is spoken to"},
		{"rem id 1 token 5", "rem: only the path manager of the kernel is spoken to"},
		{"csf lip 10.0.0.1 lid 1 rip 10.0.0.2 rport 5 token 5", "csf: only the path manager of the kernel is spoken to"},
		{"dsf lip 10.0.0.1 lport 1 rip 10.0.0.2 rport 5 token 5", "dsf: only the path manager of the kernel is spoken to"},
		{"set 10.0.1.1 flags backup token 5", "token 5: only the path manager of the kernel is spoken to"},
		{"dump token 5", "dump token: only the path manager of the kernel is spoken to"},
		{"listen 10.0.0.99 5001", "cannot assign requested address"},
		{"accept 10.0.0.99", "listen|accept ADDRESS PORT"},
		{"", "limits [ACCEPTED SUBFLOWS]"},
	} {
		_, err := h.Try(exe, strings.Fields(c.args)...)
		if err == nil || !slices.ContainsFunc(strings.Split(c.want, "|"), func(w string) bool { return strings.Contains(err.Error(), w) }) {
			t.Errorf("%s: %v, wanted %q", c.args, err, c.want)
		}
	}
}
