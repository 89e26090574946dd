package trigger

import "time"

// Bounds of the pause between two rounds. The lower one lets the handful of
// messages that one change of the network makes fall into one round.
const (
	MinGap = 3 * time.Millisecond
	MaxGap = 500 * time.Millisecond
	// gapFactor bounds the share of the time that a storm can take to a fifth.
	gapFactor = 4
)

// Gate spaces rounds. The first event after a quiet time passes at once; what
// follows waits for a pause in proportion to the last round, so that a storm
// costs a bounded share of the time, however expensive a round has become.
type Gate struct {
	next time.Time
}

// Wait is how long the next round has to wait; 0: not at all.
func (g *Gate) Wait(now time.Time) time.Duration { return max(0, g.next.Sub(now)) }

// Done tells the gate of a round that ended now and took so long.
func (g *Gate) Done(now time.Time, took time.Duration) {
	g.next = now.Add(min(max(MinGap, gapFactor*took), MaxGap))
}
