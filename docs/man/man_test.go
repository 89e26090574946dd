package main

import (
	"bytes"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/subflowd/subflowd/internal/cli"
	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/test/lab"
)

// plain is a page as a reader searches it.
func plain(t *testing.T, name string) string {
	t.Helper()
	s, err := page(name, "1.2.3", "2026-01-02")
	if err != nil {
		t.Fatal(err)
	}
	if i := strings.Index(s, "@"); i >= 0 {
		t.Fatalf("%s: not replaced: %.40q", name, s[i:])
	}
	return strings.NewReplacer(`\-`, "-", `\fB`, "", `\fI`, "", `\fR`, "", `\(aq`, "'", `\&`, "").Replace(s)
}

var option = regexp.MustCompile(`--[a-z][a-z-]+`)

// defined are the options that a page has an entry for.
func defined(s string) []string {
	var all []string
	for _, item := range strings.Split(s, "\n.TP\n")[1:] {
		first, _, _ := strings.Cut(item, "\n")
		all = append(all, option.FindAllString(first, -1)...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func TestDaemonOptions(t *testing.T) {
	out, err := exec.Command(lab.Bin(t, "subflowd"), "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"--help"}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "  --") {
			want = append(want, option.FindString(line))
		}
	}
	slices.Sort(want)
	if d := cmp.Diff(want, defined(plain(t, "subflowd.8"))); d != "" {
		t.Errorf("subflowd.8 and subflowd --help (-help +page):\n%s", d)
	}
}

func ctlHelp(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := cli.Main(append([]string{"help"}, args...), strings.NewReader(""), &out, &errs, nil); code != cli.ExitDone {
		t.Fatalf("help %v: exit %d, %s", args, code, &errs)
	}
	return out.String()
}

func TestEveryCommandAndItsFlags(t *testing.T) {
	s := plain(t, "subflowctl.1")
	_, list, _ := strings.Cut(ctlHelp(t), "Available Commands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	commands := strings.Split(list, "\n")
	if len(commands) < 5 {
		t.Fatalf("commands: %q", commands)
	}
	for _, line := range commands {
		name := strings.Fields(line)[0]
		_, section, ok := strings.Cut(s, "\n.SS "+name)
		if !ok {
			t.Errorf("%s has no section", name)
			continue
		}
		section, _, _ = strings.Cut(section, "\n.S")
		var want []string
		own, _, _ := strings.Cut(ctlHelp(t, name), "Global Flags:")
		_, own, _ = strings.Cut(own, "\nFlags:")
		for _, flag := range option.FindAllString(own, -1) {
			if flag != "--help" {
				want = append(want, flag)
			}
		}
		for _, flag := range want {
			if !slices.Contains(defined(section), flag) {
				t.Errorf("%s: %s is missing:\n%s", name, flag, section)
			}
		}
	}
	for _, flag := range []string{"--socket", "--output"} {
		if !slices.Contains(defined(s), flag) {
			t.Errorf("%s is missing", flag)
		}
	}
}

func TestEveryKey(t *testing.T) {
	s := plain(t, "subflowd.toml.5")
	table := ""
	for line := range strings.Lines(string(config.Reference())) {
		line = strings.TrimSpace(line)
		if bare := strings.TrimPrefix(line, "#"); strings.HasPrefix(bare, "[") {
			table = strings.Trim(bare, "[]")
		}
		key, _, ok := strings.Cut(strings.TrimPrefix(line, "#"), " = ")
		if !ok || strings.Contains(key, " ") {
			continue
		}
		part := s
		switch table {
		case "":
		case "link":
			_, part, _ = strings.Cut(s, ".SH LINKS\n")
		default:
			_, part, _ = strings.Cut(s, ".SS ["+table+"]\n")
			part, _, _ = strings.Cut(part, "\n.S")
		}
		entry := regexp.MustCompile(`(?m)^\.T[PQ]\n(\.B )?` + key + `( = .*)?\n(\.TQ\n.*\n)*[^.]`)
		if !entry.MatchString(part) {
			t.Errorf("[%s] %s has no entry with a text", table, key)
		}
	}
}

// TestPagesAreWellFormed lets a formatter that is strict read them.
func TestPagesAreWellFormed(t *testing.T) {
	lab.Need(t, "mandoc")
	dir := t.TempDir()
	if err := write(dir, "1.2.3", "2026-01-02"); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		cmd := exec.Command("mandoc", "-T", "lint", "-W", "warning", name)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
}
