package reconcile

import (
	"context"
	"time"
)

// How long Once works at most until the kernel matches, and how long it then
// waits for lingering endpoints, which a stopped daemon would leave behind.
const (
	onceTimeout = 10 * time.Second
	onceLinger  = time.Second
)

// Once works until the kernel matches, and returns the last view. It gives up
// after ten seconds, or when ctx ends. No watcher is needed.
func (l *Loop) Once(ctx context.Context) *View {
	start := time.Now()
	l.round(full("once"), start, true)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		v, now := l.View(), time.Now()
		end := start.Add(onceTimeout)
		if v.Converged {
			if len(v.Lingering) == 0 {
				return v
			}
			end = start.Add(onceLinger)
		}
		if l.due.After(end) || l.due.Equal(l.resync) {
			return v
		}
		timer.Reset(max(l.gate.Wait(now), l.due.Sub(now)))
		select {
		case <-ctx.Done():
			return v
		case <-timer.C:
			l.round(l.take(time.Now()))
		}
	}
}
