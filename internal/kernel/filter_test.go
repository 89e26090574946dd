package kernel

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

func TestRouteFilter(t *testing.T) {
	t.Parallel()
	k := &Kernel{}
	k.options.Store(&testOptions)
	var raw []bpf.RawInstruction
	const own = 0x01020304
	for _, i := range eventFilter(k.watchedProtocols(), own) {
		raw = append(raw, bpf.RawInstruction{Op: i.Code, Jt: i.Jt, Jf: i.Jf, K: i.K})
	}
	program, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("the program has unknown instructions")
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	const bgp = 186
	for _, c := range []struct {
		name string
		typ  uint16
		b    []byte
		pass bool
	}{
		{"bgp prefix", unix.RTM_NEWROUTE, rtmsg(2, 24, 254, bgp, 0), false},
		{"bgp prefix gone", unix.RTM_DELROUTE, rtmsg(10, 48, 254, bgp, 0), false},
		{"bgp default", unix.RTM_NEWROUTE, rtmsg(2, 0, 254, bgp, 0), true},
		{"bgp half", unix.RTM_DELROUTE, rtmsg(2, 1, 254, bgp, 0), true},
		{"bgp half of the global space", unix.RTM_NEWROUTE, rtmsg(10, 4, 254, bgp, 0), true},
		{"bgp prefix, short", unix.RTM_NEWROUTE, rtmsg(2, 5, 254, bgp, 0), false},
		{"ours in a path table", unix.RTM_DELROUTE, rtmsg(2, 24, 252, 77, 0), true},
		{"dhcp", unix.RTM_NEWROUTE, rtmsg(2, 32, 254, 16, 0), true},
		{"ra", unix.RTM_NEWROUTE, rtmsg(10, 64, 254, 9, 0), true},
		{"redirect", unix.RTM_NEWROUTE, rtmsg(10, 128, 254, 1, 0), true},
		{"static", unix.RTM_NEWROUTE, rtmsg(2, 16, 7, 4, 0), true},
		{"table local", unix.RTM_NEWROUTE, rtmsg(2, 32, 255, 2, 0), false},
		{"zebra's nexthop", unix.RTM_NEWNEXTHOP, []byte{2, 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0}, false},
		{"static nexthop", unix.RTM_DELNEXTHOP, []byte{2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0}, true},
		{"link", unix.RTM_NEWLINK, make([]byte, ifinfoLen), true},
		{"address", unix.RTM_DELADDR, make([]byte, ifaddrmsgLen+8), true},
		{"rule", unix.RTM_DELRULE, make([]byte, fibRuleLen), true},
	} {
		for port, pass := range map[uint32]bool{0: c.pass, 0x04030201: c.pass, own: false} {
			var m messages
			m.begin(c.typ, 0, 0)
			m.b = append(m.b, c.b...)
			m.end()
			binary.NativeEndian.PutUint32(m.b[offPort:], port)
			n, err := vm.Run(m.b)
			if err != nil || (n > 0) != pass {
				t.Errorf("%s by port %#x: passes %v, want %v (%v)", c.name, port, n > 0, pass, err)
			}
		}
	}
}
