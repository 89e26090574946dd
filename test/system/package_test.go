package system

import (
	"bytes"
	"debug/elf"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/subflowd/subflowd/test/lab"
)

// files are in every package, but for what no init system of it reads.
var files = []string{
	"/etc/subflowd/subflowd.toml", "/usr/bin/subflowctl",
	"/usr/lib/NetworkManager/conf.d/90-subflowd.conf",
	"/usr/share/bash-completion/completions/subflowctl", "/usr/share/fish/vendor_completions.d/subflowctl.fish",
	"/usr/share/man/man1/subflowctl.1.gz", "/usr/share/man/man5/subflowd.toml.5.gz", "/usr/share/man/man8/subflowd.8.gz",
}

// systemdFiles are in those of distributions with systemd.
var systemdFiles = []string{
	"/usr/lib/systemd/networkd.conf.d/90-subflowd.conf", "/usr/lib/systemd/system-preset/90-subflowd.preset",
	"/usr/lib/systemd/system/subflowd.service", "/usr/lib/sysusers.d/subflowd.conf",
}

func TestContents(t *testing.T) {
	t.Parallel()
	lab.Need(t, "dpkg-deb", "rpm", "tar", "zstd")
	for _, c := range []struct {
		name  string
		list  string
		wants []string
	}{
		{
			"deb", run(t, "dpkg-deb", "-c", one(t, "*_"+older+"-1_*.deb")),
			append(systemdFiles, "/usr/sbin/subflowd", "/usr/share/zsh/vendor-completions/_subflowctl", "/usr/share/doc/subflowd/copyright"),
		},
		{
			"rpm", run(t, "rpm", "-qlp", one(t, "*-"+older+"-1.*.rpm")),
			append(systemdFiles, "/usr/sbin/subflowd", "/usr/share/zsh/site-functions/_subflowctl", "/usr/share/licenses/subflowd/LICENSE"),
		},
		{
			"arch", run(t, "tar", "-tf", one(t, "*.pkg.tar.zst")),
			append(systemdFiles, "/usr/bin/subflowd", "/usr/share/zsh/site-functions/_subflowctl", "/usr/share/licenses/subflowd/LICENSE"),
		},
		{"apk", run(t, "tar", "-tzf", one(t, "*.apk")), []string{"/usr/sbin/subflowd", "/etc/init.d/subflowd"}},
	} {
		for _, want := range append(files, c.wants...) {
			if !strings.Contains(c.list, want[1:]+"\n") {
				t.Errorf("%s: %s is missing:\n%s", c.name, want, c.list)
			}
		}
	}
	if s := run(t, "rpm", "-qp", "--configfiles", one(t, "*-"+older+"-1.*.rpm")); s != "/etc/subflowd/subflowd.toml\n" {
		t.Errorf("configuration of the rpm: %q", s)
	}
	if s := run(t, "dpkg-deb", "-I", one(t, "*_"+older+"-1_*.deb"), "conffiles"); s != "/etc/subflowd/subflowd.toml\n" {
		t.Errorf("configuration of the deb: %q", s)
	}
	if s := run(t, "tar", "-xOf", one(t, "*.pkg.tar.zst"), "usr/lib/systemd/system/subflowd.service"); !strings.Contains(s, "ExecStart=/usr/bin/subflowd\n") {
		t.Errorf("the unit of Arch starts another file:\n%s", s)
	}
}

func TestLintian(t *testing.T) {
	t.Parallel()
	lab.Need(t, "lintian")
	if s := run(t, "lintian", "--allow-root", "--fail-on", "error,warning", one(t, "*_"+older+"-1_*.deb")); s != "" {
		t.Errorf("lintian:\n%s", s)
	}
}

// TestPrograms looks at what is installed: no libraries, no symbols, and small.
func TestPrograms(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"subflowd", "subflowctl"} {
		checkProgram(t, filepath.Join(packages(t), "bin", arch, name))
	}
}

func checkProgram(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if size := info.Size(); strings.HasSuffix(path, "subflowd") && size >= 10<<20 {
		t.Errorf("%s has %d bytes", path, size)
	}
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Errorf("%s needs a dynamic linker", path)
		}
	}
	if f.Section(".symtab") != nil || f.Section(".debug_info") != nil {
		t.Errorf("%s is not stripped", path)
	}
}

// TestReproducible builds the same sources in another directory: every package is the same, byte for byte.
func TestReproducible(t *testing.T) {
	t.Parallel()
	sameAgain(t, packages(t), arch, 4)
}

// sameAgain builds packages a second time, from a copy of the sources, and compares them with the first ones.
func sameAgain(t *testing.T, first, archs string, n int) {
	t.Helper()
	tree, second := t.TempDir(), t.TempDir()
	for _, part := range []string{"Makefile", "LICENSE", "go.mod", "go.sum", "cmd", "docs", "internal", "packaging", "pkg", "systemd"} {
		run(t, "cp", "-a", "../../"+part, tree)
	}
	if err := buildPackages(tree, second, older, kinds, archs); err != nil {
		t.Fatal(err)
	}
	compared := 0
	err := filepath.WalkDir(second, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(second, path)
		if err != nil {
			return err
		}
		if !strings.Contains(name, older) {
			return nil
		}
		compared++
		if !same(t, path, filepath.Join(first, name)) {
			t.Errorf("%s differs", name)
		}
		return nil
	})
	if err != nil || compared != n {
		t.Errorf("compared %d packages, wanted %d: %v", compared, n, err)
	}
}

func same(t *testing.T, a, b string) bool {
	t.Helper()
	x, err := os.Open(a)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	y, err := os.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	defer y.Close()
	p, q := make([]byte, 1<<16), make([]byte, 1<<16)
	for {
		n, err := io.ReadFull(x, p)
		m, err2 := io.ReadFull(y, q)
		if !bytes.Equal(p[:n], q[:m]) {
			return false
		}
		if err != nil || err2 != nil {
			return n == m
		}
	}
}

// TestCompletions has each shell read its own.
func TestCompletions(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(packages(t), "bin", "completions")
	for _, shell := range []string{"bash", "zsh", "fish"} {
		lab.Need(t, shell)
		if out, err := exec.Command(shell, "-n", filepath.Join(dir, shell)).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", shell, err, out)
		}
	}
}

// TestScripts lets the shell that runs them read the maintainer scripts.
func TestScripts(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{"deb/p*", "*/*.sh", "apk/*.openrc"} {
		found, err := filepath.Glob("../../packaging/" + pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v", pattern, found, err)
		}
		for _, f := range found {
			run(t, "sh", "-n", f)
		}
	}
}
