package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/test/lab"
)

func TestPrintReference(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run([]string{"--print-reference"}, &out, &errs); code != exitDone || errs.Len() > 0 || !bytes.Equal(out.Bytes(), config.Reference()) {
		t.Errorf("exit %d, %d bytes, stderr %q", code, out.Len(), &errs)
	}
	file := filepath.Join(t.TempDir(), "subflowd.toml")
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if code := run([]string{"--config", file, "--check-config"}, &out, &errs); code != exitDone {
		t.Errorf("the reference is no configuration: exit %d, %s", code, &errs)
	}
}

func TestEveryMistakeIsPrinted(t *testing.T) {
	file := filepath.Join(t.TempDir(), "subflowd.toml")
	if err := os.WriteFile(file, []byte("rolle = 1\nresync = \"fast\"\n[routing]\npriority = 40000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if code := run([]string{"--config", file, "--check-config"}, &out, &errs); code != exitUsage || out.Len() > 0 {
		t.Errorf("exit %d, stdout %q", code, &out)
	}
	for _, line := range []int{1, 2, 4} {
		if !strings.Contains(errs.String(), fmt.Sprintf("%s:%d:", file, line)) {
			t.Errorf("the mistake in line %d is not named:\n%s", line, &errs)
		}
	}
}

// TestServiceManager hears of the start, of a reload and of a reload that was refused.
func TestServiceManager(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	socket := filepath.Join(n.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	next := func() string {
		t.Helper()
		b := make([]byte, 4096)
		_ = c.SetReadDeadline(time.Now().Add(soon))
		k, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		if s := string(b[:k]); !strings.HasPrefix(s, "STATUS=") && !strings.HasPrefix(s, "WATCHDOG=") {
			return s
		}
		return ""
	}
	want := func(pattern string) {
		t.Helper()
		s := ""
		for s == "" {
			s = next()
		}
		if ok, _ := regexp.MatchString("^"+pattern+"$", s); !ok {
			t.Fatalf("the service manager heard %q, wanted %s", s, pattern)
		}
	}
	file := filepath.Join(n.Client.StateDir(), "subflowd.toml")
	write := func(toml string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(toml), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	cmd := n.Client.Command(lab.Bin(t, "subflowd"), "--config", file, "--state-dir", n.Client.StateDir())
	cmd.Env = append(slices.Clone(os.Environ()), "NOTIFY_SOCKET="+socket)
	p := n.Client.StartCommand(cmd)
	want("READY=1")
	if r := n.Client.Ctl("status"); r.Code != exitDone {
		t.Errorf("a daemon that is ready does not answer: exit %d\n%s", r.Code, r.Stderr)
	}
	for _, toml := range []string{"role = \"server\"\n", "rolle = 1\n", ""} {
		write(toml)
		if r := n.Client.Ctl("reload"); r.Code != exitDone && toml != "rolle = 1\n" {
			t.Errorf("reload: exit %d\n%s%s", r.Code, r.Stdout, r.Stderr)
		}
		want(`RELOADING=1\nMONOTONIC_USEC=[0-9]+`)
		want("READY=1")
	}
	if code := p.Stop(); code != exitDone {
		t.Errorf("exit %d", code)
	}
	want("STOPPING=1")
}
