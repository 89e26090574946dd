package netstate

import (
	"net/netip"
	"slices"
)

// OwnsRoute tells whether a route is ours: it carries our protocol and lies in
// a table that is none of the system's.
func OwnsRoute(protocol uint8, r Route) bool {
	if r.Protocol != protocol {
		return false
	}
	switch r.Table {
	case 0, TableDefault, TableMain, TableLocal:
		return false
	}
	return true
}

// OwnsRule tells whether a rule is ours: it carries our protocol or the next
// one, selects one host address and nothing else, and does what ours do.
func OwnsRule(protocol uint8, r Rule) bool {
	if r.Protocol != protocol && r.Protocol != protocol+1 {
		return false
	}
	if r.Others != "" || !r.From.IsValid() || !r.From.IsSingleIP() {
		return false
	}
	return r.Action == ActLookup || r.Action == ActUnreachable
}

// Ownership is what the state record says is ours: the marks of rules and
// routes, and the things that carry no mark in the kernel.
type Ownership struct {
	// Known is false where no readable record of this boot and namespace
	// exists: then an endpoint is ours only if it is exactly what the plan wants.
	Known bool
	// Endpoints are ours by address; ID 0 means that the add was announced
	// and its result is not known.
	Endpoints map[netip.Addr]Endpoint
	// LimitsFound are the limits that others left, LimitsSet those that we set
	// last; nil: never changed.
	LimitsFound *Limits
	LimitsSet   *Limits
	// LimitsBefore are those of ours that LimitsSet took the place of; a kill
	// between the record and the change leaves them in the kernel. nil: none.
	LimitsBefore *Limits
	// Protocols are those under which we have made rules and routes that may be
	// in the kernel still, whatever the configuration says now.
	Protocols []uint8
}

// OwnsRoute is the function of that name for the protocol of the configuration
// and those that were used before.
func (o Ownership) OwnsRoute(protocol uint8, r Route) bool {
	return OwnsRoute(protocol, r) || slices.ContainsFunc(o.Protocols, func(p uint8) bool { return OwnsRoute(p, r) })
}

// OwnsRule is the function of that name for the protocol of the configuration
// and those that were used before.
func (o Ownership) OwnsRule(protocol uint8, r Rule) bool {
	return OwnsRule(protocol, r) || slices.ContainsFunc(o.Protocols, func(p uint8) bool { return OwnsRule(p, r) })
}

// OwnsLimits tells whether the limits are what we made of them, as far as can be
// known: they carry no mark.
func (o Ownership) OwnsLimits(l Limits) bool {
	return o.LimitsSet != nil && *o.LimitsSet == l || o.LimitsBefore != nil && *o.LimitsBefore == l
}

// OwnsEndpoint tells whether the record names the endpoint as ours. An implicit
// endpoint is the kernel's own.
func (o Ownership) OwnsEndpoint(e Endpoint) bool {
	if e.Flags&ImplicitFlag != 0 || e.Port != 0 {
		return false
	}
	r, ok := o.Endpoints[e.Addr]
	return ok && r.Link == e.Link && (r.ID == 0 || r.ID == e.ID)
}
