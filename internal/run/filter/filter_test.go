package filter

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// call is a system call as struct seccomp_data has it.
type call struct {
	nr, arch uint32
	args     [6]uint64
}

func socket(nr, arch uint32, family, kind, protocol uint64) call {
	return call{nr: nr, arch: arch, args: [6]uint64{family, kind, protocol}}
}

// data is the struct of a little-endian machine as the interpreter of x/net
// reads it: words in network order, and still the low half of an argument first.
func (c call) data() []byte {
	b := binary.BigEndian.AppendUint32(nil, c.nr)
	b = binary.BigEndian.AppendUint32(b, c.arch)
	b = append(b, make([]byte, 8)...) // the instruction pointer
	for _, a := range c.args {
		b = binary.BigEndian.AppendUint32(b, uint32(a))
		b = binary.BigEndian.AppendUint32(b, uint32(a>>32))
	}
	return b
}

func raw(t testing.TB, goarch string) []bpf.RawInstruction {
	t.Helper()
	p, err := Program(goarch)
	if err != nil {
		t.Fatal(err)
	}
	var all []bpf.RawInstruction
	for _, i := range p {
		all = append(all, bpf.RawInstruction{Op: i.Code, Jt: i.Jt, Jf: i.Jf, K: i.K})
	}
	return all
}

func loaded(t testing.TB, goarch string) *bpf.VM {
	t.Helper()
	p, ok := bpf.Disassemble(raw(t, goarch))
	if !ok {
		t.Fatalf("%s: the program has unknown instructions", goarch)
	}
	vm, err := bpf.NewVM(p)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

// answer runs the program.
func answer(t interface{ Fatal(...any) }, vm *bpf.VM, c call) uint32 {
	n, err := vm.Run(c.data())
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

const (
	allow  = unix.SECCOMP_RET_ALLOW
	notify = unix.SECCOMP_RET_USER_NOTIF
	marked = unix.SECCOMP_RET_ERRNO | uint32(MarkErrno)
)

func TestCallsOfOneMachine(t *testing.T) {
	vm := loaded(t, "amd64")
	const x64, i386 = 0xc000003e, 0x40000003
	const nonblock, cloexec = 0x800, 0x80000
	for _, c := range []struct {
		name string
		call call
		want uint32
	}{
		{"IPv4", socket(41, x64, 2, 1, 0), notify},
		{"IPv4, TCP named", socket(41, x64, 2, 1, 6), notify},
		{"IPv6 with both flags", socket(41, x64, 10, 1|nonblock|cloexec, 6), notify},
		{"one flag", socket(41, x64, 10, 1|cloexec, 0), notify},
		{"upper halves are not looked at by the kernel either", socket(41, x64, 1<<32|2, 1<<40|1, 7<<32), notify},
		{"x32", socket(0x40000029, x64, 2, 1, 0), notify},
		{"i386", socket(359, i386, 2, 1, 0), notify},
		{"socketcall", socket(102, i386, 1, 0xffffd000, 0), allow},
		{"number of the other kind", socket(41, i386, 2, 1, 0), allow},
		{"number of the other kind", socket(359, x64, 2, 1, 0), allow},
		{"other architecture", socket(198, 0xc00000b7, 2, 1, 0), allow},
		{"UDP", socket(41, x64, 2, 2, 0), allow},
		{"raw", socket(41, x64, 2, 3, 6), allow},
		{"unknown flag", socket(41, x64, 2, 1|0x10, 0), allow},
		{"Unix", socket(41, x64, 1, 1, 0), allow},
		{"netlink", socket(41, x64, 16, 3, 0), allow},
		{"MPTCP already", socket(41, x64, 2, 1, 262), allow},
		{"SCTP", socket(41, x64, 2, 1, 132), allow},
		{"socketpair", socket(53, x64, 2, 1, 0), allow},
		{"connect", socket(42, x64, 2, 1, 0), allow},
		{"the mark", socket(41, x64, MarkFamily, 0, 0), marked},
	} {
		if found := answer(t, vm, c.call); found != c.want {
			t.Errorf("%s: %#x, wanted %#x", c.name, found, c.want)
		}
	}
}

// TestEveryMachine: the numbers are those of the kernel's tables, written down
// a second time.
func TestEveryMachine(t *testing.T) {
	for _, c := range []struct {
		goarch   string
		nr, arch uint32
		stream   uint64
		flags    uint64
	}{
		{"amd64", 41, 0xc000003e, 1, 0x80800},
		{"amd64", 359, 0x40000003, 1, 0x80800},
		{"386", 359, 0x40000003, 1, 0x80800},
		{"386", 41, 0xc000003e, 1, 0x80800},
		{"arm64", 198, 0xc00000b7, 1, 0x80800},
		{"arm64", 281, 0x40000028, 1, 0x80800},
		{"arm", 281, 0x40000028, 1, 0x80800},
		{"arm", 198, 0xc00000b7, 1, 0x80800},
		{"riscv64", 198, 0xc00000f3, 1, 0x80800},
		{"riscv64", 198, 0x400000f3, 1, 0x80800},
		{"mipsle", 4183, 0x40000008, 2, 0x80080},
		{"mipsle", 5040, 0xc0000008, 2, 0x80080},
		{"mipsle", 6040, 0xe0000008, 2, 0x80080},
	} {
		vm := loaded(t, c.goarch)
		for _, family := range []uint64{2, 10} {
			for _, kind := range []uint64{c.stream, c.stream | c.flags} {
				if found := answer(t, vm, socket(c.nr, c.arch, family, kind, 6)); found != notify {
					t.Errorf("%s, arch %#x: socket(%d, %#x, 6) gives %#x", c.goarch, c.arch, family, kind, found)
				}
			}
		}
		if found := answer(t, vm, socket(c.nr, c.arch, 2, 3-c.stream, 0)); found != allow {
			t.Errorf("%s, arch %#x: a datagram socket gives %#x", c.goarch, c.arch, found)
		}
	}
}

func TestThisMachine(t *testing.T) {
	m, ok := machines[runtime.GOARCH]
	if !ok {
		t.Fatalf("no filter for %s", runtime.GOARCH)
	}
	if m.stream != unix.SOCK_STREAM || m.nonblock != unix.SOCK_NONBLOCK || m.closeExec != unix.SOCK_CLOEXEC {
		t.Errorf("%+v differs from package unix", m)
	}
	if !slices.ContainsFunc(m.abis, func(a abi) bool { return slices.Contains(a.socket, unix.SYS_SOCKET) }) {
		t.Errorf("%+v lacks system call %d", m, unix.SYS_SOCKET)
	}
	if _, err := Program("z80"); err == nil {
		t.Error("there is a filter for a machine that nobody knows")
	}
}

// TestAnyCall: what the program says of any call is what one sentence says.
func TestAnyCall(t *testing.T) {
	for goarch, m := range machines {
		vm := loaded(t, goarch)
		rapid.Check(t, func(t *rapid.T) {
			a := rapid.SampledFrom(m.abis).Draw(t, "abi")
			word := func(name string, likely ...uint32) uint64 {
				low := rapid.OneOf(rapid.SampledFrom(likely), rapid.Uint32()).Draw(t, name)
				return uint64(rapid.Uint32().Draw(t, name+", upper half"))<<32 | uint64(low)
			}
			c := socket(uint32(word("nr", a.socket...)), uint32(word("arch", a.arch)), word("family", 1, 2, 10, 16),
				word("type", 1, 2, 3, m.stream|m.nonblock, m.stream|m.closeExec, m.stream|m.nonblock|m.closeExec), word("protocol", 0, 6, 17, 262))
			want := uint32(allow)
			is := slices.ContainsFunc(m.abis, func(b abi) bool { return b.arch == c.arch && slices.Contains(b.socket, c.nr) })
			family, kind, protocol := uint32(c.args[0]), uint32(c.args[1])&^(m.nonblock|m.closeExec), uint32(c.args[2])
			if is && (family == 2 || family == 10) && kind == m.stream && (protocol == 0 || protocol == 6) {
				want = notify
			}
			if found := answer(t, vm, c); found != want && found != marked {
				t.Fatalf("%s: %+v gives %#x, wanted %#x", goarch, c, found, want)
			}
		})
	}
}

// TestListing compares the program with the one that was read by a person.
// SUBFLOW_GOLDEN=1 writes it anew.
func TestListing(t *testing.T) {
	for goarch := range machines {
		p, _ := bpf.Disassemble(raw(t, goarch))
		var b strings.Builder
		for i, instruction := range p {
			fmt.Fprintf(&b, "%02d %v\n", i, instruction)
		}
		file := filepath.Join("testdata", goarch+".txt")
		if os.Getenv("SUBFLOW_GOLDEN") != "" {
			if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if b.String() != string(want) {
			t.Errorf("%s: the program is\n%s\nwanted\n%s", goarch, &b, want)
		}
	}
}
