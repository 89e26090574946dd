// Package filter is the seccomp filter that hands a program's new TCP sockets
// to a supervisor. It only computes; package run installs what it returns.
package filter

import "golang.org/x/sys/unix"

// abi is one way to make system calls: what struct seccomp_data has in arch,
// and the numbers of socket(2) in nr.
type abi struct {
	arch   uint32
	socket []uint32
}

// machine is what a kernel of one kind lets a program and its children use.
// A child may be of the other word size, so every one has all of them.
type machine struct {
	abis                        []abi
	stream, nonblock, closeExec uint32
}

// The values of most machines (include/linux/net.h, include/uapi/asm-generic/fcntl.h).
const (
	sockStream   = 1
	sockNonblock = 0o4000
	sockCloexec  = 0o2000000
)

// x32 calls carry the arch of x86-64 and this bit (arch/x86/include/uapi/asm/unistd.h).
const x32Bit = 0x40000000

// socketcall(2), which 32-bit programs for x86 and MIPS may use instead, keeps
// its arguments in memory, where they can change after a look: it is left
// alone, and so are the programs that use it.
var (
	x86 = machine{
		abis: []abi{
			{unix.AUDIT_ARCH_X86_64, []uint32{41, x32Bit | 41}},
			{unix.AUDIT_ARCH_I386, []uint32{359}},
		},
		stream: sockStream, nonblock: sockNonblock, closeExec: sockCloexec,
	}
	arm = machine{
		abis:   []abi{{unix.AUDIT_ARCH_AARCH64, []uint32{198}}, {unix.AUDIT_ARCH_ARM, []uint32{281}}},
		stream: sockStream, nonblock: sockNonblock, closeExec: sockCloexec,
	}
	riscv = machine{
		abis:   []abi{{unix.AUDIT_ARCH_RISCV64, []uint32{198}}, {unix.AUDIT_ARCH_RISCV32, []uint32{198}}},
		stream: sockStream, nonblock: sockNonblock, closeExec: sockCloexec,
	}
	// MIPS has stream and datagram exchanged, and flags of its own
	// (arch/mips/include/asm/socket.h, arch/mips/include/uapi/asm/fcntl.h).
	mipsle = machine{
		abis: []abi{
			{unix.AUDIT_ARCH_MIPSEL, []uint32{4183}},
			{unix.AUDIT_ARCH_MIPSEL64, []uint32{5040}},
			{unix.AUDIT_ARCH_MIPSEL64N32, []uint32{6040}},
		},
		stream: 2, nonblock: 0o200, closeExec: 0o2000000,
	}
)

// machines are those that there is a filter for, by GOARCH. All of them are
// little-endian: offsets of arguments count on it.
var machines = map[string]machine{
	"amd64": x86, "386": x86,
	"arm64": arm, "arm": arm,
	"riscv64": riscv,
	"mipsle":  mipsle, "mips64le": mipsle,
}
