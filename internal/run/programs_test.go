package run

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// TestPrograms has a /proc of its own: 100 became a program of run, 200 another
// one that has ended, and 300 is a number that was given away again.
func TestPrograms(t *testing.T) {
	proc := t.TempDir()
	add := func(pid, parent, group, session, started, seccomp int, cmdline string) {
		dir := filepath.Join(proc, strconv.Itoa(pid))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{
			"cmdline": cmdline,
			"stat":    fmt.Sprintf("%d (a) b (c) S %d %d %d 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 0\n", pid, parent, group, session, started),
			"status":  fmt.Sprintf("Name:\ta\nNoNewPrivs:\t1\nSeccomp:\t%d\nSeccomp_filters:\t1\n", seccomp),
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	const serves = "subflowctl\x00run-supervisor\x00serve\x00"
	add(10, 1, 10, 10, 1, 0, "sh\x00")
	for i, served := range []string{"100", "200", "300", "x"} {
		add(20+i, 1, 20, 20, 50, 0, serves+served+"\x00curl\x00")
	}
	add(30, 1, 30, 30, 50, 0, "subflowctl\x00run-supervisor\x00serve\x00") // of another release
	add(300, 10, 300, 10, 60, 2, "sandbox\x00")
	add(100, 10, 10, 10, 50, 2, "curl\x00")
	add(101, 100, 10, 10, 51, 2, "curl\x00")
	add(102, 101, 102, 102, 52, 2, "curl\x00")
	add(103, 101, 102, 102, 52, 0, "curl\x00")
	add(104, 1, 10, 10, 53, 2, "curl\x00")
	add(201, 1, 200, 10, 53, 2, "server\x00")
	add(202, 1, 202, 200, 53, 2, "server\x00")
	p := findPrograms(proc)
	for pid, want := range map[int]bool{
		10: false, 20: false, 100: true, 101: true, 102: true,
		103: false, // has no filter
		104: false, // an orphan in the shell's session and group
		201: true, 202: true,
		300: false, // younger than the supervisor
		999: false,
	} {
		if p.Has(pid) != want {
			t.Errorf("%d: wanted %t", pid, want)
		}
	}
	if findPrograms(t.TempDir()).Has(100) {
		t.Error("a program without a supervisor")
	}
}
