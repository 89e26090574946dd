package reconcile

import (
	"time"

	"github.com/subflowd/subflowd/internal/health"
	"github.com/subflowd/subflowd/internal/netstate"
)

// SetReach says over which paths the probe's target answers, and has the loop
// follow it; why is the trigger of that round. The map must not change later.
func (l *Loop) SetReach(states map[netstate.LinkFamily]health.State, why string) {
	l.reach.Store(&states)
	l.slot.Put(netstate.Hints{Kinds: netstate.KindEndpoints, Reason: why}, time.Now())
}

func (l *Loop) reached() map[netstate.LinkFamily]health.State {
	if m := l.reach.Load(); m != nil {
		return *m
	}
	return nil
}
