package control

import (
	"errors"
	"net/netip"
	"syscall"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
	"github.com/subflowd/subflowd/pkg/status"
)

// destination asks the kernel how it reaches a destination: unbound, and from
// each address of each path of its family.
func (x explainer) destination(dst netip.Addr, lookup LookupFunc) []status.Lookup {
	unbound, err := lookup(dst, netip.Addr{})
	out := []status.Lookup{{Found: x.wayOut(unbound, err), Right: err == nil}}
	ruled := map[netip.Addr]bool{}
	for _, s := range x.Plan.RuleSets {
		ruled[s.Addr] = true
	}
	for _, p := range x.Plan.Paths {
		if p.Family != netstate.FamilyOf(dst) {
			continue
		}
		for _, a := range p.Addrs {
			if !a.Rules && ruled[a.IP] {
				continue // it is another path's
			}
			found, err := lookup(dst, a.IP)
			l := status.Lookup{From: a.IP.String(), Link: p.Name, Found: x.wayOut(found, err), Right: true}
			if a.Rules {
				want := x.expected(p, dst)
				l.Wanted = x.wayOut(want, nil)
				l.Right = err == nil && found.Link == want.Link && found.Gateway == want.Gateway
			}
			out = append(out, l)
		}
	}
	return out
}

// expected is the route by which a path should reach a destination: main's
// specific routes first, then the path's own, and of two links in one subnet the
// path's own at equal length.
func (x explainer) expected(p plan.Path, dst netip.Addr) netstate.Route {
	best := netstate.Route{Link: p.Link, Dst: p.Family.Default()}
	for _, r := range x.Plan.Routes {
		if r.Table == p.Table && r.Family == p.Family && r.Type == netstate.Unicast && r.Dst.Contains(dst) && better(r.Route, best) {
			best = r.Route
		}
	}
	if !x.Config.Routing.MainFirst {
		return best
	}
	specific := netstate.Route{Dst: p.Family.Default()}
	for _, r := range x.Snapshot.Routes {
		if r.Table == netstate.TableMain && r.Family == p.Family && !r.Default() && r.Dst.Contains(dst) && better(r, specific) {
			specific = r
		}
	}
	switch bits := specific.Dst.Bits(); {
	case bits == 0:
	case len(p.Shared) == 0 || bits > best.Dst.Bits():
		return specific
	}
	return best
}

// better tells whether a route comes before another one to the same address.
func better(r, than netstate.Route) bool {
	if r.Dst.Bits() != than.Dst.Bits() {
		return r.Dst.Bits() > than.Dst.Bits()
	}
	return than.Type == 0 || r.Metric < than.Metric
}

// wayOut is a route in the words of ip-route(8): "via 10.1.1.1 dev eth0".
func (x explainer) wayOut(r netstate.Route, err error) string {
	if err != nil {
		var errno syscall.Errno
		if errors.As(err, &errno) {
			return "no way: " + errno.Error()
		}
		return err.Error()
	}
	if r.Type != netstate.Unicast && r.Type != 0 {
		return r.Type.String()
	}
	s := "dev " + x.Names.Name(r.Link)
	if r.Gateway.IsValid() {
		s = "via " + r.Gateway.String() + " " + s
	}
	return s
}
