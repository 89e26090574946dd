package trigger

import (
	"sync"
	"time"

	"github.com/subflowd/subflowd/internal/netstate"
)

// Slot holds the hints that came since the last round, merged into one. Put
// never blocks and nothing is ever lost, however slow the reader is: a storm
// of events takes the room of one.
type Slot struct {
	wake chan struct{}

	mu    sync.Mutex
	hints netstate.Hints
	first time.Time
}

// NewSlot makes an empty slot.
func NewSlot() *Slot { return &Slot{wake: make(chan struct{}, 1)} }

// Put merges a hint that came at the given time.
func (s *Slot) Put(h netstate.Hints, now time.Time) {
	if h.Empty() {
		return
	}
	s.mu.Lock()
	if s.hints.Empty() {
		s.first = now
	}
	s.hints.Merge(h)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Wake has a value whenever the slot may have become full.
func (s *Slot) Wake() <-chan struct{} { return s.wake }

// Pending tells whether the slot holds something.
func (s *Slot) Pending() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.hints.Empty()
}

// Take empties the slot. The time is that of the oldest hint in it.
func (s *Slot) Take() (netstate.Hints, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, first := s.hints, s.first
	s.hints, s.first = netstate.Hints{}, time.Time{}
	select {
	case <-s.wake:
	default:
	}
	return h, first
}
