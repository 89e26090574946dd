package reconcile

import (
	"time"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/trigger"
)

// GracePeriod is how long a path that lost its carrier keeps its rules:
// withdrawing them at once resets connections that a short loss would not have
// harmed.
const GracePeriod = 10 * time.Second

// carriers follows the carrier of every link from snapshot to snapshot.
type carriers struct {
	last  []netstate.Link   // of the last snapshot
	had   map[int]bool      // links that had carrier then, or had not
	grace map[int]time.Time // when the grace of a link ends
	flaps trigger.Flaps
}

// see compares the links with those of the last snapshot. at is the moment at
// which the kernel told of the change. A link that is seen for the first time
// has lost nothing.
func (c *carriers) see(links []netstate.Link, at time.Time) {
	// Snapshots share what did not change.
	if len(links) == len(c.last) && (len(links) == 0 || &links[0] == &c.last[0]) {
		return
	}
	c.last = links
	now := make(map[int]bool, len(links))
	for i := range links {
		l := &links[i]
		has := l.Up() && l.Carrier()
		now[l.Index] = has
		had, known := c.had[l.Index]
		switch {
		case known && had && !has:
			if c.grace == nil {
				c.grace = map[int]time.Time{}
			}
			c.grace[l.Index] = at.Add(GracePeriod)
			c.flaps.Down(l.Index, at)
		case known && !had && has:
			delete(c.grace, l.Index)
			c.flaps.Up(l.Index, at)
		}
	}
	for i := range c.had {
		if _, there := now[i]; !there {
			delete(c.grace, i)
			c.flaps.Gone(i)
		}
	}
	c.had = now
}

// inGrace lists the links whose grace runs, and when the first one ends.
func (c *carriers) inGrace(now time.Time) (links map[int]bool, next time.Time) {
	for i, end := range c.grace {
		if !end.After(now) {
			delete(c.grace, i)
			continue
		}
		if links == nil {
			links = map[int]bool{}
		}
		links[i] = true
		next = earlier(next, end)
	}
	return links, next
}

// earlier is the earlier of two times; a zero one means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// expiry tells when the first route with a lifetime runs out. Lifetimes count
// from the moment of the read, and a snapshot may hold a route that was read
// for an earlier one: the same remaining time twice is the same read.
type expiry struct {
	left time.Duration
	at   time.Time
}

// expiryMargin lets the kernel's own clock, in steps of 10 ms, pass the end.
const expiryMargin = 50 * time.Millisecond

func (e *expiry) see(routes []netstate.Route, now time.Time) {
	var left time.Duration
	for _, r := range routes {
		if r.Default() && r.ExpiresIn > 0 && (left == 0 || r.ExpiresIn < left) {
			left = r.ExpiresIn
		}
	}
	switch {
	case left == 0:
		*e = expiry{}
	case left != e.left || !e.at.After(now):
		*e = expiry{left, now.Add(left + expiryMargin)}
	}
}
