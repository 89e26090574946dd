package reconcile

import "github.com/subflowd/subflowd/internal/netstate"

// Record says what is ours among the things that carry no mark in the kernel.
// Whatever it is told is on disk when it returns.
type Record interface {
	// Owned is what the record says now.
	Owned() netstate.Ownership
	// Announce names endpoints that are about to be added.
	Announce(eps ...netstate.Endpoint) error
	// Settle names endpoints that exist, with their ids.
	Settle(eps ...netstate.Endpoint) error
	// Forget takes endpoints out that do not exist, or are not ours.
	Forget(eps ...netstate.Endpoint) error
	// SetLimits says which limits are about to be set, and which are there: if
	// these are not of our making, they are what somebody wants back.
	SetLimits(found, set netstate.Limits) error
	// SetProtocols says under which protocols rules and routes of ours are made,
	// or were and may be in the kernel still.
	SetProtocols(p ...uint8) error
	// Remove deletes the record.
	Remove() error
}
