// Package iptext reads and writes snapshots in the words of ip(8), a line an
// object, so that tests and people compare command lines and not structs.
//
//	link 2 eth0 no-carrier kind veth
//	addr 10.1.1.2/24 dev eth0
//	route default via 10.1.1.1 dev eth0 proto dhcp metric 100
//	rule 32765: from 10.1.1.2 lookup 100002 proto 77
//	endpoint 10.1.1.2 dev eth0 id 1 subflow
//	limits subflows 2 add_addr_accepted 0
//	preferred 10.1.1.2 dev eth0
//	outbound 4 tun0 tun0
//	unbound 10.1.1.2 dev ppp0
//
// What a line does not say has the value that a plain `ip` command gives it.
package iptext

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/subflowd/subflowd/internal/netstate"
)

// Snapshot reads a whole snapshot. MPTCP is present and enabled with 8 slots,
// and the three standing rules of each family exist, unless lines say otherwise
// ("mptcp absent", "mptcp disabled", "mptcp slots 3", "norules"). Blank lines
// and what follows a # are skipped.
func Snapshot(text string) (*netstate.Snapshot, error) {
	p := parser{
		snap: &netstate.Snapshot{
			Preferred:     map[netstate.LinkFamily]netip.Addr{},
			LeaseGateways: map[netstate.LinkFamily]netip.Addr{},
			Outbound:      map[netstate.Family][2]int{},
			Unbound:       map[netstate.Family]netstate.Way{},
			Limits:        netstate.Limits{Subflows: 2},
			MPTCP:         netstate.MPTCP{Present: true, Enabled: true, MaxEndpoints: 8, MaxLimit: 8},
		},
		index: map[string]int{},
	}
	standing := true
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if words[0] == "norules" {
			standing = false
			continue
		}
		if err := p.line(words); err != nil {
			return nil, fmt.Errorf("line %d %q: %w", i+1, strings.TrimSpace(line), err)
		}
	}
	if standing {
		p.snap.Rules = withStanding(p.snap.Rules)
	}
	return p.snap, nil
}

// MustSnapshot is Snapshot for text that is part of a test.
func MustSnapshot(text string) *netstate.Snapshot {
	s, err := Snapshot(text)
	if err != nil {
		panic(err)
	}
	return s
}

// withStanding puts the rules that every namespace is born with around the
// given ones, which keep their order within one priority.
func withStanding(rules []netstate.Rule) []netstate.Rule {
	var out []netstate.Rule
	for _, f := range netstate.Families {
		all := []netstate.Rule{
			lookup(f, 0, netstate.TableLocal),
			lookup(f, 32766, netstate.TableMain),
		}
		if f == netstate.IPv4 {
			all = append(all, lookup(f, 32767, netstate.TableDefault))
		}
		for _, r := range rules {
			if r.Family == f {
				all = insertRule(all, r)
			}
		}
		out = append(out, all...)
	}
	return out
}

func lookup(f netstate.Family, prio, table uint32) netstate.Rule {
	return netstate.Rule{
		Family: f, Priority: prio, Action: netstate.ActLookup, Table: table,
		Suppress: netstate.NoSuppress, Protocol: netstate.ProtoKernel,
	}
}

// insertRule puts a rule behind all of its priority, as the kernel does.
func insertRule(rules []netstate.Rule, r netstate.Rule) []netstate.Rule {
	i := 0
	for i < len(rules) && rules[i].Priority <= r.Priority {
		i++
	}
	return append(rules[:i], append([]netstate.Rule{r}, rules[i:]...)...)
}

type parser struct {
	snap  *netstate.Snapshot
	index map[string]int
}

func (p *parser) line(words []string) error {
	rest := words[1:]
	switch words[0] {
	case "link":
		return p.link(rest)
	case "addr":
		a, err := p.addr(rest)
		p.snap.Addrs = append(p.snap.Addrs, a)
		return err
	case "route", "route4", "route6":
		r, err := p.route(words[0], rest)
		p.snap.Routes = append(p.snap.Routes, r)
		return err
	case "rule", "rule4", "rule6":
		r, err := Rule(strings.Join(words, " "))
		p.snap.Rules = append(p.snap.Rules, r)
		return err
	case "endpoint":
		e, err := p.endpoint(rest)
		p.snap.Endpoints = append(p.snap.Endpoints, e)
		return err
	case "limits":
		return p.limits(rest)
	case "mptcp":
		return p.mptcp(rest)
	case "outbound":
		return p.outbound(rest)
	case "preferred", "lease", "unbound":
		return p.perLink(words[0], rest)
	}
	return fmt.Errorf("unknown object %q", words[0])
}

func (p *parser) mptcp(words []string) error {
	switch {
	case len(words) == 1 && words[0] == "absent":
		p.snap.MPTCP = netstate.MPTCP{}
	case len(words) == 1 && words[0] == "disabled":
		p.snap.MPTCP.Enabled = false
	case len(words) == 1 && words[0] == "userspace":
		p.snap.MPTCP.UserspacePM = true
	case len(words) == 2 && words[0] == "slots":
		n, err := strconv.Atoi(words[1])
		p.snap.MPTCP.MaxEndpoints, p.snap.MPTCP.MaxLimit = n, uint32(n)
		return err
	default:
		return fmt.Errorf("want absent, disabled, userspace or slots N")
	}
	return nil
}

// perLink reads "preferred ADDR dev LINK", "unbound ADDR dev LINK" and "lease
// ROUTER dev LINK".
func (p *parser) perLink(what string, words []string) error {
	if len(words) != 3 || words[1] != "dev" {
		return fmt.Errorf("want ADDRESS dev LINK")
	}
	ip, err := netip.ParseAddr(words[0])
	if err != nil {
		return err
	}
	i, err := p.dev(words[2])
	key := netstate.LinkFamily{Link: i, Family: netstate.FamilyOf(ip)}
	switch what {
	case "lease":
		p.snap.LeaseGateways[key] = ip
	case "unbound":
		p.snap.Unbound[key.Family] = netstate.Way{Link: i, Source: ip}
	default:
		p.snap.Preferred[key] = ip
	}
	return err
}

// outbound reads "4 LINK LINK" or "6 LINK LINK".
func (p *parser) outbound(words []string) error {
	if len(words) != 3 || words[0] != "4" && words[0] != "6" {
		return fmt.Errorf("want 4 or 6, and two links")
	}
	low, err := p.dev(words[1])
	if err != nil {
		return err
	}
	high, err := p.dev(words[2])
	f := netstate.IPv4
	if words[0] == "6" {
		f = netstate.IPv6
	}
	p.snap.Outbound[f] = [2]int{low, high}
	return err
}

func (p *parser) dev(name string) (int, error) {
	if i, ok := p.index[name]; ok {
		return i, nil
	}
	if n, ok := strings.CutPrefix(name, "if"); ok {
		if i, err := strconv.Atoi(n); err == nil {
			return i, nil
		}
	}
	return 0, fmt.Errorf("no link %q above", name)
}
