package cli

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the texts that are found to testdata")

// golden compares a text with a file of testdata, and wants it 80 columns wide.
func golden(t *testing.T, file, found string) {
	t.Helper()
	same(t, file, found)
	narrow(t, found)
}

// same is golden for a text of any width.
func same(t *testing.T, file, found string) {
	t.Helper()
	file = filepath.Join("testdata", file)
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(found), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), found); diff != "" {
		t.Errorf("%s (- wanted, + found; -update writes it)\n%s", file, diff)
	}
}

// narrow wants every line to keep to the width, and nothing in it for the terminal.
func narrow(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if n := displayed(line); n > width || strings.Contains(line, "\x1b") {
			t.Errorf("%d columns: %q", n, line)
		}
	}
}
