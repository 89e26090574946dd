package kernel

import (
	"strings"
	"testing"
)

// FuzzDecodeUevent: what comes out stands in the text, without its line's end.
func FuzzDecodeUevent(f *testing.F) {
	f.Add([]byte("DEVTYPE=wlan\nINTERFACE=wlan0\nIFINDEX=3\n"))
	f.Add([]byte("INTERFACE=eth0\nIFINDEX=2"))
	f.Add([]byte("=\n\n=IFINDEX"))
	f.Fuzz(func(t *testing.T, b []byte) {
		devType, ifindex := decodeUevent(b)
		for key, value := range map[string]string{"DEVTYPE=": devType, "IFINDEX=": ifindex} {
			if value != "" && !strings.Contains(string(b), key+value) || strings.ContainsAny(value, "\n") {
				t.Errorf("%s%q", key, value)
			}
		}
	})
}

func FuzzSocketInode(f *testing.F) {
	f.Add("socket:[123]")
	f.Add("socket:[4294967296]")
	f.Add("socket:[]")
	f.Add("anon_inode:[eventpoll]")
	f.Fuzz(func(t *testing.T, link string) {
		if n, ok := socketInode(link); ok && !strings.HasSuffix(strings.TrimLeft(link[len("socket:["):], "0"), strings.TrimLeft(itoa(int(n)), "0")+"]") {
			t.Errorf("%q is %d", link, n)
		}
	})
}
