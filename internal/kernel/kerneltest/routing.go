package kerneltest

import (
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"github.com/subflowd/subflowd/internal/netstate"
)

// sameKey tells whether the kernel keeps only one of two routes (IPv4), or
// merges them (IPv6): the protocol is no part of its key.
func sameKey(a, b netstate.Route) bool {
	ka, kb := a.Key(), b.Key()
	ka.Protocol, kb.Protocol = 0, 0
	return ka == kb
}

func (f *Fake) addRoute(r netstate.Route, replace bool) error {
	r, err := f.normalRoute(r)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(f.now.Routes, func(o netstate.Route) bool { return sameKey(o, r) })
	switch {
	case i < 0:
		f.now.Routes = append(f.now.Routes, r)
	case replace:
		f.now.Routes[i] = r
	case slices.ContainsFunc(f.now.Routes, r.Same):
	default:
		return fmt.Errorf("an object that is not ours is in the way: %s: %w", f.now.Routes[i], syscall.EEXIST)
	}
	return nil
}

// normalRoute is the route as the kernel would show it, or its refusal.
func (f *Fake) normalRoute(r netstate.Route) (netstate.Route, error) {
	if r.Family == netstate.IPv6 && r.Metric == 0 {
		r.Metric = 1024
	}
	if r.Type != netstate.Unicast {
		r.Link = 0
		if r.Family == netstate.IPv6 {
			lo := f.loopback()
			if l, ok := f.now.LinkByIndex(lo); !ok || !l.Up() {
				return r, syscall.ENETDOWN
			}
			r.Link = lo
		}
		return r, nil
	}
	l, ok := f.now.LinkByIndex(r.Link)
	switch {
	case !ok:
		return r, syscall.ENODEV
	case !l.Up():
		return r, syscall.ENETDOWN
	case !r.Gateway.IsValid():
		if r.Family == netstate.IPv4 {
			r.Scope = netstate.ScopeLink
		}
	case !r.OnLink && !f.onLink(r):
		return r, fmt.Errorf("nexthop has invalid gateway: %w", syscall.ENETUNREACH)
	}
	r.LinkDown = !l.Carrier()
	return r, nil
}

// onLink tells whether a route without gateway by the same link covers the
// gateway, in the same table or in main.
func (f *Fake) onLink(r netstate.Route) bool {
	if r.Gateway.IsLinkLocalUnicast() {
		return true
	}
	return slices.ContainsFunc(f.now.Routes, func(o netstate.Route) bool {
		return o.Link == r.Link && !o.Gateway.IsValid() && o.Type == netstate.Unicast && o.Dst.Contains(r.Gateway) &&
			(o.Table == r.Table || o.Table == netstate.TableMain)
	})
}

func (f *Fake) loopback() int {
	for _, l := range f.now.Links {
		if l.Loopback() {
			return l.Index
		}
	}
	return 1
}

func (f *Fake) deleteRoute(r netstate.Route) error {
	if r.Family == netstate.IPv6 && r.Metric == 0 {
		r.Metric = 1024
	}
	i := slices.IndexFunc(f.now.Routes, func(o netstate.Route) bool {
		if o.Key() != r.Key() || o.Type != r.Type || r.Gateway.IsValid() && o.Gateway != r.Gateway {
			return false
		}
		return r.Type != netstate.Unicast || r.Link == 0 || o.Link == r.Link
	})
	if i >= 0 {
		f.now.Routes = slices.Delete(f.now.Routes, i, i+1)
	}
	return nil
}

// appendRule puts a rule behind all of its priority. There is no check for
// duplicates: rules are added without NLM_F_EXCL.
func (f *Fake) appendRule(r netstate.Rule) error {
	if r.Action == netstate.ActLookup && r.Table == 0 {
		return syscall.EINVAL
	}
	f.now.Rules = append(f.now.Rules, r)
	f.sortRules()
	return nil
}

func (f *Fake) sortRules() {
	slices.SortStableFunc(f.now.Rules, func(a, b netstate.Rule) int {
		if a.Family != b.Family {
			return int(a.Family) - int(b.Family)
		}
		return int(int64(a.Priority) - int64(b.Priority))
	})
}

// deleteRule removes the first match; an absent suppress_prefixlength matches
// any, as in the kernel (net/core/fib_rules.c).
func (f *Fake) deleteRule(r netstate.Rule) error {
	i := slices.IndexFunc(f.now.Rules, func(o netstate.Rule) bool {
		if r.Suppress == netstate.NoSuppress {
			o.Suppress = netstate.NoSuppress
		}
		return o == r
	})
	if i >= 0 {
		f.now.Rules = slices.Delete(f.now.Rules, i, i+1)
	}
	return nil
}

// flush takes the routes of a link away, of one family, from every table.
func (f *Fake) flush(link int, family netstate.Family, except func(netstate.Route) bool) {
	f.now.Routes = slices.DeleteFunc(f.now.Routes, func(r netstate.Route) bool {
		return r.Link == link && r.Family == family && (except == nil || !except(r))
	})
}

// connected is the route that the kernel makes for an address.
func connected(a netstate.Addr) netstate.Route {
	r := netstate.Route{
		Family: a.Family(), Table: netstate.TableMain, Dst: a.Local.Masked(), Type: netstate.Unicast,
		Protocol: netstate.ProtoKernel, Link: a.Link,
	}
	if a.Peer.IsValid() {
		r.Dst = netip.PrefixFrom(a.Peer, a.Local.Bits()).Masked()
	}
	if r.Family == netstate.IPv4 {
		r.Scope, r.PrefSrc = netstate.ScopeLink, a.IP()
	} else {
		r.Metric = 256
	}
	return r
}
