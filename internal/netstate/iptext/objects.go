package iptext

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/subflowd/subflowd/internal/netstate"
)

// link reads "INDEX NAME [down] [no-carrier] [loopback] [kind K] [type T]
// [driver D] [mac M] [master INDEX] [port KIND] [p2p]"; a link is up otherwise.
func (p *parser) link(w []string) error {
	if len(w) < 2 {
		return fmt.Errorf("want INDEX NAME")
	}
	i, err := strconv.Atoi(w[0])
	if err != nil {
		return err
	}
	l := netstate.Link{
		Index: i, Name: w[1], Type: 1, MTU: 1500,
		Flags: netstate.FlagUp | netstate.FlagLowerUp | netstate.FlagMulticast, OperState: 6,
	}
	for k := 2; k < len(w); k++ {
		arg := ""
		if k+1 < len(w) {
			arg = w[k+1]
		}
		switch w[k] {
		case "down":
			l.Flags &^= netstate.FlagUp | netstate.FlagLowerUp
			l.OperState = 2
			continue
		case "no-carrier":
			l.Flags &^= netstate.FlagLowerUp
			l.OperState = 2
			continue
		case "loopback":
			l.Flags |= netstate.FlagLoopback
			l.Type = 772
			continue
		case "p2p":
			l.Flags |= netstate.FlagP2P
			continue
		case "kind":
			l.Kind = arg
		case "type":
			l.DevType = arg
		case "driver":
			l.Driver = arg
		case "mac":
			l.MAC = arg
		case "port":
			l.PortKind = arg
		case "master":
			if l.Master, err = strconv.Atoi(arg); err != nil {
				return err
			}
		default:
			return fmt.Errorf("unknown word %q", w[k])
		}
		k++
	}
	p.index[l.Name] = l.Index
	p.snap.Links = append(p.snap.Links, l)
	return nil
}

func (p *parser) addr(w []string) (a netstate.Addr, err error) {
	if len(w) == 0 {
		return a, fmt.Errorf("want ADDRESS")
	}
	if a.Local, err = prefix(w[0]); err != nil {
		return a, err
	}
	for k := 1; k < len(w); k++ {
		switch w[k] {
		case "tentative":
			a.Flags |= netstate.AddrTentative
		case "dadfailed":
			a.Flags |= netstate.AddrDADFailed
		case "deprecated":
			a.Flags |= netstate.AddrDeprecated
		case "temporary", "secondary":
			a.Flags |= netstate.AddrTemporary
		case "dev", "peer", "scope":
			if k+1 == len(w) {
				return a, fmt.Errorf("%s needs a value", w[k])
			}
			if err = p.addrArg(&a, w[k], w[k+1]); err != nil {
				return a, err
			}
			k++
		default:
			return a, fmt.Errorf("unknown word %q", w[k])
		}
	}
	if a.IP().IsLinkLocalUnicast() && a.IP().Is6() {
		a.Scope = netstate.ScopeLink
	}
	return a, nil
}

func (p *parser) addrArg(a *netstate.Addr, key, val string) (err error) {
	switch key {
	case "dev":
		a.Link, err = p.dev(val)
	case "peer":
		val, _, _ = strings.Cut(val, "/")
		a.Peer, err = netip.ParseAddr(val)
	case "scope":
		a.Scope, err = scope(val)
	}
	return err
}

func scope(s string) (uint8, error) {
	switch s {
	case "global":
		return netstate.ScopeGlobal, nil
	case "link":
		return netstate.ScopeLink, nil
	case "host":
		return netstate.ScopeHost, nil
	}
	n, err := strconv.ParseUint(s, 10, 8)
	return uint8(n), err
}

func prefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		ip, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, err
		}
		return netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	return netip.ParsePrefix(s)
}

// route reads the arguments of `ip route add`; "route6" stands for `ip -6
// route`, which a default without gateway needs.
func (p *parser) route(word string, w []string) (r netstate.Route, err error) {
	r = netstate.Route{Type: netstate.Unicast, Table: netstate.TableMain, Protocol: netstate.ProtoBoot}
	if word == "route6" {
		r.Family = netstate.IPv6
	} else if word == "route4" {
		r.Family = netstate.IPv4
	}
	if len(w) > 0 {
		for t := netstate.Unicast; t <= netstate.Throw; t++ {
			if t.String() == w[0] {
				r.Type, w = t, w[1:]
				break
			}
		}
	}
	if len(w) == 0 {
		return r, fmt.Errorf("want a destination")
	}
	dst, metric := w[0], false
	for k := 1; k < len(w); k++ {
		switch w[k] {
		case "onlink":
			r.OnLink = true
			continue
		case "linkdown":
			r.LinkDown = true
			continue
		case "multipath":
			r.Multipath = true
			continue
		case "expired":
			r.ExpiresIn = -time.Second
			continue
		}
		if k+1 == len(w) {
			return r, fmt.Errorf("%s needs a value", w[k])
		}
		if w[k+1] == "inet6" || w[k+1] == "lock" {
			if w[k+1] == "lock" {
				r.MTULock = true
			} else if r.Family == 0 {
				r.Family = netstate.IPv4
			}
			w = append(w[:k+1:k+1], w[k+2:]...)
		}
		metric = metric || w[k] == "metric"
		if err = p.routeArg(&r, w[k], w[k+1]); err != nil {
			return r, err
		}
		k++
	}
	return finish(r, dst, metric)
}

// finish fills in what depends on the family.
func finish(r netstate.Route, dst string, metric bool) (netstate.Route, error) {
	if dst != "default" {
		pfx, err := prefix(dst)
		if err != nil {
			return r, err
		}
		r.Dst, r.Family = pfx.Masked(), netstate.FamilyOf(pfx.Addr())
	} else {
		if r.Family == 0 {
			r.Family = netstate.IPv4
			if r.Gateway.Is6() {
				r.Family = netstate.IPv6
			}
		}
		r.Dst = r.Family.Default()
	}
	if r.Family == netstate.IPv6 && !metric {
		r.Metric = 1024 // what the kernel makes of none
	}
	if r.Family == netstate.IPv4 && r.Type == netstate.Unicast && !r.Gateway.IsValid() {
		r.Scope = netstate.ScopeLink
	}
	return r, nil
}

func (p *parser) routeArg(r *netstate.Route, key, val string) (err error) {
	num := func(bits int) uint32 {
		var n uint64
		n, err = strconv.ParseUint(val, 10, bits)
		return uint32(n)
	}
	switch key {
	case "via":
		r.Gateway, err = netip.ParseAddr(val)
	case "dev":
		r.Link, err = p.dev(val)
	case "table":
		r.Table, err = table(val)
	case "proto":
		r.Protocol, err = protocol(val)
	case "metric":
		r.Metric = num(32)
	case "tos":
		r.TOS = uint8(num(8))
	case "mtu":
		r.MTU = num(32)
	case "advmss":
		r.AdvMSS = num(32)
	case "initcwnd":
		r.InitCwnd = num(32)
	case "nhid":
		r.NexthopID = num(32)
	case "src":
		r.PrefSrc, err = netip.ParseAddr(val)
	case "from":
		r.SrcPrefix, err = prefix(val)
	case "scope":
		r.Scope, err = scope(val)
	case "expires":
		r.ExpiresIn, err = time.ParseDuration(val)
	case "pref":
		r.Pref = map[string]netstate.Pref{"high": netstate.PrefHigh, "low": netstate.PrefLow}[val]
	default:
		metric := key + " " + val
		if _, err := netstate.ParseMetrics(metric); err != nil {
			return fmt.Errorf("unknown word %q: %w", key, err)
		}
		r.Metrics = strings.TrimSpace(r.Metrics + " " + metric)
	}
	return err
}

func table(s string) (uint32, error) {
	switch s {
	case "main":
		return netstate.TableMain, nil
	case "local":
		return netstate.TableLocal, nil
	case "default":
		return netstate.TableDefault, nil
	}
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}

func protocol(s string) (uint8, error) {
	for i := range 256 {
		if netstate.ProtocolName(uint8(i)) == s {
			return uint8(i), nil
		}
	}
	return 0, fmt.Errorf("unknown protocol %q", s)
}

func (p *parser) endpoint(w []string) (e netstate.Endpoint, err error) {
	if len(w) == 0 {
		return e, fmt.Errorf("want ADDRESS")
	}
	if e.Addr, err = netip.ParseAddr(w[0]); err != nil {
		return e, err
	}
	flags := map[string]netstate.EndpointFlags{}
	for f := netstate.SignalFlag; f <= netstate.LaminarFlag; f <<= 1 {
		flags[f.String()] = f
	}
	for k := 1; k < len(w); k++ {
		if f, ok := flags[w[k]]; ok {
			e.Flags |= f
			continue
		}
		if k+1 == len(w) {
			return e, fmt.Errorf("unknown word %q", w[k])
		}
		var n uint64
		switch w[k] {
		case "dev":
			e.Link, err = p.dev(w[k+1])
		case "id":
			n, err = strconv.ParseUint(w[k+1], 10, 8)
			e.ID = uint8(n)
		case "port":
			n, err = strconv.ParseUint(w[k+1], 10, 16)
			e.Port = uint16(n)
		default:
			err = fmt.Errorf("unknown word %q", w[k])
		}
		if err != nil {
			return e, err
		}
		k++
	}
	return e, nil
}

func (p *parser) limits(w []string) error {
	if len(w) != 4 || w[0] != "subflows" || w[2] != "add_addr_accepted" {
		return fmt.Errorf("want subflows N add_addr_accepted N")
	}
	a, err := strconv.ParseUint(w[1], 10, 32)
	if err != nil {
		return err
	}
	b, err := strconv.ParseUint(w[3], 10, 32)
	p.snap.Limits = netstate.Limits{Subflows: uint32(a), AddAddrAccepted: uint32(b)}
	return err
}
