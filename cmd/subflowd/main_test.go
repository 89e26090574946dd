package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/subflowd/subflowd/test/lab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFlags(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.toml"), filepath.Join(dir, "bad.toml")
	for path, text := range map[string]string{good: "role = \"server\"\n", bad: "role = \"server\"\nrolle = 1\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		args   []string
		code   int
		stdout string // a part of it
		stderr string // a part of its only line; a mistake in a file has its excerpt too
	}{
		{[]string{"--help"}, exitDone, "Usage: subflowd", ""},
		{[]string{"-h"}, exitDone, "--check-config", ""},
		{[]string{"--version"}, exitDone, "subflowd ", ""},
		{[]string{"--verbose"}, exitUsage, "", "-verbose (try --help)"},
		{[]string{"start"}, exitUsage, "", `unexpected argument "start"`},
		{[]string{"--log-level", "loud"}, exitUsage, "", `unknown log level "loud": debug, info, warn or error`},
		{[]string{"--log-format=xml"}, exitUsage, "", `unknown log format "xml"`},
		{[]string{"--config"}, exitUsage, "", "flag needs an argument"},
		{[]string{"--config", ""}, exitUsage, "", "--config is empty"},
		{[]string{"--state-dir="}, exitUsage, "", "--state-dir is empty"},
		{[]string{"--once", "--cleanup"}, exitUsage, "", "only one of"},
		{[]string{"--config", filepath.Join(dir, "none.toml"), "--check-config"}, exitUsage, "", "none.toml: no such file"},
		{[]string{"--config", filepath.Join(dir, "none.toml"), "--once"}, exitUsage, "", "none.toml: no such file"},
		{[]string{"--config", dir, "--check-config"}, exitUsage, "", "is a directory"},
		{[]string{"--config", good, "--check-config"}, exitDone, "configuration is valid: " + good, ""},
		{[]string{"--config", bad, "--check-config"}, exitUsage, "", `bad.toml:2:1: unknown key "rolle"`},
		{[]string{"--config", bad}, exitUsage, "", `bad.toml:2:1: unknown key "rolle"`},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			var out, errs bytes.Buffer
			if code := run(c.args, &out, &errs); code != c.code {
				t.Errorf("exit %d, wanted %d", code, c.code)
			}
			if !strings.Contains(out.String(), c.stdout) || c.stdout == "" && out.Len() > 0 {
				t.Errorf("stdout: %q", out.String())
			}
			if !strings.Contains(errs.String(), c.stderr) || c.stderr == "" && errs.Len() > 0 || strings.Count(errs.String(), "\n") > 1 && !slices.Contains(c.args, bad) {
				t.Errorf("stderr: %q", errs.String())
			}
		})
	}
}

func TestStateDirectory(t *testing.T) {
	for _, c := range []struct{ env, arg, dir, socket string }{
		{"", "", "/run/subflowd", "/run/subflowd/control.sock"},
		{"/run/a:/run/b", "", "/run/a", "/run/a/control.sock"},
		{"/run/a", "/tmp/x", "/tmp/x", "/tmp/x/control.sock"},
	} {
		t.Setenv("RUNTIME_DIRECTORY", c.env)
		var args []string
		if c.arg != "" {
			args = []string{"--state-dir", c.arg}
		}
		f, err := parseFlags(args)
		if err != nil || f.stateDir != c.dir || f.socket != c.socket {
			t.Errorf("%+v: got %q, %q, %v", c, f.stateDir, f.socket, err)
		}
	}
}

func TestWithoutCapability(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	lab.Need(t, "unshare") // util-linux, which has setpriv too
	h := l.Host("client")
	bin := lab.Bin(t, "subflowd")
	// nobody can reach neither the cache nor the state directory.
	copied := filepath.Join(l.TempDir(), "subflowd")
	b, err := os.ReadFile(bin)
	if err == nil {
		err = os.WriteFile(copied, b, 0o755)
	}
	if err == nil {
		err = os.Chmod(filepath.Dir(copied), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"--once", "--cleanup", "--log-level=info"} {
		_, err := h.Try("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", copied, mode, "--state-dir", filepath.Dir(copied))
		if err == nil || !strings.Contains(err.Error(), "CAP_NET_ADMIN is missing") || !strings.Contains(err.Error(), "exit status 1") {
			t.Errorf("%s: %v", mode, err)
		}
	}
	// Root of a user namespace that does not own the network namespace.
	_, err = h.Try("unshare", "--user", "--map-root-user", copied, "--once", "--state-dir", l.TempDir())
	if err == nil || !strings.Contains(err.Error(), "CAP_NET_ADMIN is missing") {
		t.Errorf("in a user namespace: %v", err)
	}
	// What only reads needs no capability.
	if _, err := h.Try("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", copied, "--check-config"); err != nil {
		t.Error(err)
	}
}
