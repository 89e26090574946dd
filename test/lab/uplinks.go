package lab

import (
	"errors"
	"strings"
)

// CheckUplinks judges, by `ip route get` and `ip mptcp endpoint` alone, whether the client is as a host with Multipath TCP
// should be when these paths, and no other, are its uplinks: from each of their addresses, in each family that the lab
// has, traffic to the server leaves by the path's link and gateway, traffic to a neighbour by the link itself; and the
// endpoints are one for each path and family, with the temporary IPv6 address where there is one. flags are those of
// the endpoints: "subflow".
func (n *Net) CheckUplinks(flags string, paths ...*Path) error {
	n.T.Helper()
	errs := []error{n.CheckSourceRouting(paths...)}
	var want []string
	for _, p := range paths {
		if n.V4 {
			want = append(want, p.Addr+" "+flags+" dev "+p.Dev)
		}
		if a := p.preferred6(); n.V6 && a != "" {
			want = append(want, a+" "+flags+" dev "+p.Dev)
		}
	}
	return errors.Join(append(errs, n.Client.CheckEndpoints(want...))...)
}

// CheckSourceRouting is the part of CheckUplinks that concerns routes.
func (n *Net) CheckSourceRouting(paths ...*Path) error {
	n.T.Helper()
	var errs []error
	for _, p := range paths {
		if n.V4 {
			near := p.Addr[:strings.LastIndexByte(p.Addr, '.')] + ".99"
			errs = append(errs,
				n.Client.CheckRoute(n.ServerAddr, "from "+p.Addr, "dev "+p.Dev+" via "+p.Gateway),
				n.Client.CheckRoute(near, "from "+p.Addr, "dev "+p.Dev))
		}
		if !n.V6 {
			continue
		}
		via := p.Gateway6
		if n.RA != nil {
			via = n.Router.linkLocal(p.routerDev)
		}
		for _, a := range append(n.Client.Addrs6(p.Dev, false), n.Client.Addrs6(p.Dev, true)...) {
			errs = append(errs,
				n.Client.CheckRoute(n.ServerAddr6, "from "+a, "dev "+p.Dev+" via "+via),
				n.Client.CheckRoute(strings.TrimSuffix(p.Prefix6, "/64")+"99", "from "+a, "dev "+p.Dev))
		}
	}
	return errors.Join(errs...)
}

// preferred6 is the address that the kernel picks for an unbound socket on the link: a temporary one where there is one.
func (p *Path) preferred6() string {
	for _, temporary := range []bool{true, false} {
		if a := p.A.Addrs6(p.Dev, temporary); len(a) > 0 {
			return a[0]
		}
	}
	return ""
}

// linkLocal is the address that router advertisements on a link come from.
func (h *Host) linkLocal(dev string) string {
	h.Lab.T.Helper()
	w := strings.Fields(h.IP("-6 -o addr show dev " + dev + " scope link"))
	if len(w) < 4 {
		h.Lab.T.Fatalf("[%s] %s has no link-local address", h.Name, dev)
	}
	return strings.SplitN(w[3], "/", 2)[0]
}
