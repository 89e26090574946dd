// Package inspect gathers the facts that internal/check judges. It changes
// nothing and sends nothing. All of it looks at the network namespace of the
// calling thread, which must be locked (runtime.LockOSThread).
//
// The files: inspect (what is asked of the kernel), sysctl, firewall with nft
// and iptables (their rules, by their own programs), programs (which processes
// run, and how they are configured), services (who listens).
package inspect

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/check"
	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/diff"
	"github.com/subflowd/subflowd/internal/kernel"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
	"github.com/subflowd/subflowd/pkg/mptcp"
)

// Input is what the caller knows already.
type Input struct {
	Config config.Config
	Owned  netstate.Ownership
	// Kernel reads the snapshot: kernel.Kernel, open in this namespace.
	Kernel interface {
		Occupied() (*netstate.Snapshot, error)
		Unmanaged() (*netstate.Snapshot, error)
	}
	// Root is put before the paths of configuration files of other programs;
	// empty: none.
	Root string
}

// Unseen is something that could not be looked at.
type Unseen struct{ What, Why string }

// needsAdmin is why most things cannot be seen.
const needsAdmin = "needs CAP_NET_ADMIN"

// Gather looks at everything. The facts lack what only the caller knows: the
// daemon's word and mistakes in configuration and record. An error means that
// the kernel could not be read.
func Gather(in Input) (*check.Facts, []Unseen, error) {
	f := &check.Facts{Config: in.Config, Snapshot: &netstate.Snapshot{}, Sysctls: map[string]string{}}
	g := &gatherer{in: in, facts: f}
	snap, err := in.Kernel.Occupied()
	if errors.Is(err, fs.ErrPermission) {
		// Some kernels show the path manager to CAP_NET_ADMIN only.
		f.HiddenPathManager = true
		g.cannot("endpoints and limits", needsAdmin)
		snap, err = in.Kernel.Unmanaged()
	}
	switch {
	case errors.Is(err, kernel.ErrNoRules):
		f.NoPolicyRouting = true
	case err != nil:
		return nil, nil, fmt.Errorf("look at the kernel: %w", err)
	default:
		f.Snapshot = snap
	}
	f.Plan = plan.Desired(plan.Input{Config: in.Config, Snapshot: f.Snapshot, Owned: in.Owned})
	f.Changes = diff.Diff(diff.Input{Snapshot: f.Snapshot, Plan: f.Plan, Owned: in.Owned, Routing: in.Config.Routing, Foreign: in.Config.ForeignEndpoints})
	f.Conflicts = in.Config.Conflicts(f.Snapshot, in.Owned.Protocols...)
	g.sysctls()
	g.ways()
	g.filtered()
	g.countersOf()
	g.firewall()
	g.programs()
	return f, g.unseen, nil
}

type gatherer struct {
	in     Input
	facts  *check.Facts
	unseen []Unseen
}

func (g *gatherer) cannot(what, why string) {
	if u := (Unseen{what, why}); !slices.Contains(g.unseen, u) {
		g.unseen = append(g.unseen, u)
	}
}

// ways asks where traffic from the addresses of live paths goes, as unbound
// sockets have it and as those of endpoints with a device do.
func (g *gatherer) ways() {
	for i := range g.facts.Plan.Paths {
		p := &g.facts.Plan.Paths[i]
		if p.State != plan.Live {
			continue
		}
		for _, a := range p.Addrs {
			if !a.Rules {
				continue
			}
			if g.boundEndpoint(a.IP, p.Link) {
				g.way(p, a.IP, true)
			}
			g.way(p, a.IP, false)
		}
	}
}

func (g *gatherer) boundEndpoint(ip netip.Addr, link int) bool {
	return slices.ContainsFunc(g.facts.Snapshot.Endpoints, func(e netstate.Endpoint) bool {
		return e.Addr == ip && e.Link == link && e.Flags&netstate.SubflowFlag != 0
	})
}

func (g *gatherer) way(p *plan.Path, from netip.Addr, bound bool) {
	w := check.Way{Path: p, From: from, Dst: kernel.Probe(p.Family), Bound: bound}
	link := 0
	if bound {
		link = p.Link
	}
	r, err := kernel.LookupBound(w.Dst, from, link)
	if err != nil {
		w.NoRoute = cause(err)
	}
	w.Route = r
	g.facts.Ways = append(g.facts.Ways, w)
}

// cause is the text of the error number in an error.
func cause(err error) string {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}

// filtered asks about the IPv4 addresses of live paths on links with strict
// filtering.
func (g *gatherer) filtered() {
	for _, p := range g.facts.Plan.Paths {
		if p.State != plan.Live || p.Family != netstate.IPv4 || !g.strict(p.Name) {
			continue
		}
		for _, a := range p.Addrs {
			from := kernel.Probe(p.Family)
			if err := kernel.Dropped(a.IP, from, p.Name); err != nil {
				g.facts.Filtered = append(g.facts.Filtered, check.Filtered{Link: p.Name, Addr: a.IP, From: from, Text: cause(err)})
			}
		}
	}
}

// countersOf reads the counters; a kernel without Multipath TCP has none.
func (g *gatherer) countersOf() {
	c, err := mptcp.ReadCounters()
	if err != nil && !errors.Is(err, mptcp.ErrUnsupported) {
		g.cannot("counters", cause(err))
	}
	g.facts.Counters = c
}
