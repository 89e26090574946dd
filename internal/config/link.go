package config

import (
	"net/netip"
	"path"
	"strings"

	"github.com/subflowd/subflowd/internal/netstate"
)

// LinkEntry is one [[link]] of a configuration file. The matchers that are not
// empty must all match; a nil setting leaves what earlier entries said.
type LinkEntry struct {
	Where string // "subflowd.toml:12", for explain

	Name   string // glob
	Type   string // glob: ether, wlan, wwan, ppp, ...
	Driver string // glob
	MAC    string // glob, lower case
	Kind   string // glob: veth, vlan, ...

	Uplink     *bool
	Role       *Role
	Backup     *bool
	Fullmesh   *bool
	Addresses  *Addresses
	Gateway4   netip.Addr
	Gateway6   netip.Addr
	Endpoints  *bool
	Preference *int
}

// Matches tells whether the entry applies to the link. Globs are those of
// path.Match; a pattern that is not valid, which loading refuses, matches nothing.
func (e LinkEntry) Matches(l netstate.Link) bool {
	return glob(e.Name, l.Name) && glob(e.Type, l.TypeName()) && glob(e.Driver, l.Driver) &&
		glob(strings.ToLower(e.MAC), l.MAC) && glob(e.Kind, l.Kind)
}

func glob(pattern, s string) bool {
	if pattern == "" {
		return true
	}
	ok, err := path.Match(pattern, s)
	return err == nil && ok
}

// For applies all entries that match the link, in order; a later key wins.
func (c Config) For(l netstate.Link) LinkSettings {
	s := LinkSettings{Role: c.Role, Addresses: AddressesOne, Endpoints: true, Preference: DefaultPreference}
	for _, e := range c.Links {
		if e.Matches(l) {
			e.apply(&s)
		}
	}
	return s
}

func (e LinkEntry) apply(s *LinkSettings) {
	set(&s.Role, e.Role)
	set(&s.Fullmesh, e.Fullmesh)
	set(&s.Addresses, e.Addresses)
	set(&s.Endpoints, e.Endpoints)
	set(&s.Preference, e.Preference)
	if e.Uplink != nil {
		s.Uplink = e.Uplink
	}
	if e.Backup != nil {
		s.Backup = e.Backup
	}
	if e.Gateway4.IsValid() {
		s.Gateway4 = e.Gateway4
	}
	if e.Gateway6.IsValid() {
		s.Gateway6 = e.Gateway6
	}
}

func set[T any](dst, src *T) {
	if src != nil {
		*dst = *src
	}
}
