package chaos

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

// pair is one connection beside the daemon and the same one on the twin.
type pair struct {
	name    string
	main    *flow
	twin    *flow
	excused string // somebody else cut it: no claim is made
}

// flow is a connection that is kept in use, or is idle until it is asked for.
type flow struct {
	*lab.Conn
	stop chan struct{}
	done chan struct{}
	once sync.Once

	mu     sync.Mutex
	broken error // the connection ended
}

type kindOfConn struct {
	name   string
	b      bool // from the second link
	v6     bool
	refuse bool
	busy   bool
}

var kindsOfConn = []kindOfConn{
	{"eth0 accepting busy", false, false, false, true},
	{"eth0 refusing idle", false, false, true, false},
	{"eth0 ipv6 accepting idle", false, true, false, false},
	{"eth1 accepting busy", true, false, false, true},
	{"eth1 accepting idle", true, false, false, false},
	{"eth1 refusing busy", true, false, true, true},
	{"eth1 refusing idle", true, false, true, false},
	{"eth1 ipv6 refusing idle", true, true, true, false},
	{"eth1 ipv6 accepting busy", true, true, false, true},
}

// dialAll opens the connections before the daemon starts, so that both sides have the same ones.
func (w *world) dialAll() {
	w.conns = make([]*pair, len(kindsOfConn))
	for i, k := range kindsOfConn {
		p := &pair{name: k.name}
		w.conns[i] = p
		w.both(func(s *side) {
			f := k.dial(s)
			if s == w.main {
				p.main = f
			} else {
				p.twin = f
			}
		})
		if p.main == nil || p.twin == nil {
			w.t.FailNow()
		}
	}
}

func (k kindOfConn) dial(s *side) *flow {
	path, to := s.A, net.JoinHostPort(s.ServerAddr, "5001")
	if k.b {
		path = s.B
	}
	from := path.Addr
	switch {
	case k.v6 && k.refuse:
		to = net.JoinHostPort(meanAddr6, "5001")
	case k.v6:
		to = net.JoinHostPort(s.ServerAddr6, "5001")
	case k.refuse:
		to = net.JoinHostPort(meanAddr, "5001")
	}
	if k.v6 {
		from = path.Addr6
	}
	c, err := s.Client.TryDial(to, lab.From(from))
	if err == nil {
		err = c.Echo(10 * time.Second)
	}
	if err != nil {
		s.T.Errorf("dial %q: %v", k.name, err)
		return nil
	}
	f := &flow{Conn: c, stop: make(chan struct{}), done: make(chan struct{})}
	if k.busy {
		go f.talk()
	} else {
		close(f.done)
	}
	return f
}

// talk sends a little now and then. A silence is no break.
func (f *flow) talk() {
	defer close(f.done)
	for {
		select {
		case <-f.stop:
			return
		case <-time.After(40 * time.Millisecond):
		}
		if err := f.Echo(2 * time.Second); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			f.mu.Lock()
			f.broken = err
			f.mu.Unlock()
			return
		}
	}
}

func (f *flow) hush() {
	f.once.Do(func() { close(f.stop) })
	<-f.done
}

// alive tells, once the host is whole again, whether the connection still carries data.
func (f *flow) alive(timeout time.Duration) error {
	f.hush()
	f.mu.Lock()
	err := f.broken
	f.mu.Unlock()
	for late := time.Now().Add(timeout); err == nil; {
		err = f.Echo(2 * time.Second)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded) && time.Now().Before(late):
			err = nil
		}
	}
	return err
}

// excuse takes the connections with a subflow from an address out of the claim: somebody else deletes its endpoint.
func (w *world) excuse(addr, why string) {
	for _, p := range w.conns {
		if p.excused == "" && (addr == "" || slices.Contains(p.main.SubflowAddrs(), addr)) {
			p.excused = why
		}
	}
}

// checkConns compares the connections of both sides: what lives on the twin lives beside the daemon. What was cut off
// for a time tries again after at most as long again.
func (w *world) checkConns(cutOff time.Duration) (lived int, err error) {
	errs := make([]error, len(w.conns))
	patience := min(max(15*time.Second, 3*cutOff), 100*time.Second)
	var living atomic.Int32
	var wg sync.WaitGroup
	for i, p := range w.conns {
		wg.Go(func() {
			if p.excused != "" {
				return
			}
			if err := p.twin.alive(patience); err != nil {
				w.t.Logf("no claim for %q: without a daemon it does not live either: %v", p.name, err)
				return
			}
			living.Add(1)
			if err := p.main.alive(patience); err != nil {
				errs[i] = fmt.Errorf("the connection %q was cut, and lives where no daemon runs: %w", p.name, err)
			}
		})
	}
	wg.Wait()
	return int(living.Load()), errors.Join(errs...)
}

// closeConns ends all connections.
func (w *world) closeConns() {
	for _, p := range w.conns {
		for _, f := range []*flow{p.main, p.twin} {
			f.once.Do(func() { close(f.stop) })
			_ = f.Close()
			<-f.done
		}
	}
}
