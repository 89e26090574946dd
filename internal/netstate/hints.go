package netstate

// Kinds is a set of kinds of kernel state.
type Kinds uint8

// Kinds that a snapshot is read by.
const (
	KindLinks Kinds = 1 << iota
	KindAddrs
	KindRoutes
	KindRules
	KindEndpoints // and limits
	KindAll       = KindLinks | KindAddrs | KindRoutes | KindRules | KindEndpoints
)

// Hints say what may have changed and where. What they name is read again,
// whatever their News say. The zero value says that nothing changed.
type Hints struct {
	Kinds Kinds
	// Full says that nothing may be kept of what was read before (start,
	// overflow, resync).
	Full bool
	// Walk says that tables with thousands of routes are to be read whatever their
	// events told.
	Walk bool
	// Links names the links whose addresses and routes changed; nil with a
	// kind set means any.
	Links map[int]struct{}
	// Added says that an address or a route of main came: no other table can have
	// changed by that.
	Added bool
	// News is what the events said, if Told: then it is all that happened. Else it
	// is the first of them at most.
	News []News
	Told bool
	// Lazy says that no path can depend on it as far as is known, so that it may
	// wait for more of its kind. It names links.
	Lazy bool
	// Family says that only addresses, routes and rules of it changed; 0: of any.
	Family Family
	// Reason says what the hint came from, for the log: "link eth0 changed: up".
	// It is empty where News say it: see Why.
	Reason string
}

// Empty tells whether there is nothing to look at.
func (h Hints) Empty() bool { return h.Kinds == 0 && !h.Full }

// Merge adds what other says; the first reason stays.
func (h *Hints) Merge(other Hints) {
	if other.Empty() {
		return
	}
	if h.Empty() {
		*h = other.clone()
		return
	}
	h.Kinds |= other.Kinds
	h.Full = h.Full || other.Full
	h.Walk = h.Walk || other.Walk
	h.Added = h.Added && other.Added
	h.hear(other)
	if h.Family != other.Family {
		h.Family = 0
	}
	switch {
	case h.Links == nil || other.Links == nil:
		h.Links = nil
	default:
		for i := range other.Links {
			h.Links[i] = struct{}{}
		}
	}
}

func (h Hints) clone() Hints {
	if len(h.News) > 0 {
		h.News = append(make([]News, 0, maxNews), h.News...)
	}
	if h.Links == nil {
		return h
	}
	links := make(map[int]struct{}, len(h.Links))
	for i := range h.Links {
		links[i] = struct{}{}
	}
	h.Links = links
	return h
}
