//go:build bench

package bench

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/pkg/mptcp"
)

// bareTable is the path table of the bare loop.
const bareTable = 102

// bareLoop makes, for the one uplink that it is written for, the very requests that the daemon makes: two routes, two
// rules and the endpoint when the default route comes, and takes them back when the address goes. It decides nothing,
// reads nothing and remembers nothing: a floor for any program in this language.
func bareLoop() error {
	pm, err := mptcp.Dial()
	if err != nil {
		return err
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	link, err := handle.LinkByName(newLink)
	if err != nil {
		return err
	}
	events, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE)
	if err != nil {
		return err
	}
	if err := pm.SetLimits(mptcp.Limits{Subflows: 2, AddAddrAccepted: 4}); err != nil {
		return err
	}
	b := bare{pm: pm, handle: handle, link: link.Attrs().Index}
	fmt.Println("ready")
	for {
		messages, _, err := events.Receive()
		if err != nil {
			return err
		}
		for _, m := range messages {
			if err := b.event(m.Header.Type, m.Data); err != nil {
				return err
			}
		}
	}
}

type bare struct {
	pm     *mptcp.Client
	handle *netlink.Handle
	link   int
}

func (b *bare) event(typ uint16, data []byte) error {
	switch typ {
	case unix.RTM_NEWROUTE:
		r := nl.DeserializeRtMsg(data)
		if r.Dst_len != 0 || r.Table != unix.RT_TABLE_MAIN {
			return nil
		}
		return b.up()
	case unix.RTM_DELADDR:
		if !bytes.Contains(data, net.ParseIP(newAddr).To4()) {
			return nil
		}
		return b.down()
	}
	return nil
}

func (b *bare) up() error {
	_, all, _ := net.ParseCIDR("0.0.0.0/0")
	_, near, _ := net.ParseCIDR("10.1.2.0/24")
	for _, r := range []*netlink.Route{
		{LinkIndex: b.link, Dst: near, Table: bareTable, Protocol: 77, Scope: unix.RT_SCOPE_LINK},
		{LinkIndex: b.link, Dst: all, Gw: net.ParseIP(newGateway), Table: bareTable, Protocol: 77},
	} {
		if err := b.handle.RouteAdd(r); err != nil {
			return fmt.Errorf("add route: %w", err)
		}
	}
	for _, r := range b.rules() {
		if err := b.handle.RuleAdd(r); err != nil {
			return fmt.Errorf("add rule: %w", err)
		}
	}
	return b.pm.AddEndpoint(mptcp.Endpoint{Addr: netip.MustParseAddr(newAddr), IfIndex: int32(b.link), Flags: mptcp.FlagSubflow})
}

func (b *bare) rules() []*netlink.Rule {
	var list []*netlink.Rule
	for _, table := range []int{unix.RT_TABLE_MAIN, bareTable} {
		r := netlink.NewRule()
		r.Family, r.Priority, r.Protocol, r.Table = netlink.FAMILY_V4, 32765, 77, table
		_, r.Src, _ = net.ParseCIDR(newAddr + "/32")
		if table == unix.RT_TABLE_MAIN {
			r.SuppressPrefixlen = 0
		}
		list = append(list, r)
	}
	return list
}

func (b *bare) down() error {
	list, err := b.pm.Endpoints()
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.Addr == netip.MustParseAddr(newAddr) {
			if err := b.pm.DeleteEndpoint(e); err != nil {
				return err
			}
		}
	}
	for _, r := range b.rules() {
		if err := b.handle.RuleDel(r); err != nil {
			return fmt.Errorf("delete rule: %w", err)
		}
	}
	return nil
}
