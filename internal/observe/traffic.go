package observe

import (
	"net/netip"
	"sync"
	"time"

	"github.com/subflowd/subflowd/pkg/mptcp"
	"github.com/subflowd/subflowd/pkg/status"
)

const (
	// trafficLives is how long one look serves everybody who asks: any local user
	// may ask as often as he likes.
	trafficLives = time.Second
	// maxCounted is up to how many connections are looked at for a status; each
	// takes some 300 bytes while it is read, and each subflow as much.
	maxCounted = 5000
)

// Traffic tells what paths carry, for the daemon's status. The zero value is
// ready; it may be used by several goroutines at once. It looks at the network
// namespace of the process.
type Traffic struct {
	mu    sync.Mutex
	at    time.Time
	links map[int]moved
	paths map[pathKey]load
	// omitted: there are too many connections to be looked at.
	omitted bool
}

type pathKey struct {
	ifindex int
	family  status.Family
}

// load is what the subflows of one path carry.
type load struct {
	moved
	connections, subflows int
}

// Fill adds to each path what it carries, unless the kernel cannot be asked.
func (t *Traffic) Fill(paths []status.Path) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.links == nil || time.Since(t.at) > trafficLives {
		if t.look() != nil {
			return
		}
		t.at = time.Now()
	}
	for i := range paths {
		p := &paths[i]
		link, ok := t.links[p.Ifindex]
		if !ok {
			continue
		}
		x := t.paths[pathKey{p.Ifindex, p.Family}]
		p.Traffic = &status.Traffic{
			LinkSentBytes: link.sent, LinkReceivedBytes: link.received, Omitted: t.omitted,
			Connections: x.connections, Subflows: x.subflows, SentBytes: x.sent, ReceivedBytes: x.received,
		}
	}
}

func (t *Traffic) look() error {
	// Not kept open: buffers for thousands of connections would be the larger part
	// of the daemon's memory.
	o, err := Open()
	if err != nil {
		return err
	}
	defer o.Close()
	s := &Sample{Time: time.Now()}
	// Asked first, because even the list without subflows may be long.
	c, err := mptcp.ReadCounters()
	if t.omitted = err == nil && c["MPCurrEstab"] > maxCounted; t.omitted {
		err = o.readLinks(s)
	} else {
		s, err = o.Sample()
	}
	if err != nil {
		return err
	}
	t.omitted = t.omitted || s.Hidden
	t.links = make(map[int]moved, len(s.Links))
	for _, l := range s.Links {
		t.links[l.Index] = moved{l.SentBytes, l.ReceivedBytes}
	}
	t.paths = s.byPath()
	return nil
}

// byPath adds the subflows of each link and family up. Connections that have
// fallen back have none.
func (s *Sample) byPath() map[pathKey]load {
	out := map[pathKey]load{}
	for i := range s.Connections {
		c := &s.Connections[i]
		if c.Fallback {
			continue
		}
		seen := map[pathKey]bool{}
		for k := range c.Subflows {
			f := &c.Subflows[k]
			key := pathKey{s.Way(f), familyOf(f.Local.Addr())}
			x := out[key]
			x.subflows++
			x.sent += delivered(f)
			x.received += f.BytesReceived
			if !seen[key] {
				seen[key] = true
				x.connections++
			}
			out[key] = x
		}
	}
	return out
}

func familyOf(a netip.Addr) status.Family {
	if a.Is4() {
		return status.IPv4
	}
	return status.IPv6
}
