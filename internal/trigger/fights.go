package trigger

import (
	"cmp"
	"slices"
	"time"
)

// Numbers of Fights.
const (
	// FreeRepairs are made at once: a reconfigured link or a reloaded network
	// manager undoes things once or twice and then keeps still.
	FreeRepairs = 3
	// MaxRepairPause is the longest pause before a repair.
	MaxRepairPause = time.Minute
	// FightQuiet is how long an object must keep still to be forgotten. It is
	// several times the longest pause, or a fight would look ended in between.
	FightQuiet = 5 * time.Minute
)

var repairPause = Backoff{Min: time.Second, Max: MaxRepairPause}

// Fight is one object that somebody else keeps undoing.
type Fight struct {
	Count int       // how often it was undone
	Since time.Time // when it was first
	Last  time.Time // when it was last
	Pause time.Duration
	Due   time.Time // when it may be repaired again
}

// Fights tracks who undoes our work, by object. The zero value is ready.
type Fights[K comparable] struct {
	m map[K]*fight
}

type fight struct {
	Fight
	open bool // undone, and not repaired yet
}

// Undone notes that the object was found undone, and returns how long its
// repair has to wait. Asking again before Repaired counts once, and so does what
// somebody undoes and redoes all the time while the repair waits.
func (f *Fights[K]) Undone(key K, now time.Time) time.Duration {
	x := f.m[key]
	if x == nil || now.Sub(x.Last) > FightQuiet && !x.open {
		if f.m == nil {
			f.m = map[K]*fight{}
		}
		x = &fight{Fight: Fight{Since: now}}
		f.m[key] = x
	}
	if !x.open {
		x.open = true
		if x.Due.After(now) {
			return x.Due.Sub(now)
		}
		x.Count++
		x.Last, x.Pause = now, 0
		if x.Count > FreeRepairs {
			x.Pause = repairPause.Pause(x.Count-FreeRepairs, 0)
		}
		x.Due = now.Add(x.Pause)
	}
	return max(0, x.Due.Sub(now))
}

// Repaired notes that the object is as it should be again.
func (f *Fights[K]) Repaired(key K) {
	if x := f.m[key]; x != nil {
		x.open, x.Due = false, time.Time{}
	}
}

// Settle notes that nothing has to be repaired but what still names: the other
// side gave in, or the object is no longer wanted.
func (f *Fights[K]) Settle(still func(K) bool) {
	for k, x := range f.m {
		x.open = x.open && still(k)
	}
}

// Expire forgets what kept still for long enough.
func (f *Fights[K]) Expire(now time.Time) {
	for k, x := range f.m {
		if !x.open && now.Sub(x.Last) > FightQuiet {
			delete(f.m, k)
		}
	}
}

// Waiting is the earliest time at which a repair that waits is due; zero when
// none does.
func (f *Fights[K]) Waiting(now time.Time) time.Time {
	var first time.Time
	for _, x := range f.m {
		if x.open && x.Due.After(now) && (first.IsZero() || x.Due.Before(first)) {
			first = x.Due
		}
	}
	return first
}

// On tells whether somebody fights now: a pause runs in which his next change
// is not answered, whether or not there is something to repair at the moment.
func (f *Fights[K]) On(now time.Time) bool {
	for _, x := range f.m {
		if x.Due.After(now) {
			return true
		}
	}
	return false
}

// Get returns what is known of an object.
func (f *Fights[K]) Get(key K) (Fight, bool) {
	if x := f.m[key]; x != nil {
		return x.Fight, true
	}
	return Fight{}, false
}

// Worst lists the objects that were undone more often than is repaired at
// once, the most often first.
func (f *Fights[K]) Worst() []K {
	var keys []K
	for k, x := range f.m {
		if x.Count > FreeRepairs {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b K) int {
		return cmp.Or(cmp.Compare(f.m[b].Count, f.m[a].Count), f.m[a].Since.Compare(f.m[b].Since))
	})
	return keys
}
