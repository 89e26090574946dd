package trigger

import (
	"testing"
	"time"

	"github.com/subflowd/subflowd/internal/netstate"
)

func lazy(n ...int) netstate.Hints {
	return netstate.Hints{Kinds: netstate.KindLinks, Links: links(n...), Lazy: true, Reason: "lazy"}
}

func TestSlotLetsLazyHintsWait(t *testing.T) {
	s := NewSlot()
	s.Put(lazy(2), t0)
	s.Put(lazy(3), t0.Add(LazyPause/2))
	if s.Pending() || !s.Due().Equal(t0.Add(LazyPause)) {
		t.Fatalf("pending %v, due %v", s.Pending(), s.Due())
	}
	if h, _ := s.Take(t0.Add(LazyPause / 2)); !h.Empty() {
		t.Fatalf("taken before it is due: %+v", h)
	}
	h, first := s.Take(t0.Add(LazyPause))
	if len(h.Links) != 2 || h.Lazy || !first.Equal(t0) || !s.Due().IsZero() {
		t.Errorf("%+v since %v, due %v", h, first, s.Due())
	}
}

// TestSlotJoinsWhatIsUrgent: a decision about a link is made with what is known of it.
func TestSlotJoinsWhatIsUrgent(t *testing.T) {
	var many []int
	for i := range fewLazy + 1 {
		many = append(many, 100+i)
	}
	urgent := netstate.Hints{Kinds: netstate.KindRoutes, Links: links(2, 100), Reason: "urgent"}
	for _, c := range []struct {
		name        string
		lazy        []int
		urgent      netstate.Hints
		at          time.Time
		links, left int
	}{
		{"few", []int{3}, urgent, t0, 3, 0},
		{"many: its own", many, urgent, t0, 2, fewLazy},
		{"many, and it is time", many, urgent, t0.Add(LazyPause), fewLazy + 2, 0},
		{"everything", many, netstate.Hints{Full: true, Reason: "urgent"}, t0, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := NewSlot()
			s.Put(lazy(c.lazy...), t0)
			s.Put(c.urgent, t0)
			if !s.Pending() || !s.Due().Equal(t0) {
				t.Error("it is not urgent")
			}
			h, _ := s.Take(c.at)
			rest, _ := s.Take(t0.Add(time.Hour))
			if len(h.Links) != c.links || h.Reason != "urgent" || !h.Full && h.Kinds&netstate.KindLinks == 0 || len(rest.Links) != c.left {
				t.Errorf("%+v, and later %+v", h, rest)
			}
		})
	}
}
