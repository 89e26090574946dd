package main

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	result = unix.BPF_RET | unix.BPF_K
)

var (
	// denyIPv6 is what RestrictAddressFamilies= of systemd.exec(5) does.
	denyIPv6 = []unix.SockFilter{
		{Code: load, K: 0},
		{Code: equal, K: unix.SYS_SOCKET, Jf: 3},
		{Code: load, K: 16},
		{Code: equal, K: unix.AF_INET6, Jf: 1},
		{Code: result, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)},
		{Code: result, K: unix.SECCOMP_RET_ALLOW},
	}
	// watchNothing occupies the one listener that a process can have.
	watchNothing = []unix.SockFilter{{Code: result, K: unix.SECCOMP_RET_ALLOW}}
)

// sandboxed executes a command behind a filter.
func sandboxed(program []unix.SockFilter, flags uintptr, args []string) error {
	runtime.LockOSThread()
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("install filter: %w", errno)
	}
	if flags != 0 { // the listener has to stay open
		if _, err := unix.FcntlInt(fd, unix.F_SETFD, 0); err != nil {
			return err
		}
	}
	return unix.Exec(args[0], args, os.Environ())
}
