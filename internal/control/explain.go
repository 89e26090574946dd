package control

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
	"github.com/subflowd/subflowd/internal/reconcile"
	"github.com/subflowd/subflowd/pkg/status"
)

// LookupFunc asks the kernel for the route to a destination from an address;
// zero: from none in particular.
type LookupFunc func(dst, from netip.Addr) (netstate.Route, error)

// Explain says what a view makes of a link, an address or a destination; ok
// tells whether there is such a thing. Any unicast address is a destination, if
// lookup is given.
func Explain(v *reconcile.View, what string, lookup LookupFunc) (e status.Explanation, ok bool) {
	e = status.Explanation{Schema: status.Schema, What: what}
	if v.Snapshot == nil || v.Plan == nil {
		return e, false
	}
	x := explainer{View: v}
	if i := slices.IndexFunc(v.Snapshot.Links, func(l netstate.Link) bool { return l.Name == what }); i >= 0 {
		l := v.Snapshot.Links[i]
		e.Kind, e.Links, e.Addresses = "link", []status.LinkExplanation{x.link(l)}, x.addressesOf(l.Index)
	} else if ip, err := parseAddr(what); err == nil {
		switch e.Links, e.Addresses = x.address(ip); {
		case len(e.Addresses) > 0:
			e.Kind = "address"
		case lookup != nil && netstate.Routable(ip):
			e.Kind, e.Destination = "destination", x.destination(ip, lookup)
		}
	}
	e.Conditions = x.conditions(what)
	return e, e.Kind != ""
}

// parseAddr reads an address with or without a prefix length.
func parseAddr(s string) (netip.Addr, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Addr().Unmap(), nil
	}
	ip, err := netip.ParseAddr(s)
	return ip.Unmap().WithZone(""), err
}

// explainer reads a view.
type explainer struct {
	*reconcile.View
}

func (x explainer) conditions(what string) []status.Condition {
	var out []status.Condition
	for _, f := range x.Findings {
		if slices.Contains(strings.Fields(f.Object), what) || strings.HasPrefix(f.Object, what+"/") {
			out = append(out, condition(f))
		}
	}
	return out
}

func (x explainer) link(l netstate.Link) status.LinkExplanation {
	out := status.LinkExplanation{
		Link: l.Name, Ifindex: l.Index, Type: l.TypeName(), Kind: l.Kind, Driver: l.Driver, MAC: l.MAC,
		Up: l.Up(), Carrier: l.Carrier(),
	}
	for _, f := range netstate.Families {
		out.Families = append(out.Families, x.family(l, f))
	}
	for _, d := range x.Config.Explain(l) {
		out.Settings = append(out.Settings, status.Setting(d))
	}
	return out
}

func (x explainer) family(l netstate.Link, f netstate.Family) status.FamilyExplanation {
	for _, p := range x.Plan.Paths {
		if p.Link == l.Index && p.Family == f {
			shown := path(p)
			return status.FamilyExplanation{Family: family(f), IsPath: true, Reason: whyPath(p), Path: &shown}
		}
	}
	reason := "nothing is known of it yet"
	if l.Loopback() {
		reason = "the loopback leads nowhere"
	}
	for _, i := range x.Plan.Ignored {
		if i.Link == l.Index && i.Family == f {
			reason = i.Reason
		}
	}
	return status.FamilyExplanation{Family: family(f), Reason: reason}
}

// whyPath says what makes a path and what it is good for.
func whyPath(p plan.Path) string {
	s := p.Source
	switch p.State {
	case plan.Grace:
		s += "; it has just lost its carrier, its rules stay for " + reconcile.GracePeriod.String()
	case plan.Dark:
		s += "; it has no carrier"
	}
	if p.Backup {
		s += "; used only while no other path works"
	}
	return s
}

func (x explainer) addressesOf(link int) []status.AddressExplanation {
	var out []status.AddressExplanation
	for _, a := range x.Snapshot.Addrs {
		if a.Link == link {
			out = append(out, x.addr(a))
		}
	}
	return out
}

// address finds the address on any link; one that only an endpoint or a rule of
// ours knows is on none.
func (x explainer) address(ip netip.Addr) (links []status.LinkExplanation, addrs []status.AddressExplanation) {
	for _, a := range x.Snapshot.Addrs {
		if a.IP() != ip {
			continue
		}
		if l, ok := x.Snapshot.LinkByIndex(a.Link); ok {
			links = append(links, x.link(l))
		}
		addrs = append(addrs, x.addr(a))
	}
	if len(addrs) > 0 {
		return links, addrs
	}
	lost := status.AddressExplanation{Address: ip.String(), Endpoint: x.endpoint(ip, 0), Reason: "no link has it"}
	lost.Rules, lost.MissingRules = x.rules(ip)
	if lost.Endpoint != nil || len(lost.Rules)+len(lost.MissingRules) > 0 {
		if lost.Endpoint != nil {
			lost.Reason += "; " + lost.Endpoint.Reason
		}
		lost.RulesReason = "no link has it"
		addrs = append(addrs, lost)
	}
	return nil, addrs
}

func (x explainer) addr(a netstate.Addr) status.AddressExplanation {
	ip := a.IP()
	out := status.AddressExplanation{
		Address: a.Local.String(), Link: x.Names.Name(a.Link), Ifindex: a.Link, Flags: flags(a), Endpoint: x.endpoint(ip, a.Link),
	}
	if a.Peer.IsValid() {
		out.Address, out.Peer = ip.String(), a.Peer.String()
	}
	if why := unusable(a); why != "" {
		out.Rules, _ = x.rules(ip)
		out.RulesReason, out.Reason = why, why
		return out
	}
	var path *plan.Path
	var said plan.PathAddr
	for i, p := range x.Plan.Paths {
		for _, pa := range p.Addrs {
			if p.Link == a.Link && pa.IP == ip {
				path, said = &x.Plan.Paths[i], pa
			}
		}
	}
	out.Reason = said.Reason
	switch {
	case path == nil:
		l, _ := x.Snapshot.LinkByIndex(a.Link)
		out.Reason = fmt.Sprintf("%s is no %s path: %s", l.Name, a.Family(), x.family(l, a.Family()).Reason)
		out.RulesReason = out.Reason
	case said.Rules:
		out.Rules, out.MissingRules = x.rules(ip)
		out.RulesReason = fmt.Sprintf("what leaves from it goes by %s", path.Name)
	default:
		out.RulesReason = said.Reason
	}
	return out
}

// flags are those of ip-address(8) that decide something.
func flags(a netstate.Addr) []string {
	var out []string
	temporary := "temporary"
	if a.Family() == netstate.IPv4 {
		temporary = "secondary"
	}
	for _, f := range []struct {
		bit  uint32
		name string
	}{
		{netstate.AddrTemporary, temporary},
		{netstate.AddrDeprecated, "deprecated"},
		{netstate.AddrTentative, "tentative"},
		{netstate.AddrDADFailed, "dadfailed"},
	} {
		if a.Flags&f.bit != 0 {
			out = append(out, f.name)
		}
	}
	return out
}

// unusable says why an address can never serve, or not now.
func unusable(a netstate.Addr) string {
	switch {
	case a.Flags&netstate.AddrDADFailed != 0:
		return "another host on the link has it already (duplicate address detection failed)"
	case a.Flags&netstate.AddrTentative != 0:
		return "it is tentative: duplicate address detection is not over"
	case a.IP().IsLoopback() || a.Scope == netstate.ScopeHost:
		return "it is good within this host only"
	case !netstate.Routable(a.IP()):
		return "it is link-local: no router takes it further"
	case a.Kept():
		return "its scope is not global: the kernel does not take it for what leaves the link"
	}
	return ""
}

// rules are our source rules of an address, and those that are missing.
func (x explainer) rules(ip netip.Addr) (there, missing []string) {
	var have []netstate.Rule
	for _, r := range x.Snapshot.Rules {
		if r.From.IsValid() && r.From.Addr() == ip && x.Owned.OwnsRule(x.Config.Routing.Protocol, r) {
			have = append(have, r)
			there = append(there, r.Text())
		}
	}
	for _, s := range x.Plan.RuleSets {
		for _, r := range s.Rules {
			if s.Addr == ip && !slices.Contains(have, r) {
				missing = append(missing, r.Text())
			}
		}
	}
	return there, missing
}

// endpoint is the endpoint of an address, preferably that on the link.
func (x explainer) endpoint(ip netip.Addr, link int) *status.Endpoint {
	var found *status.Endpoint
	for _, e := range endpoints(x.View) {
		if e.Address == ip.String() && (found == nil || e.Ifindex == link && e.Port == 0) {
			found = &e
		}
	}
	if found != nil && link != 0 && found.Ifindex != link && found.State != status.Foreign {
		return nil // that of the same address on another link
	}
	return found
}
