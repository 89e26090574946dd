package diff

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
)

func (b *builder) endpoints() {
	if !b.Snapshot.MPTCP.Present {
		return
	}
	// An endpoint with a port is another object than one without
	// (mptcp_addresses_equal), and never ours.
	there := map[netip.Addr]netstate.Endpoint{}
	for _, e := range b.Snapshot.Endpoints {
		if e.Port == 0 {
			there[e.Addr] = e
		}
	}
	wanted := map[netip.Addr]bool{}
	var add []plan.Endpoint
	for _, w := range b.Plan.Endpoints {
		if wanted[w.Addr] {
			continue
		}
		wanted[w.Addr] = true
		have, ok := there[w.Addr]
		switch {
		case !ok || have.Flags&netstate.ImplicitFlag != 0:
			add = append(add, w)
		case b.owns(have, w):
			b.settleEndpoint(have, w)
		default:
			b.foreignEndpoint(have, w)
		}
	}
	b.addEndpoints(add, there)
	b.waningEndpoints(wanted, there)
	b.leftEndpoints(wanted)
	slices.SortFunc(b.out.Unwanted, func(x, y Unwanted) int { return x.Endpoint.Addr.Compare(y.Endpoint.Addr) })
}

// waningEndpoints sets the flags of endpoints that go when they are vacant.
func (b *builder) waningEndpoints(wanted map[netip.Addr]bool, there map[netip.Addr]netstate.Endpoint) {
	for _, w := range b.Plan.Waning {
		have, ok := there[w.Addr]
		if !ok || wanted[w.Addr] || !b.Owned.Known || !b.Owned.OwnsEndpoint(have) {
			continue
		}
		next := w.Endpoint
		next.ID = have.ID
		if have.Link == next.Link && have.Flags^next.Flags == netstate.BackupFlag {
			b.up(netstate.Change{Op: netstate.EndpointSet, Endpoint: next, Reason: w.Reason})
		}
	}
}

// owns tells whether an endpoint on the address of a wanted one is ours.
func (b *builder) owns(have netstate.Endpoint, want plan.Endpoint) bool {
	if b.Owned.Known {
		return b.Owned.OwnsEndpoint(have)
	}
	return equal(have, want.Endpoint)
}

// equal compares all but the id, which the kernel chooses.
func equal(x, y netstate.Endpoint) bool {
	x.ID, y.ID = 0, 0
	return x == y
}

// settleEndpoint leads an endpoint of ours to what is wanted on its address.
// Only backup changes in place: the kernel knows no other change but that of
// fullmesh, which closes the endpoint's subflows like a delete.
func (b *builder) settleEndpoint(have netstate.Endpoint, want plan.Endpoint) {
	next := want.Endpoint
	next.ID = have.ID
	switch {
	case have == next:
	case have.Link == next.Link && have.Flags^next.Flags == netstate.BackupFlag:
		b.up(netstate.Change{Op: netstate.EndpointSet, Endpoint: next, Reason: want.Reason})
	case have.Link != next.Link:
		b.unwanted(have, fmt.Sprintf("%s is on %s now", have.Addr, b.names.Name(next.Link)))
	default:
		b.unwanted(have, fmt.Sprintf("its flags are to be %q", next.Flags))
	}
}

func (b *builder) unwanted(e netstate.Endpoint, reason string) {
	b.out.Unwanted = append(b.out.Unwanted, Unwanted{Endpoint: e, Reason: reason})
}

// foreignEndpoint handles an endpoint of somebody else on a wanted address.
func (b *builder) foreignEndpoint(have netstate.Endpoint, want plan.Endpoint) {
	if b.Foreign == config.ForeignTakeOver && !equal(have, want.Endpoint) {
		b.unwanted(have, "it is foreign and is to be replaced (foreign_endpoints)")
		return
	}
	f := plan.Finding{
		Code: "foreign-endpoint", Severity: plan.Info, Object: have.Addr.String(),
		Text: fmt.Sprintf("Another program made the endpoint %q; it is used as it is.", have.Text(b.names)),
	}
	if have.Link != want.Link {
		f.Severity = plan.Warning
		f.Text = fmt.Sprintf("Another program made the endpoint %q, which is not bound to %s; it is left alone.",
			have.Text(b.names), b.names.Name(want.Link))
		f.Remedy = `foreign_endpoints = "take-over", or: ip mptcp endpoint delete id ` + fmt.Sprint(have.ID)
	}
	b.find(f)
}

// addEndpoints adds in the order of rank while slots are free. What lingers
// keeps its slot. In the kernel the check for a free slot comes before an add
// takes the place of an implicit endpoint, so that needs a free slot too,
// though it uses none (mptcp_pm_nl_append_new_local_addr).
func (b *builder) addEndpoints(add []plan.Endpoint, there map[netip.Addr]netstate.Endpoint) {
	free := b.Snapshot.MPTCP.Slots() - len(b.Snapshot.Endpoints)
	for _, w := range add {
		if free <= 0 {
			b.find(plan.Finding{
				Code: "no-slot", Severity: plan.Warning, Object: w.Addr.String(),
				Text:   fmt.Sprintf("The endpoint %q waits: the kernel takes %d endpoints and has them all.", w.Text(b.names), b.Snapshot.MPTCP.Slots()),
				Remedy: "delete endpoints that nothing needs: ip mptcp endpoint show",
			})
			continue
		}
		if _, implicit := there[w.Addr]; !implicit {
			free--
		}
		w.ID = 0
		b.up(netstate.Change{Op: netstate.EndpointAdd, Endpoint: w.Endpoint, Reason: w.Reason})
	}
}

// leftEndpoints looks at what is on no wanted address.
func (b *builder) leftEndpoints(wanted map[netip.Addr]bool) {
	for _, e := range b.Snapshot.Endpoints {
		switch {
		case e.Port != 0 || e.Flags&netstate.ImplicitFlag != 0 || wanted[e.Addr]:
		case b.Owned.Known && b.Owned.OwnsEndpoint(e):
			b.unwanted(e, b.whyNoEndpoint(e))
		case !b.Owned.Known:
			b.find(plan.Finding{
				Code: "foreign-endpoint", Severity: plan.Info, Object: e.Addr.String(),
				Text:   fmt.Sprintf("There is no record of who made the endpoint %q; it is left alone.", e.Text(b.names)),
				Remedy: fmt.Sprintf("if nothing needs it: ip mptcp endpoint delete id %d", e.ID),
			})
		}
	}
}

func (b *builder) whyNoEndpoint(e netstate.Endpoint) string {
	if a, ok := b.pathAddr(e.Addr); ok && !a.Endpoint && a.Reason != "" {
		return a.Reason
	}
	for _, a := range b.Snapshot.Addrs {
		if a.IP() == e.Addr {
			return fmt.Sprintf("%s on %s is to have no endpoint", e.Addr, b.names.Name(a.Link))
		}
	}
	return fmt.Sprintf("%s is an address of no link", e.Addr)
}
