package trigger

import "time"

// Bounds of the pause between two rounds.
const (
	MinGap = 3 * time.Millisecond
	MaxGap = 500 * time.Millisecond
	// gapFactor bounds the share of the time that a storm can take to a tenth.
	gapFactor = 9
	// vainFactor bounds the share of rounds in vain to a quarter of a hundredth.
	vainFactor = 399
	// MaxCredit is how many of the shortest pauses a host that was quiet may owe. A
	// DHCP client tells the address first and its default route some 50 us later: a
	// pause between the two would be most of what a new path takes.
	MaxCredit = 16 * MinGap
	// DearCredit is the same for pauses in proportion to what rounds cost. With a
	// million routes the round after an address went takes 0.1 s, and the next
	// address may come at once. A storm costs 0.1 s more for it.
	DearCredit = 900 * time.Millisecond
)

// Gate spaces rounds. The first few after a quiet time pass at once; what
// follows waits for pauses in proportion to the rounds, so that a storm costs a
// bounded share of the time, however expensive a round has become.
type Gate struct {
	spaced, paid time.Time // up to here all pauses are served: the shortest ones, and those in proportion
}

// Wait is how long the next round has to wait; 0: not at all.
func (g *Gate) Wait(now time.Time) time.Duration {
	return max(0, g.spaced.Add(-MaxCredit).Sub(now), g.paid.Add(-DearCredit).Sub(now))
}

// Vain is Done for a round that could do nothing while somebody fights: the next
// one comes late, for whoever changes something for ever makes an event each time.
func (g *Gate) Vain(now time.Time, took time.Duration) {
	g.paid = now.Add(min(max(MinGap, vainFactor*took), MaxGap) + DearCredit)
}

// Done tells the gate of a round that ended now and took so long.
func (g *Gate) Done(now time.Time, took time.Duration) {
	g.spaced = owing(g.spaced, now, took, MinGap, MaxCredit)
	g.paid = owing(g.paid, now, took, min(gapFactor*took, MaxGap), DearCredit)
}

// owing adds a pause to what was owed when the round began, which serves nothing
// itself. A round that was dear leaves no debt beyond its own pause.
func owing(paid, now time.Time, took, gap, credit time.Duration) time.Time {
	owed := max(0, paid.Sub(now.Add(-took)))
	return now.Add(min(owed+gap, MaxGap+credit))
}
