package supervise

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// identity is what a socket takes over from the process that makes it, and
// what firewalls and accounting go by.
type identity struct {
	uid, gid int // of file access: fsuid and fsgid
	cgroup   string
}

// The first version of struct pidfd_info, and its ioctl (include/uapi/linux/pidfd.h, 6.13).
type pidfdInfo struct {
	mask                   uint64
	cgroup                 uint64
	pid, tgid, ppid        uint32
	ruid, rgid, euid, egid uint32
	suid, sgid             uint32
	fsuid, fsgid           uint32
	_                      uint32
}

const (
	pidfdGetInfo    = uint(unix.PIDFD_GET_INFO&^(0x1fff<<16) | unsafe.Sizeof(pidfdInfo{})<<16)
	pidfdInfoCreds  = 1 << 1
	pidfdInfoCgroup = 1 << 2
	pidfdThread     = unix.O_EXCL // pidfd_open(2): of a thread, 6.9
)

// lookFunc tells the identity of a thread.
type lookFunc func(tid int) (identity, error)

// lookBy finds the way to look at threads that this kernel has: by a pidfd in
// two microseconds, or by files of /proc in twenty.
func lookBy() lookFunc {
	if _, err := lookByPidfd(os.Getpid()); err == nil {
		return lookByPidfd
	}
	return lookByProc
}

func lookByPidfd(tid int) (identity, error) {
	fd, err := unix.PidfdOpen(tid, pidfdThread)
	if err != nil {
		return identity{}, fmt.Errorf("open thread %d: %w", tid, err)
	}
	defer unix.Close(fd)
	const want = pidfdInfoCreds | pidfdInfoCgroup
	info := pidfdInfo{mask: want}
	if _, err := listener(fd).ioctl(pidfdGetInfo, unsafe.Pointer(&info)); err != nil {
		return identity{}, fmt.Errorf("look at thread %d: %w", tid, err)
	}
	if info.mask&want != want {
		return identity{}, fmt.Errorf("look at thread %d: the kernel tells no user or control group", tid)
	}
	return identity{uid: int(info.fsuid), gid: int(info.fsgid), cgroup: strconv.FormatUint(info.cgroup, 16)}, nil
}

func lookByProc(tid int) (identity, error) {
	dir := "/proc/" + strconv.Itoa(tid)
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return identity{}, err
	}
	id := identity{uid: fileID(status, "\nUid:"), gid: fileID(status, "\nGid:")}
	if id.uid < 0 || id.gid < 0 {
		return identity{}, fmt.Errorf("read %s/status: it names no user", dir)
	}
	groups, err := os.ReadFile(dir + "/cgroup")
	if err != nil && !errors.Is(err, os.ErrNotExist) { // a kernel without control groups
		return identity{}, err
	}
	id.cgroup = groupOfSockets(groups)
	return id, nil
}

// groupOfSockets leaves of /proc/PID/cgroup the hierarchies that mark sockets:
// the unified one, and of the old ones net_cls and net_prio.
func groupOfSockets(groups []byte) string {
	var b strings.Builder
	for line := range strings.Lines(string(groups)) {
		if strings.HasPrefix(line, "0:") || strings.Contains(line, "net_") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// fileID is the fourth number behind a name in /proc/PID/status; -1 if there
// is none.
func fileID(status []byte, name string) int {
	_, rest, _ := bytes.Cut(status, []byte(name))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) != 4 {
		return -1
	}
	n, err := strconv.Atoi(string(fields[3]))
	if err != nil {
		return -1
	}
	return n
}

// namespace is a network namespace by its inode, as two descriptors of one
// show it.
type namespace struct{ dev, ino uint64 }

func namespacePath(tid int) string { return "/proc/" + strconv.Itoa(tid) + "/ns/net" }

// namespaceAt tells which namespace a file of /proc leads to. For another
// process it takes the right to trace it (ptrace(2), PTRACE_MODE_READ_FSCREDS).
func namespaceAt(path string) (namespace, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return namespace{}, fmt.Errorf("look at %s: %w", path, err)
	}
	return namespace{dev: uint64(st.Dev), ino: st.Ino}, nil
}
