package diff

import (
	"slices"

	"github.com/subflowd/subflowd/internal/netstate"
)

// StepAside parts the changes while a full tunnel is up into what has to come
// first and the rest: the limits, so that nothing new can join, then the
// deletes of rules, so that bound traffic goes where it would go without us.
// Nothing of the rest, an endpoint's delete of 10 ms least of all, may delay
// these. When the tunnel is gone the usual order holds: rules, limits,
// endpoints.
func (c Changes) StepAside() (first []netstate.Change, rest Changes) {
	rest = c
	rest.Up, rest.Down = nil, nil
	for _, x := range c.Up {
		if x.Op == netstate.LimitsSet {
			first = append(first, x)
		} else {
			rest.Up = append(rest.Up, x)
		}
	}
	for _, x := range c.Down {
		if x.Op == netstate.RuleDelete {
			first = append(first, x)
		} else {
			rest.Down = append(rest.Down, x)
		}
	}
	return first, rest
}

// BesideTunnel tells whether a subflow goes around a full tunnel and is the
// path manager's work: made by it, and bound to a link that is none of the
// tunnels. One in SYN_SENT counts: it completes whatever the limits say. An
// initial subflow never does, and an application's own choice of a link is none
// of ours.
func BesideTunnel(s netstate.Subflow, tunnels []int) bool {
	return s.JoinLocal && s.Link != 0 && onEndpoint(&s) && !slices.Contains(tunnels, s.Link)
}

// Tunnels lists the links of a tunnel kind.
func Tunnels(s *netstate.Snapshot) []int {
	var out []int
	for _, l := range s.Links {
		if l.Tunnel() {
			out = append(out, l.Index)
		}
	}
	return out
}
