package inspect

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/subflowd/subflowd/internal/kernel"
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
	owners := kernel.SocketOwners(wanted)
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
		s := status.Service{Address: l.Local.Addr().String(), Port: l.Local.Port(), MPTCP: l.MPTCP, Program: o.Name, PID: o.PID}
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b status.Service) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), strings.Compare(a.Address, b.Address), cmp.Compare(a.PID, b.PID))
	})
	return out, unseen, nil
}
