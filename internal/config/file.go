package config

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/subflowd/subflowd/internal/netstate"
)

// file is a configuration file as it is written.
type file struct {
	Role             *Role          `toml:"role"`
	Limits           *limitsWish    `toml:"limits"`
	VPN              *VPNPolicy     `toml:"vpn"`
	ForeignEndpoints *ForeignPolicy `toml:"foreign_endpoints"`
	Resync           *period        `toml:"resync"`
	Routing          struct {
		Priority  *uint32 `toml:"priority"`
		TableBase *uint32 `toml:"table_base"`
		Protocol  *uint8  `toml:"protocol"`
		MainFirst *bool   `toml:"main_first"`
		Strict    *bool   `toml:"strict"`
	} `toml:"routing"`
	Metrics struct {
		Listen string `toml:"listen"`
	} `toml:"metrics"`
	Probe struct {
		Target string `toml:"target"`
	} `toml:"probe"`
	Link []linkTable `toml:"link"`
}

type linkTable struct {
	Name       string     `toml:"name"`
	Type       string     `toml:"type"`
	Driver     string     `toml:"driver"`
	MAC        string     `toml:"mac"`
	Kind       string     `toml:"kind"`
	Uplink     *bool      `toml:"uplink"`
	Role       *Role      `toml:"role"`
	Backup     *bool      `toml:"backup"`
	Fullmesh   *bool      `toml:"fullmesh"`
	Addresses  *Addresses `toml:"addresses"`
	Gateway4   netip.Addr `toml:"gateway4"`
	Gateway6   netip.Addr `toml:"gateway6"`
	Endpoints  *bool      `toml:"endpoints"`
	Preference *int       `toml:"preference"`
}

// one tells what is wrong with a value that must be one of a few words; nil is
// a key that is not there.
func one[T ~string](v *T, choices ...T) string {
	if v == nil || slices.Contains(choices, *v) {
		return ""
	}
	return fmt.Sprintf("%q is none of %q", *v, choices)
}

func (r *Role) problem() string { return one(r, RoleClient, RoleServer, RoleBoth) }

// Bounds of the resync: a shorter one is a busy loop, a longer one leaves what
// sends no event unseen.
const (
	minResync = time.Second
	maxResync = time.Hour
)

type period time.Duration

// UnmarshalText is part of encoding.TextUnmarshaler.
func (p *period) UnmarshalText(b []byte) error {
	d, err := time.ParseDuration(string(b))
	if err != nil || d < minResync || d > maxResync {
		return fmt.Errorf(`%q is no time from %v to %v, such as "30s"`, b, minResync, maxResync)
	}
	*p = period(d)
	return nil
}

// limitsWish is a word or a table; mode is empty for what is neither.
type limitsWish Limits

const limitsWanted = `limits are "auto", "keep" or { subflows = N, add_addr_accepted = N }`

// UnmarshalTOML is part of unstable.Unmarshaler. What it cannot read stays
// empty: an error from here would have no position.
func (l *limitsWish) UnmarshalTOML(raw []byte) error {
	var f struct {
		Limits any `toml:"limits"`
	}
	// A table that cannot be read leaves f empty.
	_ = toml.Unmarshal(append([]byte("limits = "), raw...), &f)
	switch v := f.Limits.(type) {
	case string:
		if m := LimitsMode(v); m == LimitsAuto || m == LimitsKeep {
			l.Mode = m
		}
	case map[string]any:
		subflows, ok1 := v["subflows"].(int64)
		accepted, ok2 := v["add_addr_accepted"].(int64)
		const most = 255 // no kernel takes more
		if ok1 && ok2 && len(v) == 2 && 0 <= subflows && subflows <= most && 0 <= accepted && accepted <= most {
			*l = limitsWish{Mode: LimitsFixed, Values: netstate.Limits{Subflows: uint32(subflows), AddAddrAccepted: uint32(accepted)}}
		}
	}
	return nil
}

func (f *file) problems(name string, text []byte) error {
	var all []error
	check := func(link int, key, problem string) {
		if problem != "" {
			line, column := locate(text, link, key)
			all = append(all, &Problem{name, line, column, problem})
		}
	}
	check(0, "role", f.Role.problem())
	check(0, "vpn", one(f.VPN, VPNWithdraw, VPNBackup, VPNIgnore))
	check(0, "foreign_endpoints", one(f.ForeignEndpoints, ForeignRespect, ForeignTakeOver))
	if f.Limits != nil && f.Limits.Mode == "" {
		check(0, "limits", limitsWanted)
	}
	for i, l := range f.Link {
		for _, g := range []struct{ key, pattern string }{
			{"name", l.Name}, {"type", l.Type}, {"driver", l.Driver}, {"mac", l.MAC}, {"kind", l.Kind},
		} {
			if _, err := path.Match(g.pattern, ""); err != nil {
				check(i+1, g.key, fmt.Sprintf("%q is no glob", g.pattern))
			}
		}
		check(i+1, "role", l.Role.problem())
		check(i+1, "addresses", one(l.Addresses, AddressesOne, AddressesAll))
		if l.Gateway4.IsValid() && !l.Gateway4.Is4() {
			check(i+1, "gateway4", fmt.Sprintf("%s is no IPv4 address", l.Gateway4))
		}
		if l.Gateway6.IsValid() && (!l.Gateway6.Is6() || l.Gateway6.Is4In6() || l.Gateway6.Zone() != "") {
			check(i+1, "gateway6", fmt.Sprintf("%s is no IPv6 address", l.Gateway6))
		}
	}
	return errors.Join(all...)
}

func (f *file) apply(c *Config, name string, text []byte) {
	set(&c.Role, f.Role)
	set(&c.VPN, f.VPN)
	set(&c.ForeignEndpoints, f.ForeignEndpoints)
	if f.Limits != nil {
		c.Limits = Limits(*f.Limits)
	}
	if f.Resync != nil {
		c.Resync = time.Duration(*f.Resync)
	}
	set(&c.Routing.Priority, f.Routing.Priority)
	set(&c.Routing.TableBase, f.Routing.TableBase)
	set(&c.Routing.Protocol, f.Routing.Protocol)
	set(&c.Routing.MainFirst, f.Routing.MainFirst)
	set(&c.Routing.Strict, f.Routing.Strict)
	c.Metrics.Listen, c.Probe.Target = f.Metrics.Listen, f.Probe.Target
	for i, l := range f.Link {
		line, _ := locate(text, i+1, "")
		c.Links = append(c.Links, LinkEntry{
			Where: fmt.Sprintf("%s:%d", path.Base(name), line),
			Name:  l.Name, Type: l.Type, Driver: l.Driver, MAC: l.MAC, Kind: l.Kind,
			Uplink: l.Uplink, Role: l.Role, Backup: l.Backup, Fullmesh: l.Fullmesh, Addresses: l.Addresses,
			Gateway4: l.Gateway4, Gateway6: l.Gateway6, Endpoints: l.Endpoints, Preference: l.Preference,
		})
	}
}

var (
	anyHeader  = regexp.MustCompile(`^\s*\[`)
	linkHeader = regexp.MustCompile(`^\s*\[\[\s*link\s*\]\]`)
)

// locate finds the value of a key in the [[link]] of that number, counted from
// 1, or before all tables for 0. Without the key it finds the [[link]] itself.
func locate(text []byte, link int, key string) (line, column int) {
	value := regexp.MustCompile(`^\s*` + regexp.QuoteMeta(key) + `\s*=\s*`)
	at, inside := 0, link == 0
	for i, l := range strings.Split(string(text), "\n") {
		if anyHeader.MatchString(l) {
			inside = false
			if linkHeader.MatchString(l) {
				at++
				inside = at == link
			}
			if inside {
				line, column = i+1, 1
			}
			continue
		}
		if m := value.FindStringIndex(l); key != "" && inside && m != nil {
			return i + 1, m[1] + 1
		}
	}
	return line, column
}
