package run

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Programs for i386 that make a socket and end with the upper byte of its protocol: 1 for MPTCP, 0 for TCP.
var (
	bySocket = []byte{
		0xb8, 0x67, 0x01, 0, 0, // mov eax, 359: socket
		0xbb, 2, 0, 0, 0, // mov ebx, AF_INET
		0xb9, 1, 0, 0, 0, // mov ecx, SOCK_STREAM
		0x31, 0xd2, // xor edx, edx
		0xcd, 0x80, // int 0x80
	}
	bySocketcall = []byte{
		0x6a, 0, 0x6a, 1, 0x6a, 2, // push 0; push SOCK_STREAM; push AF_INET
		0x89, 0xe1, // mov ecx, esp
		0xbb, 1, 0, 0, 0, // mov ebx, SYS_SOCKET
		0xb8, 102, 0, 0, 0, // mov eax, 102: socketcall
		0xcd, 0x80,
	}
	andTell = []byte{
		0x89, 0xc3, // mov ebx, eax
		0xb9, 1, 0, 0, 0, // mov ecx, SOL_SOCKET
		0xba, 38, 0, 0, 0, // mov edx, SO_PROTOCOL
		0x6a, 4, 0x89, 0xe7, // push 4; mov edi, esp
		0x6a, 0, 0x89, 0xe6, // push 0; mov esi, esp
		0xb8, 0x6d, 0x01, 0, 0, // mov eax, 365: getsockopt
		0xcd, 0x80,
		0x58, 0xc1, 0xe8, 8, // pop eax; shr eax, 8
		0x89, 0xc3, // mov ebx, eax
		0xb8, 1, 0, 0, 0, // mov eax, 1: exit
		0xcd, 0x80,
	}
)

// elf32 is the smallest file that the kernel executes.
func elf32(code []byte) []byte {
	const base, headers = 0x08048000, 52 + 32
	var b bytes.Buffer
	for _, part := range []any{
		[16]byte{0x7f, 'E', 'L', 'F', 1, 1, 1},
		uint16(2), uint16(3), uint32(1), uint32(base + headers), uint32(52), uint32(0),
		uint32(0), uint16(52), uint16(32), uint16(1), uint16(0), uint16(0), uint16(0),
		uint32(1), uint32(0), uint32(base), uint32(base), uint32(headers + len(code)), uint32(headers + len(code)), uint32(5), uint32(0x1000),
		code,
	} {
		_ = binary.Write(&b, binary.LittleEndian, part)
	}
	return b.Bytes()
}

// TestI386: calls of the other word size have numbers of their own. What keeps its arguments in memory is left alone.
func TestI386(t *testing.T) {
	t.Parallel()
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "386" {
		t.Log("another machine")
		return
	}
	h := host(t)
	for _, c := range []struct {
		name string
		code []byte
		want int
	}{{"socket", bySocket, 1}, {"socketcall", bySocketcall, 0}} {
		file := executable(h, c.name, elf32(append(bytes.Clone(c.code), andTell...)))
		if _, err := h.Try(file); errors.Is(err, unix.ENOEXEC) {
			t.Log("this kernel has no 32-bit programs")
			return
		} else if err != nil {
			t.Fatalf("%s, without run: %v", c.name, err)
		}
		if r := finish(h, byRun(h, file)); r.code != c.want || r.errs != "" {
			t.Errorf("%s: %v %s", c.name, r.state, r.errs)
		}
	}
}
