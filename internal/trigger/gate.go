package trigger

import "time"

// Bounds of the pause between two rounds.
const (
	MinGap = 3 * time.Millisecond
	MaxGap = 500 * time.Millisecond
	// gapFactor bounds the share of the time that a storm can take to a tenth.
	gapFactor = 9
	// vainFactor bounds the share of rounds in vain to half a hundredth.
	vainFactor = 199
	// MaxCredit is how much of the pauses a host that was quiet may owe. A DHCP
	// client tells the address first and its default route some 50 us later: a
	// pause between the two would be most of what a new path takes. A host with a
	// full table of a routing daemon needs 0.1 s for the round after an address
	// went, and the next address may come at once. A storm costs 0.1 s more for it.
	MaxCredit = 300 * MinGap
)

// Gate spaces rounds. The first few after a quiet time pass at once; what
// follows waits for pauses in proportion to the rounds, so that a storm costs a
// bounded share of the time, however expensive a round has become.
type Gate struct {
	paid time.Time // up to here all pauses are served
}

// Wait is how long the next round has to wait; 0: not at all.
func (g *Gate) Wait(now time.Time) time.Duration { return max(0, g.paid.Add(-MaxCredit).Sub(now)) }

// Vain is Done for a round that could do nothing while somebody fights: the next
// one comes late, for whoever changes something for ever makes an event each time.
func (g *Gate) Vain(now time.Time, took time.Duration) {
	g.paid = now.Add(min(max(MinGap, vainFactor*took), MaxGap) + MaxCredit)
}

// Done tells the gate of a round that ended now and took so long.
func (g *Gate) Done(now time.Time, took time.Duration) {
	owed := max(0, g.paid.Sub(now.Add(-took))) // when the round began, which serves nothing
	gap := min(max(MinGap, gapFactor*took), MaxGap)
	// A round that was dear leaves no debt beyond its own pause.
	g.paid = earliest(now.Add(owed+gap), now.Add(MaxGap+MaxCredit))
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
