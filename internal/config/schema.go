package config

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/subflowd/subflowd/internal/netstate"
)

// key is one key of a file. The tables below are all there is: they drive
// reading, suggestions, explain, and the test of the reference file.
type key[T any] struct {
	name    string // with its table: "routing.priority"
	initial string // the default as TOML; empty where there is none
	help    string // what it is for, in a few words
	form[T]
}

const (
	maxTableBase  = 1 << 31
	minTableBase  = 1000 // below are tables that systems and administrators number by hand
	maxPriority   = 32765
	maxLimit      = 64 // Linux 7.2; 8 before
	maxPreference = 10000
)

// hostKeys are the keys for the whole host.
var hostKeys = []key[Config]{
	{"role", `"client"`, "connect to others, be connected to, or both", words(roleOf, RoleClient, RoleServer, RoleBoth)},
	{"limits", `"auto"`, "how many subflows a connection may have", limits()},
	{"vpn", `"withdraw"`, "what to do while a VPN carries everything", words(vpnOf, VPNWithdraw, VPNBackup, VPNIgnore)},
	{"foreign_endpoints", `"respect"`, "what to do with endpoints that others made", words(foreignOf, ForeignRespect, ForeignTakeOver)},
	{"resync", `"30s"`, "how often everything is looked at without a cause", period(always(func(c *Config) *time.Duration { return &c.Resync }))},
	{"routing.priority", "32765", "the priority of all our rules", number(always(func(c *Config) *uint32 { return &c.Routing.Priority }), 1, maxPriority, nil)},
	{"routing.table_base", "100000", "the table of a link is this number plus its index", number(always(func(c *Config) *uint32 { return &c.Routing.TableBase }), minTableBase, maxTableBase, nil)},
	{"routing.protocol", "77", "the mark of our routes and rules, with the next number", protocol(always(func(c *Config) *uint8 { return &c.Routing.Protocol }))},
	{"routing.main_first", "true", "specific routes of table main come first", truth(always(func(c *Config) *bool { return &c.Routing.MainFirst }))},
	{"routing.strict", "false", "an address never leaves by another link", truth(always(func(c *Config) *bool { return &c.Routing.Strict }))},
	{"metrics.listen", `""`, "where metrics are served over TCP", listener(always(func(c *Config) *string { return &c.Metrics.Listen }))},
	{"probe.target", `""`, "a host that every path is tested with", target(always(func(c *Config) *string { return &c.Probe.Target }))},
	{"probe.interval", `"30s"`, "how often the target is tried while it answers", period(always(func(c *Config) *time.Duration { return &c.Probe.Interval }))},
}

var (
	roleOf    = always(func(c *Config) *Role { return &c.Role })
	vpnOf     = always(func(c *Config) *VPNPolicy { return &c.VPN })
	foreignOf = always(func(c *Config) *ForeignPolicy { return &c.ForeignEndpoints })
)

// limitKeys are the keys of limits where it is a table.
var limitKeys = []key[netstate.Limits]{
	{"limits.subflows", "", "additional subflows of a connection", number(always(func(l *netstate.Limits) *uint32 { return &l.Subflows }), 0, maxLimit, nil)},
	{"limits.add_addr_accepted", "", "addresses of the peer that are taken", number(always(func(l *netstate.Limits) *uint32 { return &l.AddAddrAccepted }), 0, maxLimit, nil)},
}

// linkKeys are the keys of a [[link]]: first what it matches, then what it sets.
var linkKeys = slices.Concat(matcherKeys, settingKeys)

var matcherKeys = []key[LinkEntry]{
	{"name", "", "name of the link", pattern(nonzero(func(e *LinkEntry) *string { return &e.Name }), "wl*", checkName)},
	{"type", "", "type of the link", pattern(nonzero(func(e *LinkEntry) *string { return &e.Type }), "wlan", checkType)},
	{"driver", "", "driver of the link", pattern(nonzero(func(e *LinkEntry) *string { return &e.Driver }), "iwl*", nil)},
	{"mac", "", "hardware address of the link", pattern(nonzero(func(e *LinkEntry) *string { return &e.MAC }), "52:54:00:*", checkMAC)},
	{"kind", "", "kind of a virtual link", pattern(nonzero(func(e *LinkEntry) *string { return &e.Kind }), "vlan", nil)},
}

var settingKeys = []key[LinkEntry]{
	{"uplink", "", "whether the link leads to the outside", truth(pointer(func(e *LinkEntry) **bool { return &e.Uplink }))},
	{"role", "", "the role of this link", words(pointer(func(e *LinkEntry) **Role { return &e.Role }), RoleClient, RoleServer, RoleBoth)},
	{"backup", "", "use the link only when no other works", truth(pointer(func(e *LinkEntry) **bool { return &e.Backup }))},
	{"fullmesh", "false", "connect to every address of the peer", truth(pointer(func(e *LinkEntry) **bool { return &e.Fullmesh }))},
	{"addresses", `"one"`, "how many addresses of the link take part", words(pointer(func(e *LinkEntry) **Addresses { return &e.Addresses }), AddressesOne, AddressesAll)},
	{"gateway4", "", "the IPv4 router where no route says it", router(nonzero(func(e *LinkEntry) *netip.Addr { return &e.Gateway4 }), netstate.IPv4)},
	{"gateway6", "", "the IPv6 router where no route says it", router(nonzero(func(e *LinkEntry) *netip.Addr { return &e.Gateway6 }), netstate.IPv6)},
	{"endpoints", "true", "false: routing only, no subflows", truth(pointer(func(e *LinkEntry) **bool { return &e.Endpoints }))},
	{"preference", "100", "the lowest number is used first", number(pointer(func(e *LinkEntry) **int { return &e.Preference }), 0, maxPreference, nil)},
}

// groups are the tables of hostKeys and their headers.
var groups = []string{"routing", "metrics", "probe"}

func names[T any](keys []key[T]) []string {
	all := make([]string, len(keys))
	for i, k := range keys {
		all[i] = k.name
	}
	return all
}

func find[T any](keys []key[T], name string) *key[T] {
	i := slices.IndexFunc(keys, func(k key[T]) bool { return k.name == name })
	if i < 0 {
		return nil
	}
	return &keys[i]
}

// limits is the form of limits where it is a word; see also limitKeys.
func limits() form[Config] {
	f := words(always(func(c *Config) *LimitsMode { return &c.Limits.Mode }), LimitsAuto, LimitsKeep)
	f.allowed = `"auto", "keep" or { subflows = 4, add_addr_accepted = 4 }`
	word := f.write
	f.write = func(c *Config) (string, bool) {
		if c.Limits.Mode == LimitsFixed {
			v := c.Limits.Values
			return fmt.Sprintf("{ subflows = %d, add_addr_accepted = %d }", v.Subflows, v.AddAddrAccepted), true
		}
		return word(c)
	}
	read := f.read
	f.read = func(c *Config, n *node) *objection {
		o := read(c, n)
		if o == nil {
			c.Limits.Values = netstate.Limits{}
		}
		return o
	}
	return f
}

// takenProtocols are the numbers that have an owner: RTPROT_ in
// linux/rtnetlink.h, and etc/iproute2/rt_protos. Below 5 is the kernel's.
var takenProtocols = map[int64]string{
	8: "gated", 9: "ra", 10: "mrt", 11: "zebra", 12: "bird", 13: "dnrouted", 14: "xorp", 15: "ntk", 16: "dhcp",
	17: "mrouted", 18: "keepalived", 42: "babel", 66: "ovn", 84: "ovn", 99: "openr",
	186: "bgp", 187: "isis", 188: "ospf", 189: "rip", 192: "eigrp",
}

// protocol is the form of the number that marks what is ours.
func protocol[T any](s slot[T, uint8]) form[T] {
	f := number(s, 5, 253, checkProtocol)
	f.allowed += " but 7-18, 41, 42, 65, 66, 83, 84, 98, 99, 185-189, 191 and 192"
	return f
}

// checkProtocol refuses a number that somebody else has, or whose next one has.
func checkProtocol(v int64) string {
	if owner := takenProtocols[v]; owner != "" {
		return fmt.Sprintf("%d is %s's", v, owner)
	}
	if owner := takenProtocols[v+1]; owner != "" {
		return fmt.Sprintf("the next number is used too, and %d is %s's", v+1, owner)
	}
	return ""
}
