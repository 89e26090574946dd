package kernel

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
)

// requestBatch is how many routes and rules go to the kernel in one call; the
// errors of all of them fit into the receive buffer.
const requestBatch = 64

// ErrForeign is wrapped by the error of a change that would have replaced an
// object that is not ours.
var ErrForeign = errors.New("an object that is not ours is in the way")

// Error is a change that the kernel refused. It unwraps to the error number.
type Error struct {
	Change string // in the words of ip(8): "add route default via 10.1.1.1 dev eth0 table 100002"
	Cause  error
}

// Error reads "add route ...: network is unreachable (ENETUNREACH): Nexthop has
// invalid gateway", and names the missing capability.
func (e *Error) Error() string {
	s := e.Change + ": " + e.Cause.Error()
	if MeaningOf(e.Cause) == Permission {
		s += ": needs CAP_NET_ADMIN"
	}
	return s
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Cause }

func (k *Kernel) fail(c netstate.Change, cause error) error {
	return &Error{Change: describe(c, *k.names.Load()), Cause: cause}
}

// describe is the change with its verb first.
func describe(c netstate.Change, n netstate.Names) string {
	switch c.Op {
	case netstate.RouteAdd:
		return "add route " + c.Route.Text(n)
	case netstate.RouteReplace:
		return "replace route " + c.Route.Text(n)
	case netstate.RouteDelete:
		return "delete route " + c.Route.Text(n)
	case netstate.RuleAppend:
		return "add rule " + c.Rule.Text()
	case netstate.RuleDelete:
		return "delete rule " + c.Rule.Text()
	case netstate.LimitsSet:
		return "set limits " + c.Limits.Text()
	case netstate.EndpointAdd:
		return "add endpoint " + c.Endpoint.Text(n)
	case netstate.EndpointSet:
		return "change endpoint " + c.Endpoint.Text(n)
	case netstate.EndpointDelete:
		return "delete endpoint " + c.Endpoint.Text(n)
	}
	return fmt.Sprintf("change %d", c.Op)
}

// Apply carries out the changes in order, each whether or not one before it
// failed. It returns one error, or nil, for each change. Deleting what is gone
// and adding what is there with the very same content succeed.
func (k *Kernel) Apply(changes []netstate.Change) []error {
	errs := make([]error, len(changes))
	for i := 0; i < len(changes); {
		n := 0
		for i+n < len(changes) && n < requestBatch && isRouting(changes[i+n].Op) {
			n++
		}
		if n > 0 {
			k.applyRouting(changes[i:i+n], errs[i:i+n])
			i += n
			continue
		}
		if err := k.applyPathManager(changes[i]); err != nil {
			errs[i] = k.fail(changes[i], err)
		}
		i++
	}
	return errs
}

func isRouting(op netstate.Op) bool {
	return op >= netstate.RouteAdd && op <= netstate.RuleDelete
}

// applyRouting sends routes and rules in one call. Only the last one asks to be
// acknowledged: errors are always answered, and in order.
func (k *Kernel) applyRouting(changes []netstate.Change, errs []error) {
	k.rt.reset()
	first := k.rt.seq + 1
	for _, c := range changes {
		// A change that cannot be asked for keeps its number and stays unsent.
		if err := k.request(c, k.rt.nextSeq()); err != nil {
			errs[k.rt.seq-first] = k.fail(c, err)
		}
	}
	if len(k.rt.b) == 0 {
		return
	}
	last := k.rt.wantAck()
	err := k.rt.exchange(first, last, false, nil, func(seq uint32, r reply) {
		i := seq - first
		if errs[i] == nil && !(isDelete(changes[i].Op) && gone(r)) {
			errs[i] = k.fail(changes[i], r)
		}
	})
	for i, c := range changes {
		switch {
		case errs[i] == nil && err != nil:
			errs[i] = k.fail(c, fmt.Errorf("answer lost: %w", err))
		case c.Op == netstate.RouteAdd && errors.Is(errs[i], unix.EEXIST):
			errs[i] = k.inTheWay(c)
		}
	}
}

func isDelete(op netstate.Op) bool {
	return op == netstate.RouteDelete || op == netstate.RuleDelete || op == netstate.EndpointDelete
}

// inTheWay finds out what has the key of a route that could not be added; the
// route itself is success.
func (k *Kernel) inTheWay(c netstate.Change) error {
	want := c.Route
	routes, err := k.dumpRoutes(want.Family, want.Table, 0, nil)
	if err != nil {
		return k.fail(c, fmt.Errorf("%w; reading the table back: %w", unix.EEXIST, err))
	}
	var others []string
	for _, r := range routes {
		if r.Dst != want.Dst || r.TOS != want.TOS || r.Metric != want.Metric || r.SrcPrefix != want.SrcPrefix {
			continue
		}
		if r.Same(want) {
			return nil
		}
		others = append(others, r.Text(*k.names.Load()))
	}
	if len(others) == 0 { // gone again: the next try will do
		return k.fail(c, unix.EAGAIN)
	}
	return k.fail(c, fmt.Errorf("%w: %s (%w)", ErrForeign, strings.Join(others, ", "), unix.EEXIST))
}
