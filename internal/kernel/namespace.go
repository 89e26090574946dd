package kernel

import (
	"fmt"
	"os"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// NamespaceCookie is the number by which the kernel tells the network namespace
// of the calling thread from every other one of this boot (SO_NETNS_COOKIE,
// linux 5.14). On older kernels the error is ENOPROTOOPT.
func NamespaceCookie() (uint64, error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		return 0, fmt.Errorf("read namespace cookie: %w", os.NewSyscallError("socket", err))
	}
	defer s.Close()
	cookie, err := cookieOf(s.GetFd())
	if err != nil {
		return 0, fmt.Errorf("read namespace cookie: %w", err)
	}
	return cookie, nil
}

func cookieOf(fd int) (uint64, error) {
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	return cookie, os.NewSyscallError("getsockopt", err)
}

// BootID is random and new at every boot (/proc/sys/kernel/random/boot_id).
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
