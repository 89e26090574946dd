//go:build bench

package bench

import (
	"net/netip"
	"os"
	"runtime"

	"github.com/subflowd/subflowd/internal/kernel"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/record"
)

// carefulLoop is the bare loop with what no daemon can leave out that believes no event and may be killed at any time: it
// reads the addresses of the link and the table main, and writes the state record before it asks for the endpoint. It uses
// the daemon's own reading, writing and requests, and decides nothing. What the daemon takes beyond it is what its
// decisions cost.
func carefulLoop() error {
	runtime.GOMAXPROCS(1) // like the daemon
	k, err := kernel.Open(kernel.Options{Protocol: 77, TableBase: 100000})
	if err != nil {
		return err
	}
	snap, err := k.Refresh(netstate.Hints{Full: true, Kinds: netstate.KindAll})
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("/dev/shm", "subflowd-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	store, _, err := record.Open(dir, "", 0)
	if err != nil {
		return err
	}
	c := careful{k: k, store: store}
	for _, l := range snap.Links {
		if l.Name == newLink {
			c.link = l.Index
		}
	}
	c.make()
	limits := netstate.Change{Op: netstate.LimitsSet, Limits: netstate.Limits{Subflows: 2, AddAddrAccepted: 4}}
	return follow(func() error { return c.apply(limits) }, c.up, c.down)
}

type careful struct {
	k        *kernel.Kernel
	store    *record.Store
	link     int
	routing  []netstate.Change
	endpoint netstate.Endpoint
}

// make writes the requests for the one uplink down.
func (c *careful) make() {
	table := uint32(100000 + c.link)
	addr := netip.MustParseAddr(newAddr)
	route := func(dst string, gateway netip.Addr, scope uint8) netstate.Change {
		return netstate.Change{Op: netstate.RouteAdd, Route: netstate.Route{
			Family: netstate.IPv4, Table: table, Dst: netip.MustParsePrefix(dst), Type: netstate.Unicast, Protocol: 77, Link: c.link, Gateway: gateway, Scope: scope,
		}}
	}
	rule := func(table uint32, suppress int32) netstate.Change {
		return netstate.Change{Op: netstate.RuleAppend, Rule: netstate.Rule{
			Family: netstate.IPv4, Priority: 32765, From: netip.PrefixFrom(addr, 32), Action: netstate.ActLookup, Table: table, Suppress: suppress, Protocol: 77,
		}}
	}
	c.routing = []netstate.Change{
		route("10.1.2.0/24", netip.Addr{}, netstate.ScopeLink), route("0.0.0.0/0", netip.MustParseAddr(newGateway), 0),
		rule(netstate.TableMain, 0), rule(table, netstate.NoSuppress),
	}
	c.endpoint = netstate.Endpoint{Addr: addr, Link: c.link, Flags: netstate.SubflowFlag}
}

func (c *careful) up() error {
	_, err := c.k.Refresh(netstate.Hints{
		Kinds: netstate.KindAddrs | netstate.KindRoutes, Links: map[int]struct{}{c.link: {}}, Family: netstate.IPv4, Added: true,
	})
	if err != nil {
		return err
	}
	if err := c.apply(c.routing...); err != nil {
		return err
	}
	if err := c.store.Announce(c.endpoint); err != nil {
		return err
	}
	return c.apply(netstate.Change{Op: netstate.EndpointAdd, Endpoint: c.endpoint})
}

func (c *careful) down() error {
	snap, err := c.k.Refresh(netstate.Hints{Kinds: netstate.KindAll})
	if err != nil {
		return err
	}
	for _, e := range snap.Endpoints {
		if e.Addr == c.endpoint.Addr {
			if err := c.apply(netstate.Change{Op: netstate.EndpointDelete, Endpoint: e}); err != nil {
				return err
			}
		}
	}
	if err := c.store.Forget(c.endpoint); err != nil {
		return err
	}
	for _, r := range c.routing {
		if r.Op == netstate.RuleAppend {
			r.Op = netstate.RuleDelete
			if err := c.apply(r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *careful) apply(changes ...netstate.Change) error {
	for _, err := range c.k.Apply(changes) {
		if err != nil {
			return err
		}
	}
	return nil
}
