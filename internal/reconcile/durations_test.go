package reconcile

import (
	"testing"
	"time"
)

func TestDurations(t *testing.T) {
	var d Durations
	for _, took := range []time.Duration{0, DurationBounds[0], DurationBounds[0] + 1, time.Second, time.Hour} {
		d.add(took)
	}
	want := Durations{Sum: time.Hour + time.Second + 2*DurationBounds[0] + 1}
	want.Counts[0], want.Counts[1], want.Counts[len(DurationBounds)-2], want.Counts[len(DurationBounds)] = 2, 1, 1, 1
	if d != want {
		t.Errorf("want: %v, got: %v", want, d)
	}
}
