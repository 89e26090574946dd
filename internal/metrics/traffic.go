package metrics

import (
	"net/netip"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
	"github.com/subflowd/subflowd/pkg/mptcp"
)

// maxConnections is up to how many connections are listed: each takes some 300
// bytes of memory while it is read, and each of its subflows as much.
const maxConnections = 5000

// Traffic is what the MPTCP connections of a host use.
type Traffic struct {
	// Omitted tells that there are too many to be listed; the rest is then empty.
	Omitted                         bool
	Connections, Fallback, Subflows int
	List                            []mptcp.Connection
}

// ReadTraffic reads the connections of the namespace of the calling thread. The
// errors are mptcp.ErrUnsupported where the kernel has no Multipath TCP, and
// mptcp.ErrPermission where it shows subflows to CAP_NET_ADMIN alone.
func ReadTraffic() (Traffic, error) {
	// Asked first, because even a list without subflows may be long. Kernels that
	// do not have this counter leave it to the list.
	if c, err := mptcp.ReadCounters(); err == nil && c[currentEstablished] > maxConnections {
		return Traffic{Omitted: true}, nil
	}
	// The client's buffers would be the larger part of what the daemon holds
	// between two scrapes.
	c, err := mptcp.Dial()
	if err != nil {
		return Traffic{}, err
	}
	defer c.Close()
	list, err := c.Connections(mptcp.ConnectionOptions{NoSubflows: true})
	if err != nil {
		return Traffic{}, err
	}
	if len(list) > maxConnections {
		return Traffic{Omitted: true}, nil
	}
	if list, err = c.Connections(mptcp.ConnectionOptions{}); err != nil {
		return Traffic{}, err
	}
	return count(list), nil
}

func count(list []mptcp.Connection) Traffic {
	t := Traffic{Connections: len(list), List: list}
	for i := range list {
		x := &list[i]
		switch {
		case x.Fallback:
			t.Fallback++
		case x.SubflowsTotal > 0:
			t.Subflows += int(x.SubflowsTotal)
		default:
			t.Subflows += 1 + int(x.ExtraSubflows)
		}
	}
	return t
}

// usage is what uses one path.
type usage struct{ connections, subflows int }

func writeTraffic(p *page, of *plan.Plan, t Traffic) {
	p.single("subflowd_connections_omitted", gauge,
		"Whether there are too many MPTCP connections for a scrape to list; the metrics about them are then missing.", truth(t.Omitted))
	if t.Omitted {
		return
	}
	p.family("subflowd_connections", gauge, "MPTCP sockets with a peer, by what they speak.")
	p.sample("subflowd_connections", float64(t.Connections-t.Fallback), "protocol", "mptcp")
	p.sample("subflowd_connections", float64(t.Fallback), "protocol", "tcp")
	p.single("subflowd_subflows", gauge, "Subflows of MPTCP connections.", float64(t.Subflows))
	if of == nil {
		return
	}
	used := byPath(of.Paths, t.List)
	p.family("subflowd_path_connections", gauge, "MPTCP connections with an established subflow on the path.")
	for i, x := range of.Paths {
		p.sample("subflowd_path_connections", float64(used[i].connections), pathLabels(x)...)
	}
	p.family("subflowd_path_subflows", gauge, "Established subflows of MPTCP connections on the path.")
	for i, x := range of.Paths {
		p.sample("subflowd_path_subflows", float64(used[i].subflows), pathLabels(x)...)
	}
}

// byPath counts for each path; subflows of other links and addresses count
// nowhere.
func byPath(paths []plan.Path, list []mptcp.Connection) []usage {
	type at struct {
		link   int
		family netstate.Family
	}
	links, addrs := map[at]int{}, map[netip.Addr]int{}
	for i, x := range paths {
		links[at{x.Link, x.Family}] = i
		for _, a := range x.Addrs {
			addrs[a.IP] = i
		}
	}
	used := make([]usage, len(paths))
	for i := range list {
		if list[i].Fallback {
			continue
		}
		seen := map[int]bool{}
		for _, f := range list[i].Subflows {
			if f.State != mptcp.StateEstablished {
				continue
			}
			local := f.Local.Addr().Unmap()
			n, ok := addrs[local]
			if f.IfIndex != 0 {
				n, ok = links[at{int(f.IfIndex), netstate.FamilyOf(local)}]
			}
			if !ok {
				continue
			}
			used[n].subflows++
			if !seen[n] {
				seen[n] = true
				used[n].connections++
			}
		}
	}
	return used
}
