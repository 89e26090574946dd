// Package config holds what an administrator can wish for: the settings with
// their defaults, and how the entries of a file apply to a link.
package config

import (
	"net/netip"
	"time"

	"github.com/subflowd/subflowd/internal/netstate"
)

// Role says what endpoints do: connect (client), announce (server), or both.
type Role string

// Roles.
const (
	RoleClient Role = "client"
	RoleServer Role = "server"
	RoleBoth   Role = "both"
)

// EndpointFlags are the path manager's flags that the role stands for.
func (r Role) EndpointFlags() netstate.EndpointFlags {
	switch r {
	case RoleServer:
		return netstate.SignalFlag
	case RoleBoth:
		return netstate.SignalFlag | netstate.SubflowFlag
	}
	return netstate.SubflowFlag
}

// VPNPolicy says what happens while a full tunnel is up.
type VPNPolicy string

// VPN policies.
const (
	VPNWithdraw VPNPolicy = "withdraw"
	VPNBackup   VPNPolicy = "backup"
	VPNIgnore   VPNPolicy = "ignore"
)

// ForeignPolicy says what happens to endpoints of others on our addresses.
type ForeignPolicy string

// Policies for foreign endpoints.
const (
	ForeignRespect  ForeignPolicy = "respect"
	ForeignTakeOver ForeignPolicy = "take-over"
)

// Addresses says how many addresses of a path get an endpoint.
type Addresses string

// Choices of addresses.
const (
	AddressesOne Addresses = "one"
	AddressesAll Addresses = "all"
)

// LimitsMode says how the path manager's limits are treated.
type LimitsMode string

// Modes of limits.
const (
	LimitsAuto  LimitsMode = "auto"
	LimitsKeep  LimitsMode = "keep"
	LimitsFixed LimitsMode = "fixed" // the numbers in Limits.Values
)

// Limits is the wish for the path manager's limits.
type Limits struct {
	Mode   LimitsMode
	Values netstate.Limits // for LimitsFixed
}

// Routing holds the numbers under which rules and routes are made.
type Routing struct {
	Priority  uint32 // of all our rules
	TableBase uint32 // a link's path table is TableBase + ifindex
	Protocol  uint8  // of routes and rules; the first rule of a set has the next one
	MainFirst bool   // main's specific routes come before the path table
	Strict    bool   // an address never leaves by another link
}

// Metrics is the optional TCP listener for metrics.
type Metrics struct {
	Listen string // address:port; empty: none
}

// Probe is the daemon's own test of every path.
type Probe struct {
	Target   string        // host:port; empty: off
	Interval time.Duration // between tests while all is well
}

// Config is the whole configuration.
type Config struct {
	Role             Role
	Limits           Limits
	VPN              VPNPolicy
	ForeignEndpoints ForeignPolicy
	Resync           time.Duration
	Routing          Routing
	Metrics          Metrics
	Probe            Probe
	Links            []LinkEntry
	// Where names the place of each key that a file set, but for those of links:
	// "routing.priority" is at "conf.d/10-site.toml:2". It decides nothing.
	Where map[string]string
}

// Default is the configuration without a file: right for a laptop.
func Default() Config {
	return Config{
		Role:             RoleClient,
		Limits:           Limits{Mode: LimitsAuto},
		VPN:              VPNWithdraw,
		ForeignEndpoints: ForeignRespect,
		Resync:           30 * time.Second,
		Probe:            Probe{Interval: 30 * time.Second},
		Routing:          Routing{Priority: 32765, TableBase: 100000, Protocol: 77, MainFirst: true},
	}
}

// LinkSettings are the settings of one link after all entries were applied.
// Nil pointers and zero addresses mean that the link's state decides.
type LinkSettings struct {
	Uplink     *bool
	Role       Role
	Backup     *bool
	Fullmesh   bool
	Addresses  Addresses
	Gateway4   netip.Addr
	Gateway6   netip.Addr
	Endpoints  bool
	Preference int // lower first, before the metric
}

// DefaultPreference is the preference of a link that no entry names.
const DefaultPreference = 100

// Gateway is the configured router of one family; zero: none.
func (s LinkSettings) Gateway(f netstate.Family) netip.Addr {
	if f == netstate.IPv6 {
		return s.Gateway6
	}
	return s.Gateway4
}
