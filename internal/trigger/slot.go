package trigger

import (
	"sync"
	"time"

	"github.com/subflowd/subflowd/internal/netstate"
)

const (
	// LazyPause is how long hints about what no path can depend on yet wait for
	// more of them. Deleting a veth pair takes the kernel some 10 ms: a host that
	// takes a thousand of them down would cause as many rounds.
	LazyPause = 300 * time.Millisecond
	// fewLazy is up to how many links are read along with what is urgent.
	fewLazy = 8
)

// Slot holds the hints that came since the last round, merged into one. Put
// never blocks and nothing is ever lost, however slow the reader is: a storm
// of events takes the room of one.
type Slot struct {
	wake chan struct{}

	mu     sync.Mutex
	urgent pending
	lazy   pending
}

// pending is what was merged, and when the first of it came.
type pending struct {
	hints netstate.Hints
	first time.Time
}

func (p *pending) put(h netstate.Hints, now time.Time) (first bool) {
	if first = p.hints.Empty(); first {
		p.first = now
	}
	p.hints.Merge(h)
	return first
}

// NewSlot makes an empty slot.
func NewSlot() *Slot { return &Slot{wake: make(chan struct{}, 1)} }

// Put merges a hint that came at the given time.
func (s *Slot) Put(h netstate.Hints, now time.Time) {
	if h.Empty() {
		return
	}
	s.mu.Lock()
	wake := true
	if h.Lazy {
		wake = s.lazy.put(h, now)
	} else {
		s.urgent.put(h, now)
	}
	s.mu.Unlock()
	if !wake {
		return // whoever waits knows when the first of them is due
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Wake has a value whenever the slot may have become full.
func (s *Slot) Wake() <-chan struct{} { return s.wake }

// Pending tells whether the slot holds something that is not to wait.
func (s *Slot) Pending() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.urgent.hints.Empty()
}

// Due is when the slot is to be emptied; zero when it holds nothing.
func (s *Slot) Due() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.urgent.hints.Empty():
		return s.urgent.first
	case !s.lazy.hints.Empty():
		return s.lazy.first.Add(LazyPause)
	}
	return time.Time{}
}

// Take empties the slot of what is due. The time is that of the oldest hint
// taken. What is urgent takes along the lazy hints about its own links, and the
// others if they are few: a decision is made on links that are known.
func (s *Slot) Take(now time.Time) (netstate.Hints, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.wake:
	default:
	}
	u, lazy := s.urgent, &s.lazy
	s.urgent = pending{}
	switch {
	case lazy.hints.Empty():
	case u.hints.Full || !now.Before(lazy.first.Add(LazyPause)) || !u.hints.Empty() && len(lazy.hints.Links) <= fewLazy:
		u = joined(u, *lazy)
		*lazy = pending{}
	case !u.hints.Empty():
		if links := lazy.split(u.hints.Links); len(links) > 0 {
			u.hints.Merge(netstate.Hints{Kinds: lazy.hints.Kinds, Links: links})
		}
	}
	return u.hints, u.first
}

func joined(u, lazy pending) pending {
	if u.hints.Empty() || lazy.first.Before(u.first) {
		u.first = lazy.first
	}
	u.hints.Merge(lazy.hints)
	u.hints.Lazy = false
	return u
}

// split takes links out.
func (p *pending) split(links map[int]struct{}) map[int]struct{} {
	var taken map[int]struct{}
	for i := range links {
		if _, ok := p.hints.Links[i]; !ok {
			continue
		}
		if taken == nil {
			taken = map[int]struct{}{}
		}
		taken[i] = struct{}{}
		delete(p.hints.Links, i)
	}
	return taken
}
