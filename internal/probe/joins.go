package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/pkg/mptcp"
	"github.com/subflowd/subflowd/pkg/status"
)

// steady is how long a join must last: the server can still refuse it by a
// reset after its answer.
const steady = 150 * time.Millisecond

// Between two looks at the subflows of a connection.
const (
	minLook = time.Millisecond
	maxLook = 20 * time.Millisecond
)

// track is what was seen of the further subflows from one address.
type track struct {
	remote      netip.AddrPort
	pending     bool // there, and not established
	established time.Time
	rtt         time.Duration
	gone        bool
	closed      *mptcp.Event // why, where events are permitted
}

// watchJoins follows the further subflows of a connection until each of the
// wanted addresses has one that lasts, or the time is over. The error says that
// this kernel shows no subflows to this user.
func watchJoins(a *attempt, c *mptcp.Client, wanted []netip.Addr, events *eventLog, timeout time.Duration) (map[netip.Addr]*track, error) {
	first := a.sock.local()
	seen := map[netip.Addr]*track{}
	if a.ended {
		timeout = min(timeout, 2*steady)
	}
	end := time.Now().Add(timeout)
	for pause := minLook; time.Now().Before(end); pause = min(pause*5/4, maxLook) {
		now, err := a.sock.subflows()
		if errors.Is(err, unix.EOPNOTSUPP) && a.sock.info().mptcp {
			if now, err = diagSubflows(c, a.info.token); err != nil {
				return seen, err
			}
		}
		look(now, first, seen, time.Now())
		events.note(a.info.token, first, seen, time.Now())
		if settled(wanted, seen, time.Now()) {
			break
		}
		time.Sleep(pause)
	}
	// Why a subflow went is told a moment after it is gone.
	time.Sleep(maxLook)
	events.note(a.info.token, first, seen, time.Now())
	return seen, nil
}

// look takes one reading into account.
func look(now []subflow, first netip.AddrPort, seen map[netip.Addr]*track, at time.Time) {
	if now == nil {
		return
	}
	there := map[netip.Addr]bool{}
	for _, s := range now {
		if s.local == first {
			continue
		}
		ip := s.local.Addr()
		t := seen[ip]
		if t == nil {
			t = &track{}
			seen[ip] = t
		}
		there[ip] = true
		t.remote, t.pending, t.gone = s.remote, !s.established, false
		if s.established {
			t.rtt = s.rtt
			if t.established.IsZero() {
				t.established = at
			}
		}
	}
	for ip, t := range seen {
		t.gone = t.gone || !there[ip]
	}
}

// settled tells whether nothing more is to be waited for.
func settled(wanted []netip.Addr, seen map[netip.Addr]*track, now time.Time) bool {
	for _, ip := range wanted {
		t := seen[ip]
		switch {
		case t == nil:
			return false
		case t.gone, t.closed != nil:
		case t.pending || now.Sub(t.established) < steady:
			return false
		}
	}
	return true
}

// outcome judges one address. tried tells that joins were sent that were not
// seen: on a short path the answer comes between two looks.
func (t *track) outcome(tried bool) (status.ProbeOutcome, string) {
	switch {
	case t == nil && tried:
		return status.ProbeRefused, "the join was reset"
	case t == nil:
		return status.ProbeAbsent, ""
	case t.closed != nil && t.closed.Errno == unix.ETIMEDOUT:
		return status.ProbeTimeout, "the join got no answer"
	case t.gone && !t.established.IsZero():
		return status.ProbeRefused, "the join was answered, and then reset by the server or a box before it" + reason(t.closed)
	case t.gone:
		return status.ProbeRefused, "the join was reset" + reason(t.closed)
	case t.pending:
		return status.ProbeTimeout, "the join got no answer"
	}
	return status.ProbeJoined, ""
}

// resetReasons are those of MP_TCPRST (RFC 8684, section 3.6).
var resetReasons = map[uint32]string{
	1: "it says: an error of Multipath TCP", 2: "it says: no resources",
	3: "it says: prohibited, as where its limits allow no more subflows", 4: "it says: too much data outstanding",
	5: "it says: bad performance", 6: "it says: a box on the way interferes",
}

func reason(e *mptcp.Event) string {
	if e == nil || !e.Reset || resetReasons[e.ResetReason] == "" {
		return ""
	}
	return "; " + resetReasons[e.ResetReason]
}

// eventLog collects the path manager's events; nil where that is not permitted.
type eventLog struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex
	events []mptcp.Event
}

// maxEvents bounds what is kept of a busy host.
const maxEvents = 1024

// listenEvents starts to collect. It needs CAP_NET_ADMIN.
func listenEvents(c *mptcp.Client) *eventLog {
	if c == nil {
		return nil
	}
	stream, err := c.SubscribeEvents()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &eventLog{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		defer stream.Close()
		for {
			e, err := stream.Receive(ctx)
			if err != nil {
				return
			}
			l.mu.Lock()
			if len(l.events) < maxEvents {
				l.events = append(l.events, e)
			}
			l.mu.Unlock()
		}
	}()
	return l
}

func (l *eventLog) close() {
	if l != nil {
		l.cancel()
		<-l.done
	}
}

// note takes what the events say of a connection's further subflows: on a short
// path one comes and goes between two looks.
func (l *eventLog) note(token uint32, first netip.AddrPort, seen map[netip.Addr]*track, at time.Time) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, e := range l.events {
		established, closed := e.Type == mptcp.EventSubflowEstablished, e.Type == mptcp.EventSubflowClosed
		if !established && !closed || e.Token != token || e.Local == first {
			continue
		}
		t := seen[e.Local.Addr()]
		if t == nil {
			t = &track{remote: e.Remote}
			seen[e.Local.Addr()] = t
		}
		if established && t.established.IsZero() {
			t.established = at
		}
		if closed {
			t.closed, t.gone = &l.events[i], true
		}
	}
}

// closedAtOnce is why nothing can be said of a join.
const closedAtOnce = "nothing is known of its join: the server closes connections at once (one that waits, as subflowctl probe --serve, tells more)"

// joinsOf is the outcome for each wanted address, and what joined besides:
// the server may have announced addresses of its own.
func joinsOf(a *attempt, wanted []Endpoint, seen map[netip.Addr]*track, tried bool, linkOf func(netip.Addr) string) []status.ProbeJoin {
	var out []status.ProbeJoin
	for _, w := range wanted {
		j := status.ProbeJoin{Link: w.Link, Source: w.Addr.String()}
		t := seen[w.Addr]
		j.Outcome, j.Text = t.outcome(tried)
		if t != nil {
			j.HandshakeSeconds = t.rtt.Seconds()
			if t.remote.IsValid() {
				j.Remote = t.remote.String()
			}
		}
		switch n := a.info.subflowsMax; {
		case j.Outcome == status.ProbeAbsent && n < len(wanted):
			j.Text = fmt.Sprintf("no join was tried: the limit of this host is %d further subflows (ip mptcp limits)", n)
		case j.Outcome != status.ProbeJoined && a.ended:
			j.Outcome, j.Text = status.ProbeFailed, closedAtOnce
		case j.Outcome == status.ProbeAbsent:
			j.Text = "no join was tried"
		}
		out = append(out, j)
	}
	for ip, t := range seen {
		if !slices.ContainsFunc(wanted, func(w Endpoint) bool { return w.Addr == ip }) && !t.established.IsZero() && !t.gone {
			out = append(out, status.ProbeJoin{
				Link: linkOf(ip), Source: ip.String(), Remote: t.remote.String(), Outcome: status.ProbeJoined, HandshakeSeconds: t.rtt.Seconds(),
			})
		}
	}
	return out
}
