// Package system builds the packages of this project, looks into them, and installs them on a host with systemd as its
// first process: a container over the running system's own files, in network namespaces of its own.
package system

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

// Versions of the packages that are built: installed first, and upgraded to.
const (
	older = "0.1"
	newer = "0.2"
)

// kinds are all packages that are built.
const kinds = "deb rpm archlinux apk"

// epoch is the time that is written into them.
const epoch = "1700000000"

// arch is this machine's name in ARCHS.
var arch = map[string]string{"arm": "armv7"}[runtime.GOARCH]

var built struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	if arch == "" {
		arch = runtime.GOARCH
	}
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// packages builds all kinds for this machine, once, and returns the directory with them.
func packages(t *testing.T) string {
	t.Helper()
	lab.Need(t, "make", "git")
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "subflowd-packages"); built.err != nil {
			return
		}
		if built.err = os.Chmod(built.dir, 0o755); built.err != nil {
			return
		}
		if built.err = buildPackages("../..", built.dir, older, kinds, arch); built.err == nil {
			built.err = buildPackages("../..", built.dir, newer, "deb rpm", arch)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.dir
}

// buildPackages is `make packages` for a source tree, with everything that it writes in dir.
func buildPackages(tree, dir, version, formats, archs string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "make", "-s", "packages", "BIN="+dir+"/bin", "DIST="+dir, "PKG_VERSION="+version,
		"FORMATS="+formats, "ARCHS="+archs, "VERSION="+version, "COMMIT=0123456789")
	cmd.Dir = tree
	cmd.WaitDelay = time.Second
	for _, e := range os.Environ() {
		// Under sudo make would build as the caller, who may not write here.
		if !strings.HasPrefix(e, "SUDO_") && !strings.HasPrefix(e, "MAKE") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, "SOURCE_DATE_EPOCH="+epoch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make packages: %w\n%s", err, out)
	}
	return nil
}

// one is the only file that the pattern matches.
func one(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(packages(t), pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %v, %v", pattern, found, err)
	}
	return found[0]
}

// run runs a program and returns all that it prints.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
