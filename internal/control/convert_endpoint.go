package control

import (
	"net/netip"
	"strings"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
	"github.com/subflowd/subflowd/internal/reconcile"
	"github.com/subflowd/subflowd/pkg/status"
)

// endpoints are those of the kernel in its order, then those that should be
// there and are not.
func endpoints(v *reconcile.View) []status.Endpoint {
	wanted := map[netip.Addr]plan.Endpoint{}
	if v.Plan != nil {
		for _, e := range v.Plan.Endpoints {
			wanted[e.Addr] = e
		}
	}
	var out []status.Endpoint
	if v.Snapshot != nil {
		for _, e := range v.Snapshot.Endpoints {
			out = append(out, present(v, e, wanted))
			delete(wanted, e.Addr)
		}
	}
	if v.Plan != nil {
		for _, e := range v.Plan.Endpoints {
			if _, still := wanted[e.Addr]; still {
				out = append(out, endpoint(e.Endpoint, v.Names, status.Missing, e.Reason))
			}
		}
	}
	return out
}

// present says what an endpoint of the kernel is to us.
func present(v *reconcile.View, e netstate.Endpoint, wanted map[netip.Addr]plan.Endpoint) status.Endpoint {
	if l, ok := lingering(v.Lingering, e); ok {
		out := endpoint(e, v.Names, status.Lingering, l.Reason)
		out.Since, out.Connections, out.WaitsFor = maybe(l.Since), l.Blocking, l.Why
		return out
	}
	w, isWanted := wanted[e.Addr]
	isWanted = isWanted && w.Link == e.Link
	exact := isWanted && w.Flags == e.Flags && w.Port == e.Port
	switch {
	case e.Flags&netstate.ImplicitFlag != 0:
		return endpoint(e, v.Names, status.Foreign, "made by the kernel for a subflow")
	// Without a record an endpoint is ours only if it is exactly what the plan wants.
	case v.Owned.OwnsEndpoint(e) || !v.Owned.Known && exact:
		if isWanted {
			return endpoint(e, v.Names, status.Wanted, w.Reason)
		}
		return endpoint(e, v.Names, status.Lingering, "no longer wanted")
	case isWanted:
		return endpoint(e, v.Names, status.Foreign, "not made by subflowd; serves in place of its own")
	}
	return endpoint(e, v.Names, status.Foreign, "not made by subflowd")
}

func lingering(all []reconcile.Lingering, e netstate.Endpoint) (reconcile.Lingering, bool) {
	for _, l := range all {
		if l.Endpoint.Addr == e.Addr && l.Endpoint.Port == e.Port && l.Endpoint.Link == e.Link {
			return l, true
		}
	}
	return reconcile.Lingering{}, false
}

func endpoint(e netstate.Endpoint, n netstate.Names, s status.EndpointState, reason string) status.Endpoint {
	out := status.Endpoint{
		ID: e.ID, Address: e.Addr.String(), Port: e.Port, Ifindex: e.Link, Flags: strings.Fields(e.Flags.String()), State: s, Reason: reason,
	}
	if e.Link != 0 {
		out.Link = n.Name(e.Link)
	}
	return out
}
