package inspect

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/subflowd/subflowd/pkg/mptcp"
	"github.com/subflowd/subflowd/pkg/status"
)

// Services lists who listens for connections from outside in the calling
// thread's namespace, and whether with Multipath TCP. The names of other users'
// programs are empty without CAP_SYS_PTRACE, and in another PID namespace; then
// the second value says so.
func Services() ([]status.Service, []Unseen, error) {
	c, err := mptcp.Dial()
	if errors.Is(err, mptcp.ErrUnsupported) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	defer c.Close()
	listeners, err := c.Listeners()
	if err != nil {
		return nil, nil, err
	}
	wanted := map[uint32]bool{}
	for _, l := range listeners {
		if !l.Local.Addr().IsLoopback() {
			wanted[l.Inode] = true
		}
	}
	owners := ownersOf(wanted)
	var out []status.Service
	var unseen []Unseen
	for _, l := range listeners {
		if !wanted[l.Inode] {
			continue
		}
		o, known := owners[l.Inode]
		if !known {
			unseen = []Unseen{{"the programs of some services", "needs CAP_SYS_PTRACE, and their PID namespace"}}
		}
		s := status.Service{Address: l.Local.Addr().String(), Port: l.Local.Port(), MPTCP: l.MPTCP, Program: o.name, PID: o.pid}
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b status.Service) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), strings.Compare(a.Address, b.Address), cmp.Compare(a.PID, b.PID))
	})
	return out, unseen, nil
}

type owner struct {
	name string
	pid  int
}

// ownersOf finds a process for each socket by its inode: /proc/PID/fd has links
// to "socket:[INODE]" (proc(5)). Of several the one with the lowest number is
// meant, the parent of the others as a rule.
func ownersOf(wanted map[uint32]bool) map[uint32]owner {
	found := map[uint32]owner{}
	if len(wanted) == 0 {
		return found
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*/fd")
	for _, dir := range dirs {
		fds, err := os.ReadDir(dir)
		if err != nil {
			continue // another user's, or gone
		}
		proc := filepath.Dir(dir)
		pid, _ := strconv.Atoi(filepath.Base(proc))
		for _, fd := range fds {
			link, err := os.Readlink(filepath.Join(dir, fd.Name()))
			text, ok := strings.CutPrefix(link, "socket:[")
			inode, nerr := strconv.ParseUint(strings.TrimSuffix(text, "]"), 10, 32)
			if err != nil || !ok || nerr != nil || !wanted[uint32(inode)] {
				continue
			}
			if o, known := found[uint32(inode)]; known && o.pid < pid {
				continue
			}
			comm, _ := os.ReadFile(filepath.Join(proc, "comm"))
			found[uint32(inode)] = owner{strings.TrimSpace(string(comm)), pid}
		}
	}
	return found
}
