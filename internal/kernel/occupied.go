package kernel

import (
	"fmt"
	"slices"

	"github.com/subflowd/subflowd/internal/netstate"
)

// Unmanaged is Occupied for a caller who may not see the path manager: without
// endpoints and limits, and as if the kernel had no Multipath TCP.
func (k *Kernel) Unmanaged() (*netstate.Snapshot, error) {
	client := k.pm.client
	k.pm.client = nil
	defer func() { k.pm.client = client }()
	return k.Occupied()
}

// Occupied is a snapshot for the question whose the path tables are: all of it
// is read anew, and for each path table that holds routes of others one of them
// is there whatever its protocol is, where Refresh leaves those out that do not
// matter to a path.
func (k *Kernel) Occupied() (*netstate.Snapshot, error) {
	s, err := k.Refresh(netstate.Hints{Kinds: netstate.KindAll, Full: true})
	if err != nil {
		return nil, err
	}
	own := *s
	own.Routes = slices.Clone(s.Routes)
	for _, f := range k.families {
		for _, l := range s.Links {
			if l.Loopback() || l.Master != 0 {
				continue
			}
			routes, err := k.dumpRoutes(f, k.options.Load().TableBase+uint32(l.Index), 0, nil)
			if err != nil {
				return nil, fmt.Errorf("read path table of %s: %w", l.Name, err)
			}
			foreign := func(r netstate.Route) bool { return !k.ours(r) }
			if i := slices.IndexFunc(routes, foreign); i >= 0 && !slices.ContainsFunc(own.Routes, routes[i].Same) {
				own.Routes = append(own.Routes, routes[i])
			}
		}
	}
	return &own, nil
}
