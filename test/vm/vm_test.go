package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCore: the packages of the file core exist, and the tests that it leaves out.
func TestCore(t *testing.T) {
	t.Parallel()
	suites, err := readCore("core")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range suites {
		files, _ := filepath.Glob(filepath.Join("../..", s.pkg, "*_test.go"))
		var text strings.Builder
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			text.Write(b)
		}
		if len(files) == 0 {
			t.Errorf("%s has no tests", s.pkg)
		}
		for _, name := range s.out {
			if !strings.Contains(text.String(), "\nfunc "+name+"(t *testing.T) {") {
				t.Errorf("%s has no test %s", s.pkg, name)
			}
		}
	}
	for _, bad := range []string{"", "# nothing\n", "a b\n", "a\n\tTestX\n", "\tTestX reason\n", "a\n  TestX reason\n"} {
		file := filepath.Join(t.TempDir(), "core")
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := readCore(file); err == nil {
			t.Errorf("%q is taken for %v", bad, s)
		}
	}
}

func TestLoadOrder(t *testing.T) {
	t.Parallel()
	k := &kernel{modules: t.TempDir()}
	const deps = "kernel/net/9p/9pnet.ko:\nkernel/fs/9p/9p.ko: kernel/fs/netfs.ko kernel/net/9p/9pnet.ko\nkernel/fs/netfs.ko:\n" +
		"kernel/drivers/virtio-pci.ko.xz: kernel/drivers/virtio.ko.xz kernel/drivers/ring.ko.xz\n"
	if err := os.WriteFile(filepath.Join(k.modules, "modules.dep"), []byte(deps), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := k.loadOrder([]string{"virtio_pci", "built_in", "9p"})
	want := []string{
		"kernel/drivers/ring.ko.xz", "kernel/drivers/virtio.ko.xz", "kernel/drivers/virtio-pci.ko.xz",
		"kernel/net/9p/9pnet.ko", "kernel/fs/netfs.ko", "kernel/fs/9p/9p.ko",
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("want:  %q\nfound: %q, %v", want, got, err)
	}
}

func TestArchive(t *testing.T) {
	t.Parallel()
	var a archive
	a.directory("proc")
	a.file("init", []byte("12345"))
	got := string(a.end())
	const zeros = "00000000"
	head := func(inode, mode, size, name int) string {
		return fmt.Sprintf("070701%08x%08x%s%s%08x%s%08x%s%08x%s", inode, mode, zeros, zeros, 1, zeros, size, strings.Repeat(zeros, 4), name, zeros)
	}
	want := head(1, 0o040755, 0, 5) + "proc\x00\x00" + head(2, 0o100755, 5, 5) + "init\x00\x00" + "12345\x00\x00\x00" + head(3, 0, 0, 11) + "TRAILER!!!\x00"
	if got = strings.TrimRight(got, "\x00") + "\x00"; got != want {
		t.Errorf("want:  %q\nfound: %q", want, got)
	}
}

// TestReport: what the guest tells becomes a line for each test; a skip, a panic and a machine that vanishes are failures.
func TestReport(t *testing.T) {
	t.Parallel()
	convert, err := output(t.Context(), ".", "go", "tool", "-n", "test2json")
	if err != nil {
		t.Fatal(err)
	}
	const good = "o\x16=== RUN   TestA\no    a_test.go:3: words\no\x16--- PASS: TestA (0.00s)\no\x16PASS\nepkg/a 0\n"
	for _, c := range []struct {
		name, told string
		ok         bool
		want       []string
	}{
		{"all well", "h6.1\nbpkg/a\n" + good + "d\n", true, []string{"ok ", "pkg/a TestA\n", "in all               1 passed   0 failed"}},
		{"not done", "h6.1\nbpkg/a\n" + good, false, []string{"pkg/a TestA\n", "1 passed   0 failed"}},
		{
			"failure", "h6.1\nbpkg/a\no\x16=== RUN   TestA\no    a_test.go:3: bad\no\x16--- FAIL: TestA (0.00s)\no\x16FAIL\nepkg/a 1\nd\n", false,
			[]string{"FAIL ", "pkg/a TestA\n    a_test.go:3: bad\n", "0 passed   1 failed"},
		},
		{
			"skip of a part", "h6.1\nbpkg/a\no\x16=== RUN   TestA\no\x16=== RUN   TestA/x\no\x16--- PASS: TestA (0.00s)\no\x16    --- SKIP: TestA/x (0.00s)\no\x16PASS\nepkg/a 0\nd\n", false,
			[]string{"skipped, though root: TestA/x\n", "0 passed   1 failed"},
		},
		{
			"panic", "h6.1\nbpkg/a\no\x16=== RUN   TestA\nopanic: oh\nepkg/a 2\nd\n", false,
			[]string{"panic: oh\n", "0 passed   1 failed"},
		},
		{"machine gone", "h6.1\nbpkg/a\no\x16=== RUN   TestA\n", false, []string{"pkg/a TestA\n", "0 passed   1 failed"}},
		{"nothing to run", "h6.1\nbpkg/a\nopanic: before main\nepkg/a 2\nd\n", false, []string{"panic: before main\n", "0 passed   1 failed"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			r := newReport(&out, strings.TrimSpace(convert))
			guest, host := net.Pipe()
			go func() {
				_, _ = io.WriteString(guest, c.told)
				guest.Close()
			}()
			up := false
			if err := r.read(host, func() { up = true }); err != nil || !up {
				t.Fatalf("read: %v, up %v", err, up)
			}
			if ok := r.summary("6.1", "tcg", 0); ok != c.ok {
				t.Errorf("all is well: %v", ok)
			}
			for _, w := range c.want {
				if !strings.Contains(out.String(), w) {
					t.Errorf("no %q in:\n%s", w, out.String())
				}
			}
		})
	}
}
