// Package reconcile is the loop that keeps the kernel as planned: hints in,
// snapshot, plan, diff, changes, verification, status.
package reconcile

import (
	"context"

	"github.com/subflowd/subflowd/internal/netstate"
)

// Kernel is what the loop needs of the kernel. Implementations are used by one
// goroutine.
type Kernel interface {
	// Refresh reads again what the hints name and returns the whole snapshot.
	// The snapshot is not changed by later calls.
	Refresh(h netstate.Hints) (*netstate.Snapshot, error)
	// Connections lists the MPTCP connections that exist now.
	Connections() ([]netstate.Connection, error)
	// DestroySubflows closes every subflow that match picks, and returns those
	// that it closed; the error is that of the others. Nothing else of their
	// connections is touched.
	DestroySubflows(match func(netstate.Subflow) bool) ([]netstate.Subflow, error)
	// Apply carries out the changes in order, each whether or not one before
	// it failed, and returns nil or the error of each. Absence on delete and
	// presence of the very same object on add are success.
	Apply(changes []netstate.Change) []error
}

// Watcher tells when something may have changed. One that has the method
// Overflows() uint64 tells with it how often events were lost; one that has
// Unread() bool whether there are some that it has not looked at.
type Watcher interface {
	// Watch calls emit for every hint until ctx ends, from one goroutine. It
	// subscribes again by itself after an overflow or a dead socket and then
	// emits a full hint. ready is called once when the first subscription
	// stands, so that nothing is missed by a read that follows.
	Watch(ctx context.Context, ready func(), emit func(netstate.Hints)) error
	// WatchConnections calls emit when a connection or subflow came or went,
	// until ctx ends.
	WatchConnections(ctx context.Context, emit func()) error
}
