package diff

import (
	"testing"
	"time"

	"github.com/subflowd/subflowd/internal/netstate"
)

func TestDoubtfulAndHeard(t *testing.T) {
	ago := func(d time.Duration) func(*netstate.Subflow) {
		return func(s *netstate.Subflow) { s.LastRecv, s.LastAck = d, d }
	}
	for _, c := range []struct {
		name     string
		s        netstate.Subflow
		doubtful bool
		again    bool // 3 s later
	}{
		{"heard of a moment ago", joined(onEth1), false, true},
		{"silent", with(joined(onEth1), ago(time.Minute)), true, false},
		{"silent for two seconds", with(joined(onEth1), ago(2*time.Second)), true, true},
		{"in backoff", with(joined(onEth1), func(s *netstate.Subflow) { s.Backoff = 1 }), true, true},
		{"in loss", with(joined(onEth1), func(s *netstate.Subflow) { s.CAState = caLoss }), true, true},
		{"connecting", with(joined(onEth1), func(s *netstate.Subflow) { s.State, s.FullyEstablished = netstate.SynSent, false }), true, false},
	} {
		conns := []netstate.Connection{conn(initial(onEth0), c.s)}
		d := Doubtful(conns, onEth1.Addr())
		if got := len(d) == 1; got != c.doubtful {
			t.Errorf("%s: doubtful: %v", c.name, got)
		}
		if len(Doubtful(conns, onEth0.Addr())) != 0 {
			t.Errorf("%s: another subflow is doubtful", c.name)
		}
		again, left := HeardSince(conns, onEth1.Addr(), d, 3*time.Second)
		if again != (c.again && c.doubtful) || len(left) == 1 != (c.doubtful && !c.again) {
			t.Errorf("%s: again %v, left %v", c.name, again, left)
		}
	}
	fallen := conn(with(joined(onEth1), ago(time.Hour)))
	fallen.Fallback = true
	if d := Doubtful([]netstate.Connection{fallen}, onEth1.Addr()); len(d) != 0 {
		t.Errorf("fell back: %v", d)
	}
	// What is gone is not waited for.
	if again, left := HeardSince(nil, onEth1.Addr(), map[Ends]bool{{onEth1, server}: true}, time.Second); again || len(left) != 0 {
		t.Errorf("gone: %v, %v", again, left)
	}
}
