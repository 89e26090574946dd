package trigger

import (
	"fmt"
	"time"
)

// Numbers of Flaps.
const (
	// FreeFlaps within FlapWindow are borne: a cable is moved, a switch boots.
	FreeFlaps  = 3
	FlapWindow = time.Minute
	// MaxFlapPause is the longest time that a link's endpoint is held back.
	MaxFlapPause = time.Minute
)

var flapPause = Backoff{Min: time.Second, Max: MaxFlapPause}

// maxFlapLevel is the first level with the longest pause. A link that flapped a
// thousand times is forgotten as soon as one that flapped seven times.
const maxFlapLevel = 7

// Flaps holds endpoints of links back that lose their carrier again and again:
// each return of an endpoint makes every connection try a join, and each loss
// makes it retransmit. The zero value is ready. Links are known by ifindex.
type Flaps struct {
	m map[int]*flap
}

type flap struct {
	losses []time.Time // within the window, oldest first
	level  int         // how many pauses were given, less one for each quiet window
	eased  time.Time   // of the last loss, or when the level was last lowered
	until  time.Time
	reason string
}

// Down notes that the link lost its carrier.
func (f *Flaps) Down(link int, now time.Time) {
	x := f.m[link]
	if x == nil {
		if f.m == nil {
			f.m = map[int]*flap{}
		}
		x = &flap{}
		f.m[link] = x
	}
	x.ease(now)
	x.losses = append(x.losses, now)
	x.eased = now
	if len(x.losses) >= FreeFlaps {
		x.level = min(x.level+1, maxFlapLevel)
		// A link that flaps faster than anyone counts stays bounded.
		x.losses = x.losses[max(0, len(x.losses)-FreeFlaps):]
	}
}

// Up notes that the carrier is back: the pause begins.
func (f *Flaps) Up(link int, now time.Time) {
	x := f.m[link]
	if x == nil {
		return
	}
	x.ease(now)
	if x.level > 0 {
		pause := flapPause.Pause(x.level, 0)
		x.until = now.Add(pause)
		x.reason = fmt.Sprintf("flapping: its carrier keeps going, held back for %v", pause)
	}
}

// ease forgets losses outside the window, and one level for each window
// without a loss.
func (x *flap) ease(now time.Time) {
	for len(x.losses) > 0 && now.Sub(x.losses[0]) >= FlapWindow {
		x.losses = x.losses[1:]
	}
	for x.level > 0 && now.Sub(x.eased) >= FlapWindow {
		x.level--
		x.eased = x.eased.Add(FlapWindow)
	}
}

// Gone forgets a link that no longer exists: its number may come back as
// another link's.
func (f *Flaps) Gone(link int) { delete(f.m, link) }

// Held returns the links whose endpoints are held back now, each with a reason
// that does not change while it is, and when the first of them is released.
func (f *Flaps) Held(now time.Time) (held map[int]string, next time.Time) {
	for link, x := range f.m {
		x.ease(now)
		switch {
		case x.until.After(now):
			if held == nil {
				held = map[int]string{}
			}
			held[link] = x.reason
			if next.IsZero() || x.until.Before(next) {
				next = x.until
			}
		case len(x.losses) == 0 && x.level == 0:
			delete(f.m, link)
		}
	}
	return held, next
}
