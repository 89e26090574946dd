package run

import (
	"strconv"
	"strings"
	"testing"
)

// FuzzDecodeStat: a name may look like the fields behind it.
func FuzzDecodeStat(f *testing.F) {
	f.Add("cat", 1, uint64(12345))
	f.Add(") S 7 7 7 (", 2, uint64(0))
	f.Add("a\nb", 3, uint64(1)<<63)
	f.Fuzz(func(t *testing.T, name string, parent int, started uint64) {
		decodeStat([]byte(name))
		text := "9 (" + name + ") S " + strconv.Itoa(parent) + " 5 6 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 " + strconv.FormatUint(started, 10) + " 0\n"
		if s, ok := decodeStat([]byte(text)); !ok || s != (process{parent, 5, 6, started}) {
			t.Errorf("%q: %+v %v", text, s, ok)
		}
	})
}

func FuzzServedBy(f *testing.F) {
	f.Add([]byte("subflowctl\x00" + Command + "\x00" + stageServe + "\x0042\x00"))
	f.Add([]byte("subflowctl\x00" + Command + "\x00" + stageServe + "\x00x"))
	f.Add([]byte("\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if pid, ok := servedBy(b); ok && !strings.Contains(string(b), "\x00"+stageServe+"\x00") {
			t.Errorf("%q: %d %v", b, pid, ok)
		}
	})
}
