package diff

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/subflowd/subflowd/internal/netstate"
)

// Verdict says whether an endpoint can be deleted without cutting a connection.
type Verdict struct {
	Vacant   bool
	Blocking int    // connections that would be cut
	Why      string // one clause: "no connection uses it"
}

// diagStep is how far the ages that sock_diag shows may lag: they count whole
// milliseconds (tcpi_last_data_recv), rounded on both sides.
const diagStep = 2 * time.Millisecond

// caLoss is TCP_CA_Loss (net/tcp.h): a timeout was hit and nothing came since.
const caLoss = 4

// Vacancy decides for one endpoint; see ConnIndex for several. live are the
// usable addresses of live paths, and unwantedFor is how long ago the event
// was that made the endpoint unwanted.
//
// Deleting an endpoint closes its subflows, the initial one included. That
// kills a connection that has no other subflow which works, and "established"
// does not say so: a dead idle subflow looks like a healthy one. So another
// subflow counts only when it has heard from the peer since the event.
func Vacancy(ep netstate.Endpoint, conns []netstate.Connection, live map[netip.Addr]bool, unwantedFor time.Duration) Verdict {
	var t tally
	for i := range conns {
		if counts(&conns[i]) && usesAddr(&conns[i], ep.Addr) {
			t.add(&conns[i], ep.Addr, live, unwantedFor)
		}
	}
	return t.verdict()
}

// ConnIndex finds the connections that have a subflow on an address.
type ConnIndex map[netip.Addr][]*netstate.Connection

// IndexConnections goes over the connections once, so that each endpoint is
// then judged by its own connections alone. The connections must not change.
func IndexConnections(conns []netstate.Connection) ConnIndex {
	ix := ConnIndex{}
	for i := range conns {
		c := &conns[i]
		if !counts(c) {
			continue
		}
		for k := range c.Subflows {
			s := &c.Subflows[k]
			if !onEndpoint(s) {
				continue
			}
			list := ix[s.Local.Addr()]
			if len(list) == 0 || list[len(list)-1] != c {
				ix[s.Local.Addr()] = append(list, c)
			}
		}
	}
	return ix
}

// Vacancy is the function of that name for the indexed connections.
func (ix ConnIndex) Vacancy(ep netstate.Endpoint, live map[netip.Addr]bool, unwantedFor time.Duration) Verdict {
	var t tally
	for _, c := range ix[ep.Addr] {
		t.add(c, ep.Addr, live, unwantedFor)
	}
	return t.verdict()
}

// counts leaves out what the path manager does not touch.
func counts(c *netstate.Connection) bool {
	return !c.Fallback && c.State != netstate.Listen && c.State != netstate.Closed
}

// onEndpoint tells whether a delete of the endpoint of its address would close
// the subflow.
func onEndpoint(s *netstate.Subflow) bool {
	switch s.State {
	case netstate.Listen, netstate.Closed, netstate.TimeWait:
		return false
	}
	return true
}

func usesAddr(c *netstate.Connection, ip netip.Addr) bool {
	for k := range c.Subflows {
		if c.Subflows[k].Local.Addr() == ip && onEndpoint(&c.Subflows[k]) {
			return true
		}
	}
	return false
}

// obstacle is what a subflow lacks to carry a connection on; the higher, the
// nearer it is.
type obstacle int

const (
	noOther obstacle = iota
	notEstablished
	notLive
	inLoss
	noProgress
	carries
)

var obstacleText = [...]string{
	noOther:        "has no other subflow",
	notEstablished: "has no other subflow that is fully established",
	notLive:        "has no other subflow on a live path",
	inLoss:         "has only subflows left that lose packets",
	noProgress:     "has no other subflow that has heard from the peer since",
}

func judge(s *netstate.Subflow, live map[netip.Addr]bool, unwantedFor time.Duration) obstacle {
	switch {
	case s.State != netstate.Established || !s.FullyEstablished:
		return notEstablished
	case !live[s.Local.Addr()]:
		return notLive
	case s.Backoff != 0 || s.CAState >= caLoss:
		return inLoss
	case min(s.LastRecv, s.LastAck)+diagStep >= unwantedFor:
		return noProgress
	}
	return carries
}

// tally counts the connections that use an endpoint and those that need it.
type tally struct {
	users, blocking int
	first           *netstate.Connection
	why             obstacle
}

func (t *tally) add(c *netstate.Connection, ip netip.Addr, live map[netip.Addr]bool, unwantedFor time.Duration) {
	t.users++
	best := noOther
	for k := range c.Subflows {
		if s := &c.Subflows[k]; s.Local.Addr() != ip {
			best = max(best, judge(s, live, unwantedFor))
		}
	}
	if best == carries {
		return
	}
	t.blocking++
	if t.first == nil {
		t.first, t.why = c, best
	}
}

func (t *tally) verdict() Verdict {
	switch {
	case t.users == 0:
		return Verdict{Vacant: true, Why: "no connection uses it"}
	case t.blocking == 0:
		return Verdict{Vacant: true, Why: fmt.Sprintf("%s another subflow that works", plural(t.users, "connection has", "connections have"))}
	}
	why := fmt.Sprintf("the connection to %s %s", t.first.Remote, obstacleText[t.why])
	if t.blocking > 1 {
		why = fmt.Sprintf("%d connections would be cut; %s", t.blocking, why)
	}
	return Verdict{Blocking: t.blocking, Why: why}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
