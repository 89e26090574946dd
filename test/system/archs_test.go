//go:build soak

package system

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/subflowd/subflowd/test/lab"
)

// TestEveryArchitecture builds what a release has, in two directories: every program is static, stripped and small, and
// every package is the same, byte for byte.
func TestEveryArchitecture(t *testing.T) {
	lab.Need(t, "make", "git")
	const archs = "amd64 arm64 armv7 riscv64 mipsle"
	dir := t.TempDir()
	if err := buildPackages("../..", dir, older, kinds, archs); err != nil {
		t.Fatal(err)
	}
	for _, a := range strings.Fields(archs) {
		for _, name := range []string{"subflowd", "subflowctl"} {
			checkProgram(t, filepath.Join(dir, "bin", a, name))
		}
	}
	n := 0
	for pattern, want := range map[string]int{"*.deb": 5, "*.rpm": 5, "*.pkg.tar.zst": 3, "*.apk": 4} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(found) != want {
			t.Errorf("%s: %d packages, wanted %d: %v, %v", pattern, len(found), want, found, err)
		}
		n += len(found)
	}
	sameAgain(t, dir, archs, n)
}
