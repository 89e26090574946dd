package kernel

import (
	"os"
	"strconv"
	"strings"
)

// Owner is a process that has a socket open. The zero value is nobody.
type Owner struct {
	Name string // as the kernel has it (comm in proc(5)): 15 bytes of any kind
	PID  int
}

// SocketOwners finds a process for each socket by its inode: /proc/PID/fd has
// links to "socket:[INODE]" (proc(5)). Of several the one with the lowest number
// is meant, the parent of the others as a rule. The sockets of other users'
// programs are missing without CAP_SYS_PTRACE, and those of other PID namespaces.
func SocketOwners(wanted map[uint32]bool) map[uint32]Owner {
	found := map[uint32]Owner{}
	if len(wanted) == 0 {
		return found
	}
	processes, _ := os.ReadDir("/proc")
	for _, p := range processes {
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		proc := "/proc/" + p.Name()
		fds, err := os.ReadDir(proc + "/fd")
		if err != nil {
			continue // another user's, or gone
		}
		o := Owner{}
		for _, fd := range fds {
			link, err := os.Readlink(proc + "/fd/" + fd.Name())
			inode, ok := socketInode(link)
			if err != nil || !ok || !wanted[inode] {
				continue
			}
			if lower, known := found[inode]; known && lower.PID < pid {
				continue
			}
			if o.PID == 0 {
				comm, _ := os.ReadFile(proc + "/comm")
				o = Owner{strings.TrimSpace(string(comm)), pid}
			}
			found[inode] = o
		}
	}
	return found
}

// socketInode is N of "socket:[N]".
func socketInode(link string) (uint32, bool) {
	text, socket := strings.CutPrefix(link, "socket:[")
	text, closed := strings.CutSuffix(text, "]")
	inode, err := strconv.ParseUint(text, 10, 32)
	return uint32(inode), socket && closed && err == nil
}
