package plan

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/netstate"
)

// syntheticMetric is the metric of a default route that no table shows (a
// gateway from the configuration or a lease): the kernel's own default metric
// of IPv6, behind what DHCP clients set.
const syntheticMetric = 1024

// uplink is a path while it is being decided on.
type uplink struct {
	Path
	link     netstate.Link
	settings config.LinkSettings
	owned    []netstate.Addr  // its usable addresses, less those of a better path
	defaults []netstate.Route // as found, best first
	// synthetic says that no table shows the default route: it was made of a
	// configured or leased gateway.
	synthetic bool
	tables    []uint32 // where its routes are read from: main, and the table with its defaults
}

func (u *uplink) key() netstate.LinkFamily {
	return netstate.LinkFamily{Link: u.Link, Family: u.Family}
}

// findUplinks judges every link in both families.
func (b *builder) findUplinks() {
	byIndex := func(x, y netstate.Link) int { return cmp.Compare(x.Index, y.Index) }
	links := b.snap.Links
	if !slices.IsSortedFunc(links, byIndex) { // the kernel's are
		links = slices.SortedStableFunc(slices.Values(links), byIndex)
	}
	b.plan.Ignored = make([]Ignored, 0, len(netstate.Families)*len(links))
	for i := range links { // a host of containers has thousands
		l := &links[i]
		if l.Loopback() {
			continue
		}
		settings := b.in.Config.For(*l)
		for _, f := range netstate.Families {
			u, reason := b.judge(l, f, &settings)
			if u == nil {
				b.plan.Ignored = append(b.plan.Ignored, Ignored{Link: l.Index, Name: l.Name, Family: f, Reason: reason})
				continue
			}
			b.uplinks = append(b.uplinks, u)
		}
	}
}

// judge decides whether a link is an uplink in a family; if not, why.
func (b *builder) judge(l *netstate.Link, f netstate.Family, s *config.LinkSettings) (*uplink, string) {
	switch {
	case s.Uplink != nil && !*s.Uplink:
		return nil, "not an uplink by configuration"
	case l.Master != 0:
		return nil, "port of " + portOf(*l, b.names)
	case !l.Up():
		return nil, "down"
	case l.Tunnel() && (s.Uplink == nil || !*s.Uplink):
		return nil, "tunnel (" + kindText(*l) + "): a path only with uplink = true"
	}
	if key := (netstate.LinkFamily{Link: l.Index, Family: f}); len(b.addrs[key]) == 0 {
		return nil, b.noAddress(key)
	}
	u := &uplink{link: *l, settings: *s}
	u.Link, u.Name, u.Family, u.Preference = l.Index, l.Name, f, s.Preference
	u.Table = b.in.Config.Routing.TableBase + uint32(l.Index)
	b.findDefaults(u)
	if len(u.defaults) == 0 {
		return nil, b.noDefault(u)
	}
	u.State = Live
	if !l.Carrier() {
		u.State = Dark
		if b.in.Grace[l.Index] {
			u.State = Grace
		}
	}
	u.Backup = isBackup(l, s)
	u.Metric = u.defaults[0].Metric
	for _, d := range u.defaults {
		if d.Gateway.IsValid() && !slices.Contains(u.Gateways, d.Gateway) {
			u.Gateways = append(u.Gateways, d.Gateway)
		}
	}
	return u, ""
}

// isBackup tells whether a path of the link is backup: by configuration, else
// where it is cellular.
func isBackup(l *netstate.Link, s *config.LinkSettings) bool {
	if s.Backup != nil {
		return *s.Backup
	}
	return l.Cellular()
}

// noAddress says what a link without a usable address has.
func (b *builder) noAddress(key netstate.LinkFamily) string {
	if reason, ok := b.unusable[key]; ok {
		return reason
	}
	return "no address"
}

// noteUnusable keeps why the first address of a link does not count that could
// have. All addresses are looked at once: a host with a thousand containers has
// thousands of link-local ones.
func (b *builder) noteUnusable(key netstate.LinkFamily, a netstate.Addr) {
	const linkLocal = "only a link-local address"
	if reason, known := b.unusable[key]; known && reason != linkLocal {
		return
	}
	switch {
	case !netstate.Routable(a.IP()):
		b.unusable[key] = linkLocal
	case a.Kept():
		b.unusable[key] = "no address for what leaves the link: the scope of " + a.IP().String() + " is not global"
	case a.Flags&netstate.AddrDADFailed != 0:
		b.unusable[key] = "no usable address: another host has " + a.IP().String() + " already"
	default:
		b.unusable[key] = "no usable address yet: " + a.IP().String() + " is tentative"
	}
}

// noDefault says why no default route of the link counts.
func (b *builder) noDefault(u *uplink) string {
	if slices.ContainsFunc(b.main[u.Family], func(r netstate.Route) bool {
		return r.Link == u.Link && r.Default() && r.Type == netstate.Unicast && r.SrcPrefix.IsValid()
	}) {
		return "its only default routes are for certain sources (default from PREFIX), which choose the link by themselves"
	}
	return NoDefaultRoute
}

// NoDefaultRoute is the reason of a link that would be a path if something said
// where it leads.
const NoDefaultRoute = "no default route, and no gateway in the configuration or in a DHCP lease"

func portOf(l netstate.Link, n netstate.Names) string {
	if l.PortKind == "" {
		return n.Name(l.Master)
	}
	return l.PortKind + " " + n.Name(l.Master)
}

func kindText(l netstate.Link) string {
	if l.Kind != "" {
		return l.Kind
	}
	return "ARPHRD " + strconv.Itoa(int(l.Type))
}

// findDefaults finds the default routes of the link: in main; else in the first
// table that counts and has one; else the configured gateway; else the lease's.
// Tables are never mixed: one that serves some addresses has the wrong gateway
// for the others, and one behind main is not asked while main has a default.
func (b *builder) findDefaults(u *uplink) {
	u.tables = []uint32{netstate.TableMain}
	u.defaults = b.defaultsIn(u, netstate.TableMain)
	if len(u.defaults) == 0 {
		for _, t := range b.countingTables(u) {
			if u.defaults = b.defaultsIn(u, t); len(u.defaults) > 0 {
				u.tables = append(u.tables, t)
				break
			}
		}
	}
	if len(u.defaults) > 0 {
		u.Source = "default route in " + tableName(u.defaults[0].Table)
		return
	}
	gw, source := u.settings.Gateway(u.Family), "gateway in the configuration"
	if !gw.IsValid() {
		gw, source = b.snap.LeaseGateways[u.key()], "gateway in the DHCP lease"
	}
	pointToPoint := u.link.Flags&(netstate.FlagP2P|netstate.FlagNoARP) != 0
	configured := u.settings.Uplink != nil && *u.settings.Uplink
	switch {
	case gw.IsValid():
		u.Source = source
	case configured && pointToPoint:
		u.Source = "uplink by configuration" // needs no gateway
	default:
		return
	}
	u.synthetic = true
	u.defaults = []netstate.Route{{
		Family: u.Family, Table: netstate.TableMain, Dst: u.Family.Default(),
		Type: netstate.Unicast, Link: u.Link, Gateway: gw, Metric: syntheticMetric,
	}}
}

// defaultsIn are the default routes of the link in one table, best first.
func (b *builder) defaultsIn(u *uplink, table uint32) []netstate.Route {
	var found []netstate.Route
	for _, r := range b.snap.Routes {
		if r.Table == table && b.usableDefault(u, r) {
			found = append(found, r)
		}
	}
	// Order within one metric: RFC 4191 preference, then as the kernel lists.
	slices.SortStableFunc(found, func(x, y netstate.Route) int {
		return cmp.Or(cmp.Compare(x.Metric, y.Metric), cmp.Compare(x.Pref.Rank(), y.Pref.Rank()))
	})
	return found
}

func tableName(t uint32) string {
	switch t {
	case netstate.TableMain:
		return "main"
	case netstate.TableDefault:
		return "table default"
	}
	return "table " + strconv.FormatUint(uint64(t), 10)
}

// usableDefault tells whether a route is a default route that leads outside by
// the link. An expired one stays in dumps until it is collected; a
// source-specific or encapsulating one cannot be copied without changing it.
func (b *builder) usableDefault(u *uplink, r netstate.Route) bool {
	return r.Family == u.Family && r.Link == u.Link && r.Default() && r.Type == netstate.Unicast &&
		!r.Expired() && r.TOS == 0 && !r.Encap && !r.SrcPrefix.IsValid() &&
		!b.in.Owned.OwnsRoute(b.in.Config.Routing.Protocol, r)
}

// countingTables are the tables to which a foreign rule leads that selects by
// source alone (one of the link's addresses, or everybody), in the order of the
// rules. Tables that only marks, users, ports, incoming links or VRFs reach say
// nothing about where the host's own traffic goes.
func (b *builder) countingTables(u *uplink) []uint32 {
	var tables []uint32
	for _, r := range b.snap.Rules {
		if r.Table == netstate.TableMain || r.Table == netstate.TableLocal || slices.Contains(tables, r.Table) {
			continue
		}
		for _, a := range b.addrs[u.key()] {
			if b.leads(r, a) {
				tables = append(tables, r.Table)
				break
			}
		}
	}
	return tables
}

// behindOurs tells whether a rule for everybody leads to the table after ours.
func (b *builder) behindOurs(f netstate.Family, table uint32) bool {
	return table != netstate.TableMain && slices.ContainsFunc(b.snap.Rules, func(r netstate.Rule) bool {
		return r.Family == f && r.Table == table && r.Priority > b.in.Config.Routing.Priority && !r.From.IsValid() && r.Others == ""
	})
}

// leads tells whether a foreign rule leads all traffic from the address, or
// from everybody, to its table.
func (b *builder) leads(r netstate.Rule, a netstate.Addr) bool {
	return r.Family == a.Family() && r.Action == netstate.ActLookup && r.Others == "" && r.Suppress < 0 &&
		(!r.From.IsValid() || r.From.Contains(a.IP())) && !b.in.Owned.OwnsRule(b.in.Config.Routing.Protocol, r)
}

// reaches tells whether traffic from the address comes to the table that has
// the default routes of the link. Main and a gateway that no table has serve
// every address.
func (b *builder) reaches(u *uplink, a netstate.Addr) bool {
	table := u.defaults[0].Table
	return table == netstate.TableMain || slices.ContainsFunc(b.snap.Rules, func(r netstate.Rule) bool {
		return r.Table == table && b.leads(r, a)
	})
}
