package trigger

import "time"

// Backoff is a growing pause. The zero value of Jitter means none.
type Backoff struct {
	Min, Max time.Duration
	// Jitter is the share of the pause that chance decides: 0.2 spreads it from
	// 80 % to 120 %.
	Jitter float64
}

// Pause is the pause before attempt n, counted from 1: Min, doubled for each
// further attempt, at most Max. chance is a number in [0,1), as rand.Float64
// gives it.
func (b Backoff) Pause(n int, chance float64) time.Duration {
	d := b.Min
	for i := 1; i < n && d < b.Max; i++ {
		d *= 2
	}
	return Spread(min(d, b.Max), b.Jitter, chance)
}

// Spread moves a duration by up to the share that jitter names, up or down, so
// that hosts that were started together do not act together.
func Spread(d time.Duration, jitter, chance float64) time.Duration {
	return d + time.Duration(float64(d)*jitter*(2*chance-1))
}
