package kernel

import (
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
)

// Offsets in a notification: struct nlmsghdr, then struct rtmsg or nhmsg.
const (
	offType            = 4
	offPort            = 12
	offDstLen          = unix.NLMSG_HDRLEN + 1
	offTable           = unix.NLMSG_HDRLEN + 4
	offProtocol        = unix.NLMSG_HDRLEN + 5
	offNexthopProtocol = unix.NLMSG_HDRLEN + 2
)

const (
	bpfLoadWord = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	bpfLoadHalf = unix.BPF_LD | unix.BPF_H | unix.BPF_ABS
	bpfLoadByte = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
	bpfEqual    = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	bpfGreater  = unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K
	bpfJump     = unix.BPF_JMP | unix.BPF_JA
	bpfReturn   = unix.BPF_RET | unix.BPF_K
)

// eventFilter is routeFilter without the echoes of what the socket with the port
// own asked for: whatever is unread is news then.
func eventFilter(protocols []uint8, own uint32) []unix.SockFilter {
	return append([]unix.SockFilter{
		{Code: bpfLoadWord, K: offPort},
		{Code: bpfEqual, K: binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, own)), Jf: 1},
		{Code: bpfReturn, K: 0},
	}, routeFilter(protocols)...)
}

// routeFilter is a classic BPF program for a subscription. It drops routes of
// table local, and prefixes that a routing daemon has learnt, with the nexthop
// objects that it made for them: a full table that comes or goes is a million
// notifications, which would overflow the socket. Default routes, and the
// halves that tunnels use in their place, pass whatever their protocol is.
// Every notification of a route is a message of its own.
func routeFilter(protocols []uint8) []unix.SockFilter {
	const drop, pass = 0, 0xffffffff
	n := uint8(len(protocols))
	// A classic program loads in network order what the kernel wrote in its own.
	swapped := func(v uint16) uint32 {
		return uint32(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, v)))
	}
	program := []unix.SockFilter{
		0:  {Code: bpfLoadHalf, K: offType},
		1:  {Code: bpfEqual, K: swapped(unix.RTM_NEWROUTE), Jt: 6 - 2},
		2:  {Code: bpfEqual, K: swapped(unix.RTM_DELROUTE), Jt: 6 - 3},
		3:  {Code: bpfEqual, K: swapped(unix.RTM_NEWNEXTHOP), Jt: 12 - 4},
		4:  {Code: bpfEqual, K: swapped(unix.RTM_DELNEXTHOP), Jt: 12 - 5},
		5:  {Code: bpfReturn, K: pass},
		6:  {Code: bpfLoadByte, K: offTable},
		7:  {Code: bpfEqual, K: unix.RT_TABLE_LOCAL, Jt: 13 + n - 8},
		8:  {Code: bpfLoadByte, K: offDstLen},
		9:  {Code: bpfGreater, K: halvesMaxBits, Jf: 14 + n - 10},
		10: {Code: bpfLoadByte, K: offProtocol},
		11: {Code: bpfJump, K: 13 - 12},
		12: {Code: bpfLoadByte, K: offNexthopProtocol},
	}
	for i, p := range protocols { // from 13 on
		program = append(program, unix.SockFilter{Code: bpfEqual, K: uint32(p), Jt: n - uint8(i)})
	}
	return append(program,
		unix.SockFilter{Code: bpfReturn, K: drop}, // 13 + n
		unix.SockFilter{Code: bpfReturn, K: pass}) // 14 + n
}

func attachFilter(fd int, program []unix.SockFilter) error {
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	return os.NewSyscallError("setsockopt", unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog))
}
