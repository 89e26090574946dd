package supervise

import (
	"strings"
	"testing"
)

// FuzzFilesOfProc: a user is a number, and no line of another hierarchy is kept.
func FuzzFilesOfProc(f *testing.F) {
	f.Add([]byte("Name:\tcat\nUid:\t0\t0\t0\t1000\nGid:\t0\t0\t0\t0\n"), []byte("3:net_cls,net_prio:/a\n1:cpu:/b\n0::/c\n"))
	f.Add([]byte("\nUid:\t1 2 3 99999999999999999999\n"), []byte("0::"))
	f.Add([]byte("\nUid:"), []byte("\n"))
	f.Fuzz(func(t *testing.T, status, groups []byte) {
		for _, name := range []string{"\nUid:", "\nGid:"} {
			if id := fileID(status, name); id != -1 && !strings.Contains(string(status), name) {
				t.Errorf("%q %q: %d", status, name, id)
			}
		}
		for line := range strings.Lines(groupOfSockets(groups)) {
			if !strings.HasPrefix(line, "0:") && !strings.Contains(line, "net_") || !strings.Contains(string(groups), line) {
				t.Errorf("%q: %q", groups, line)
			}
		}
	})
}
