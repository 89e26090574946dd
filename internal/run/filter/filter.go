package filter

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A socket(2) of this family and with these other arguments exists nowhere. In
// a process that carries the filter it fails with MarkErrno, everywhere else
// with another error: so a nested run knows that there is nothing left to do.
const (
	MarkFamily = 0x5346464c
	MarkErrno  = unix.EALREADY
)

// Offsets in struct seccomp_data (include/uapi/linux/seccomp.h). Of arguments
// only the low half is read, as the kernel itself does: socket(2) takes ints.
const (
	offNr   = 0
	offArch = 4
	offArgs = 16
)

const (
	load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	and    = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	always = unix.BPF_JMP | unix.BPF_JA
	ret    = unix.BPF_RET | unix.BPF_K
)

// line is an instruction with labels for numbers.
type line struct {
	label string // of this line
	code  uint16
	k     uint32
	to    string // where an equal or always jumps to; the next line otherwise
}

// Program returns the filter for programs on a kernel that runs binaries of
// this GOARCH. It notifies the listener of
//
//	socket(AF_INET or AF_INET6, SOCK_STREAM, 0 or IPPROTO_TCP)
//
// with or without SOCK_NONBLOCK and SOCK_CLOEXEC, and allows everything else.
func Program(goarch string) ([]unix.SockFilter, error) {
	m, ok := machines[goarch]
	if !ok {
		return nil, fmt.Errorf("make filter: no system call numbers for %s", goarch)
	}
	return assemble(m.lines()), nil
}

func (m machine) lines() []line {
	p := []line{{code: load, k: offArch}}
	name := func(a abi) string { return fmt.Sprintf("arch %#x", a.arch) }
	for _, a := range m.abis {
		p = append(p, line{code: equal, k: a.arch, to: name(a)})
	}
	p = append(p, line{code: always, to: "allow"})
	for _, a := range m.abis {
		p = append(p, line{label: name(a), code: load, k: offNr})
		for _, nr := range a.socket {
			p = append(p, line{code: equal, k: nr, to: "socket"})
		}
		p = append(p, line{code: always, to: "allow"})
	}
	argument := func(i uint32) uint32 { return offArgs + 8*i }
	return append(p,
		line{label: "socket", code: load, k: argument(0)},
		line{code: equal, k: unix.AF_INET, to: "type"},
		line{code: equal, k: unix.AF_INET6, to: "type"},
		line{code: equal, k: MarkFamily, to: "mark"},
		line{code: always, to: "allow"},
		line{label: "type", code: load, k: argument(1)},
		line{code: and, k: ^(m.nonblock | m.closeExec)},
		line{code: equal, k: m.stream, to: "protocol"},
		line{code: always, to: "allow"},
		line{label: "protocol", code: load, k: argument(2)},
		line{code: equal, k: unix.IPPROTO_IP, to: "notify"},
		line{code: equal, k: unix.IPPROTO_TCP, to: "notify"},
		line{label: "allow", code: ret, k: unix.SECCOMP_RET_ALLOW},
		line{label: "mark", code: ret, k: unix.SECCOMP_RET_ERRNO | uint32(MarkErrno)},
		line{label: "notify", code: ret, k: unix.SECCOMP_RET_USER_NOTIF})
}

// assemble turns labels into offsets, which count from the next instruction.
func assemble(lines []line) []unix.SockFilter {
	at := map[string]int{}
	for i, l := range lines {
		if l.label != "" {
			at[l.label] = i
		}
	}
	program := make([]unix.SockFilter, len(lines))
	for i, l := range lines {
		program[i] = unix.SockFilter{Code: l.code, K: l.k}
		switch l.code {
		case equal:
			program[i].Jt = uint8(at[l.to] - i - 1)
		case always:
			program[i].K = uint32(at[l.to] - i - 1)
		}
	}
	return program
}
