// Package probe connects: for `subflowctl probe`, which finds out whether
// Multipath TCP works with a server and over which paths, and for the daemon,
// which looks whether a target answers over each path.
//
// The files: run (a whole probe), attempt (one connection), joins (its further
// subflows), verdict (what it means; pure), serve (the echo server), socket
// (system calls), reach and prober (the daemon's).
package probe

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/pkg/mptcp"
	"github.com/subflowd/subflowd/pkg/status"
)

// Path is a way out of this host in one family.
type Path struct {
	Link   string
	Family netstate.Family
	Source netip.Addr // invalid: the kernel chooses
}

// Endpoint is an address from which this host's connections make further
// subflows.
type Endpoint struct {
	Link string
	Addr netip.Addr
}

// Options say what is probed.
type Options struct {
	Target    string           // as it was asked for
	Servers   []netip.AddrPort // one of each family at most
	Paths     []Path
	Endpoints []Endpoint
	Own       []netip.Addr  // the host's addresses
	Tunnel    string        // carries everything, and nothing is to go beside it; empty: none does
	Timeout   time.Duration // of each connection, and of the joins
}

// Run probes. It takes a few times the timeout at most.
func Run(o Options) status.ProbeReport {
	r := status.ProbeReport{Schema: status.Schema, Time: time.Now().UTC().Truncate(time.Millisecond), Target: o.Target}
	var found []facts
	for _, server := range o.Servers {
		f := netstate.FamilyOf(server.Addr())
		paths := slices.DeleteFunc(slices.Clone(o.Paths), func(p Path) bool { return p.Family != f })
		switch here := server.Addr().IsLoopback() || slices.Contains(o.Own, server.Addr()); {
		case here:
			found = append(found, o.family(f, server, nil, "the server is this very host, so that no path is involved"))
		case o.Tunnel != "":
			found = append(found, o.family(f, server, nil, o.Tunnel+" carries everything, and nothing is tried beside it"))
		case len(paths) == 0:
			found = append(found, facts{family: f, server: server})
		default:
			found = append(found, o.family(f, server, paths, ""))
		}
	}
	judge(&r, found)
	return r
}

// facts are what was seen with one server address.
type facts struct {
	family netstate.Family
	server netip.AddrPort
	tested bool
	alone  string // why the one connection is all that there is; empty: it is not
	main   *attempt
	joins  []status.ProbeJoin
	paths  []*attempt
}

func (o Options) family(f netstate.Family, server netip.AddrPort, paths []Path, alone string) facts {
	out := facts{family: f, server: server, tested: true, alone: alone}
	client, err := mptcp.Dial()
	if err == nil {
		defer client.Close()
	}
	events := listenEvents(client)
	defer events.close()

	before, _ := mptcp.ReadCounters()
	out.main = try(server, via{}, o.Timeout)
	defer out.main.close()
	linkOf := func(ip netip.Addr) string {
		for _, p := range o.Endpoints {
			if p.Addr == ip {
				return p.Link
			}
		}
		for _, p := range paths {
			if p.Source == ip {
				return p.Link
			}
		}
		return ""
	}
	if ip, err := netip.ParseAddr(out.main.Source); err == nil {
		out.main.Link = linkOf(ip)
	}
	if out.main.Outcome == status.ProbeMPTCP && alone == "" {
		var wanted []Endpoint
		var addrs []netip.Addr
		for _, e := range o.Endpoints {
			if netstate.FamilyOf(e.Addr) == f && e.Addr.String() != out.main.Source {
				wanted, addrs = append(wanted, e), append(addrs, e.Addr)
			}
		}
		seen := watchJoins(out.main, addrs, events, o.Timeout)
		after, _ := mptcp.ReadCounters()
		sent := after.Sub(before)[counterJoins]
		out.joins = joinsOf(out.main, wanted, seen, sent > uint64(len(seen)), linkOf)
	}
	out.paths = make([]*attempt, len(paths))
	var wg sync.WaitGroup
	for i, p := range paths {
		wg.Go(func() {
			out.paths[i] = try(server, via{link: p.Link, from: p.Source}, o.Timeout)
			out.paths[i].close()
		})
	}
	wg.Wait()
	return out
}

// counterJoins counts the joins that this host sent.
const counterJoins = "MPJoinSynTx"
