package reconcile

import (
	"hash/maphash"
	"net/netip"
	"strconv"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
)

type objectKind uint8

const (
	objectRoute objectKind = iota + 1
	objectRules
	objectEndpoint
	objectLimits
)

// object is what is repaired, delayed and reported as a whole. The rules of an
// address are one: an exchange appends the whole new set before it deletes the
// old one, and doing half of it could leave the address without any.
type object struct {
	kind   objectKind
	family netstate.Family
	table  uint32
	dst    netip.Prefix
	src    netip.Prefix
	addr   netip.Addr
}

func routeObject(r netstate.Route) object {
	return object{kind: objectRoute, family: r.Family, table: r.Table, dst: r.Dst, src: r.SrcPrefix}
}

func rulesObject(f netstate.Family, a netip.Addr) object {
	return object{kind: objectRules, family: f, addr: a}
}

func endpointObject(a netip.Addr) object { return object{kind: objectEndpoint, addr: a} }

// objectOf is the object that a change is about.
func objectOf(c netstate.Change) object {
	switch c.Op {
	case netstate.RouteAdd, netstate.RouteReplace, netstate.RouteDelete:
		return routeObject(c.Route)
	case netstate.RuleAppend, netstate.RuleDelete:
		return rulesObject(c.Rule.Family, c.Rule.From.Addr())
	case netstate.EndpointAdd, netstate.EndpointSet, netstate.EndpointDelete:
		return endpointObject(c.Endpoint.Addr)
	}
	return object{kind: objectLimits}
}

// String names the object for people: "rules of 10.1.1.2".
func (o object) String() string {
	switch o.kind {
	case objectRoute:
		dst := "default"
		if o.dst.Bits() > 0 {
			dst = o.dst.String()
		}
		if o.src.IsValid() {
			dst += " from " + o.src.String()
		}
		return "route " + dst + " table " + strconv.FormatUint(uint64(o.table), 10)
	case objectRules:
		return "rules of " + o.addr.String()
	case objectEndpoint:
		return "endpoint " + o.addr.String()
	}
	return "limits"
}

// kinds are the kinds of state that the object is read by.
func (o object) kinds() netstate.Kinds {
	switch o.kind {
	case objectRoute:
		return netstate.KindRoutes
	case objectRules:
		return netstate.KindRules
	}
	return netstate.KindEndpoints
}

// wish is a digest of what the plan wants of an object; 0: that it be absent.
type wish uint64

var seed = maphash.MakeSeed()

func digest[T comparable](v T) wish { return wish(maphash.Comparable(seed, v)) }

// wishes digests a plan, by object. Two plans that want the same of an object
// have the same digest of it.
func wishes(p *plan.Plan) map[object]wish {
	w := make(map[object]wish, len(p.Routes)+len(p.RuleSets)+len(p.Endpoints)+1)
	for _, r := range p.Routes {
		r.ExpiresIn, r.LinkDown = 0, false // never compared
		w[routeObject(r.Route)] += digest(r.Route)
	}
	for _, s := range p.RuleSets {
		var d wish
		for _, r := range s.Rules {
			d = d*31 + digest(r)
		}
		w[rulesObject(s.Family, s.Addr)] += d
	}
	for _, list := range [][]plan.Endpoint{p.Endpoints, p.Waning} {
		for _, e := range list {
			w[endpointObject(e.Addr)] += digest(e.Endpoint)
		}
	}
	if p.Limits != nil {
		w[object{kind: objectLimits}] = digest(*p.Limits)
	}
	return w
}
