package observe

import (
	"github.com/subflowd/subflowd/internal/kernel"
	"github.com/subflowd/subflowd/pkg/mptcp"
	"github.com/subflowd/subflowd/pkg/status"
)

// moved are bytes that were counted: of sockets those that reached the peer, of
// links those that left.
type moved struct{ sent, received uint64 }

// rates know what an earlier sample has counted. Sockets are known by their
// cookies, which the kernel uses once (sock_gen_cookie).
type rates struct {
	seconds float64 // since then; 0: there is no earlier sample
	sockets map[uint64]moved
	links   map[int]moved
}

func newRates(now, before *Sample) rates {
	if before == nil {
		return rates{}
	}
	r := rates{seconds: now.Time.Sub(before.Time).Seconds()}
	if r.seconds <= 0 {
		return rates{}
	}
	r.sockets = make(map[uint64]moved, 4*len(before.Connections))
	r.links = make(map[int]moved, len(before.Links))
	for i := range before.Connections {
		c := &before.Connections[i]
		sent, received := streamBytes(c)
		r.sockets[c.Cookie] = moved{sent, received}
		for k := range c.Subflows {
			f := &c.Subflows[k]
			r.sockets[f.Cookie] = moved{delivered(f), f.BytesReceived}
		}
	}
	for _, l := range before.Links {
		r.links[l.Index] = moved{l.SentBytes, l.ReceivedBytes}
	}
	return r
}

func (r rates) connection(c *mptcp.Connection) *status.Rate {
	was, ok := r.sockets[c.Cookie]
	sent, received := streamBytes(c)
	return r.since(was, ok, sent, received)
}

func (r rates) subflow(f *mptcp.Subflow) *status.Rate {
	was, ok := r.sockets[f.Cookie]
	return r.since(was, ok, delivered(f), f.BytesReceived)
}

func (r rates) link(l *kernel.LinkCounters) *status.Rate {
	was, ok := r.links[l.Index]
	return r.since(was, ok, l.SentBytes, l.ReceivedBytes)
}

// since is nil where there is nothing to compare with. A counter that has fallen
// began anew.
func (r rates) since(was moved, ok bool, sent, received uint64) *status.Rate {
	if !ok {
		return nil
	}
	return &status.Rate{SentBytesPerSecond: perSecond(was.sent, sent, r.seconds), ReceivedBytesPerSecond: perSecond(was.received, received, r.seconds)}
}

func perSecond(was, now uint64, seconds float64) uint64 {
	if now < was {
		return 0
	}
	return uint64(float64(now-was)/seconds + 0.5)
}
