package chaos

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/subflowd/subflowd/test/lab"
)

// uplink is a link that leads outside in one family, by what ip shows.
type uplink struct {
	link     *ipLink
	family   string
	table    string
	live     bool
	addrs    []ipAddr // usable; not those that a better uplink has
	defaults []wantedRoute
	tables   []string // main, and those that others' rules lead to
	metric   uint32
}

// wantedRoute is a destination with a gateway, and the metric that the route has where it was found.
type wantedRoute struct {
	dst     netip.Prefix
	gateway netip.Addr
	metric  uint32
	pref    int
}

var prefRank = map[string]int{"high": 0, "": 1, "medium": 1, "low": 2}

// uplinks finds the uplinks, the best of each family first.
func (s *state) uplinks() []*uplink {
	var all []*uplink
	for _, f := range []string{"-4", "-6"} {
		var found []*uplink
		for i := range s.links {
			if u := s.uplink(&s.links[i], f); u != nil {
				found = append(found, u)
			}
		}
		slices.SortStableFunc(found, func(x, y *uplink) int {
			if x.live != y.live {
				return map[bool]int{true: -1, false: 1}[x.live]
			}
			if x.metric != y.metric {
				return int(int64(x.metric) - int64(y.metric))
			}
			return x.link.Index - y.link.Index
		})
		taken := map[netip.Addr]bool{}
		for _, u := range found {
			// Twice on one link is possible too, with two prefix lengths.
			u.addrs = slices.DeleteFunc(u.addrs, func(a ipAddr) bool {
				was := taken[a.Local]
				taken[a.Local] = true
				return was
			})
		}
		all = append(all, found...)
	}
	return all
}

func (s *state) uplink(l *ipLink, family string) *uplink {
	if slices.Contains(l.Flags, "LOOPBACK") || l.Info.Kind == "tun" || l.Master != "" || !slices.Contains(l.Flags, "UP") {
		return nil
	}
	u := &uplink{link: l, family: family, table: fmt.Sprint(pathTable(l.Index)), tables: []string{tableMain}}
	u.live = slices.Contains(l.Flags, "LOWER_UP") && (l.OperState == "UP" || l.OperState == "UNKNOWN")
	for _, a := range l.Addrs {
		if familyOf(a.Local) == family && a.Scope == "global" && !a.Tentative && !a.DADFailed && !a.Local.IsLinkLocalUnicast() {
			u.addrs = append(u.addrs, a)
		}
	}
	if len(u.addrs) == 0 {
		return nil
	}
	isDefault := func(r *ipRoute, _ ipHop) bool { return r.isDefault() }
	u.defaults = s.routesBy(u, isDefault)
	for i := 0; i < len(s.rules[family]) && len(u.defaults) == 0; i++ {
		// Main has no default by the link: the first table that others' rules lead its traffic to may have one.
		r := &s.rules[family][i]
		reached := slices.DeleteFunc(slices.Clone(u.addrs), func(a ipAddr) bool { return !r.leads(a.Local) })
		if len(reached) == 0 {
			continue
		}
		u.tables = []string{tableMain, r.number()}
		if u.defaults = s.routesBy(u, isDefault); len(u.defaults) > 0 {
			u.addrs = slices.DeleteFunc(u.addrs, func(a ipAddr) bool {
				return !slices.ContainsFunc(s.rules[family], func(o ipRule) bool { return o.number() == r.number() && o.leads(a.Local) })
			})
		}
	}
	if len(u.defaults) == 0 {
		return nil
	}
	u.metric = u.defaults[0].metric
	return u
}

// leads tells whether a rule of others sends all traffic from an address to a table of its own.
func (r *ipRule) leads(a netip.Addr) bool {
	return !r.ours() && r.Action == "" && r.Suppress == nil && r.Mark == "" && r.Dst == "" &&
		r.Table != "main" && r.Table != "local" && covers(r.Src, r.SrcLen, a)
}

// number is the table of a rule as routes name it.
func (r *ipRule) number() string {
	if r.Table == "default" {
		return "253"
	}
	return r.Table
}

// routesBy lists what leads out by the uplink, without doubles, the best first.
func (s *state) routesBy(u *uplink, keep func(*ipRoute, ipHop) bool) []wantedRoute {
	var out []wantedRoute
	for _, t := range u.tables {
		for i := range s.routes[u.family] {
			r := &s.routes[u.family][i]
			if r.Table != t || r.Type != "1" || r.ours() {
				continue
			}
			for _, h := range r.Hops {
				if h.Dev == u.link.Name && keep(r, h) {
					out = append(out, wantedRoute{r.prefix, h.Gateway, r.Metric, prefRank[r.Pref]})
				}
			}
		}
	}
	slices.SortStableFunc(out, func(x, y wantedRoute) int {
		if x.metric != y.metric {
			return int(int64(x.metric) - int64(y.metric))
		}
		return x.pref - y.pref
	})
	seen := map[wantedRoute]bool{}
	return slices.DeleteFunc(out, func(r wantedRoute) bool {
		k := wantedRoute{dst: r.dst, gateway: r.gateway}
		was := seen[k]
		seen[k] = true
		return was
	})
}

// judge compares the kernel with what DESIGN wants of it. It knows nothing of the daemon's own code.
func (w *world) judge() error {
	s := read(w.main.Client)
	j := &judgement{world: w, state: s, ups: s.uplinks()}
	j.lookAtTunnels()
	j.checkRules()
	for _, u := range j.ups {
		j.checkTable(u)
	}
	j.checkNothingElse()
	j.checkBeside()
	j.checkEndpoints()
	j.checkLimits()
	if len(j.errs) == 0 {
		j.checkLookups()
	}
	if len(j.errs) == 0 {
		w.guarded = w.guarded || j.guarded
		return nil
	}
	return fmt.Errorf("the kernel is not as it should be:\n  %s", strings.Join(j.errs, "\n  "))
}

type judgement struct {
	*world
	*state
	ups  []*uplink
	errs []string
	// guarded: a full tunnel is up, beside which nothing is sent.
	guarded bool
	// unbound are the sources of traffic that leaves by another link than that of the source, while there is a tunnel.
	unbound map[netip.Addr]string
}

func (j *judgement) wrong(format string, args ...any) {
	j.errs = append(j.errs, fmt.Sprintf(format, args...))
}

// hasRules tells whether an address of an uplink has rules: one without carrier gives way to one that has it.
func (j *judgement) hasRules(u *uplink, a netip.Addr) bool {
	if by, ok := j.unbound[a]; j.guarded || ok && by != u.link.Name {
		return false
	}
	return u.live || !slices.ContainsFunc(j.ups, func(o *uplink) bool { return o != u && o.family == u.family && o.live })
}

// shared lists the on-link prefixes in main that another link has too.
func (j *judgement) shared(u *uplink) []netip.Prefix {
	onLink := func(mine bool) (p []netip.Prefix) {
		for _, r := range j.routes[u.family] {
			for _, h := range r.Hops {
				if r.Table == tableMain && r.Type == "1" && !r.isDefault() && !h.Gateway.IsValid() &&
					!r.prefix.Addr().IsLinkLocalUnicast() && (h.Dev == u.link.Name) == mine {
					p = append(p, r.prefix)
				}
			}
		}
		return p
	}
	others := onLink(false)
	return slices.DeleteFunc(onLink(true), func(p netip.Prefix) bool { return !slices.Contains(others, p) })
}

// errorDefault tells whether the best default route of main refuses.
func (j *judgement) errorDefault(family string) bool {
	var best *ipRoute
	for i, r := range j.routes[family] {
		if r.Table == tableMain && r.isDefault() && (best == nil || r.Metric < best.Metric) {
			best = &j.routes[family][i]
		}
	}
	return best != nil && best.Type != "1" && best.Type != typeThrow
}

// checkRules compares the rules of each address, in their order, and finds what stands behind them.
func (j *judgement) checkRules() {
	for _, f := range []string{"-4", "-6"} {
		found, last := map[string][]string{}, 0
		for i, r := range j.rules[f] {
			switch {
			case r.ours():
				found[r.Src] = append(found[r.Src], r.text()+" proto "+r.Protocol)
			case r.Priority == 32765:
				last = i
			}
		}
		for i, r := range j.rules[f] {
			if r.ours() && i < last {
				j.wrong("%s rule %q stands before another's of the same priority", f, r.text())
			}
		}
		for _, u := range j.ups {
			if u.family != f {
				continue
			}
			for _, a := range u.addrs {
				if !j.hasRules(u, a.Local) {
					continue
				}
				var want []string
				from := fmt.Sprintf("32765: from %s lookup ", a.Local)
				if len(j.shared(u)) > 0 {
					want = append(want, from+u.table+" suppress_prefixlength 0 proto 78")
				}
				if !j.errorDefault(f) {
					want = append(want, from+"main suppress_prefixlength 0 proto 77")
				}
				want = append(want, from+u.table+" proto 77")
				if got := found[a.Local.String()]; !slices.Equal(want, got) {
					j.wrong("rules of %s (%s):\n    wanted %q\n    found  %q", a.Local, u.link.Name, want, got)
				}
				delete(found, a.Local.String())
			}
		}
		for _, left := range found {
			j.wrong("rules that belong to no address of an uplink: %q", left)
		}
	}
}

// checkTable compares the routes of a path table.
func (j *judgement) checkTable(u *uplink) {
	want := j.routesBy(u, func(r *ipRoute, h ipHop) bool {
		if r.isDefault() || !h.Gateway.IsValid() {
			return true
		}
		return slices.Contains([]string{"3", "4", "9", "16"}, r.Protocol)
	})
	throws := j.throws(u, want)
	var foreign, got []wantedRoute
	for _, r := range j.routes[u.family] {
		switch {
		case r.Table != u.table:
		case !r.ours():
			for _, h := range r.Hops {
				foreign = append(foreign, wantedRoute{dst: r.prefix, gateway: h.Gateway, metric: r.Metric})
			}
		case r.Type == typeThrow:
			if !slices.Contains(throws, r.prefix) {
				j.wrong("table %s: throw %s is not needed", u.table, r.prefix)
			}
			throws = slices.DeleteFunc(throws, func(p netip.Prefix) bool { return p == r.prefix })
		case r.Type != "1":
			j.wrong("table %s: a route of type %s", u.table, r.Type)
		default:
			for _, h := range r.Hops {
				if h.Dev != u.link.Name {
					j.wrong("table %s: %s leads to %s", u.table, r.prefix, h.Dev)
				}
				got = append(got, wantedRoute{dst: r.prefix, gateway: h.Gateway, metric: r.Metric})
			}
		}
	}
	for _, p := range throws {
		j.wrong("table %s (%s): no throw %s", u.table, u.link.Name, p)
	}
	j.compareRoutes(u, want, got, foreign)
}

// compareRoutes compares destinations with their gateways, and in which order the metrics prefer them.
func (j *judgement) compareRoutes(u *uplink, want, got, foreign []wantedRoute) {
	at := func(list []wantedRoute, w wantedRoute) int {
		return slices.IndexFunc(list, func(r wantedRoute) bool { return r.dst == w.dst && r.gateway == w.gateway })
	}
	for _, g := range got {
		if at(want, g) < 0 {
			j.wrong("table %s (%s): %s via %v is not wanted", u.table, u.link.Name, g.dst, g.gateway)
		}
	}
	for i, x := range want {
		k := at(got, x)
		if k < 0 {
			// A route of somebody else with the same destination and metric keeps its place.
			if !slices.ContainsFunc(foreign, func(f wantedRoute) bool { return f.dst == x.dst }) {
				j.wrong("table %s (%s): no route to %s via %v", u.table, u.link.Name, x.dst, x.gateway)
			}
			continue
		}
		for _, y := range want[i+1:] {
			m := at(got, y)
			if m >= 0 && x.dst == y.dst && (x.metric < y.metric || x.pref < y.pref) && got[m].metric <= got[k].metric {
				j.wrong("table %s: %s via %v should come before via %v", u.table, x.dst, x.gateway, y.gateway)
			}
			if m >= 0 && x.dst == y.dst && got[m].metric == got[k].metric {
				j.wrong("table %s: two routes to %s with metric %d", u.table, x.dst, got[m].metric)
			}
		}
	}
}

const protoBGP = "186"

// throws lists what the path table must hand back to main.
func (j *judgement) throws(u *uplink, table []wantedRoute) (out []netip.Prefix) {
	all := j.errorDefault(u.family)
	if len(j.shared(u)) == 0 && !all {
		return nil
	}
	for _, r := range j.routes[u.family] {
		if r.Table != tableMain || r.isDefault() || slices.Contains(out, r.prefix) ||
			slices.ContainsFunc(table, func(w wantedRoute) bool { return w.dst == r.prefix }) {
			continue
		}
		inside := slices.ContainsFunc(table, func(w wantedRoute) bool {
			return w.dst.Bits() > 0 && !w.dst.Addr().IsLinkLocalUnicast() && w.dst.Bits() < r.prefix.Bits() && w.dst.Contains(r.prefix.Addr())
		})
		// A routing daemon's table is no path table's to hand back: where main's default is an error, its routes do not count.
		if all && r.Protocol != protoBGP || inside {
			out = append(out, r.prefix)
		}
	}
	return out
}

// checkNothingElse finds routes of the daemon outside the tables of uplinks.
func (j *judgement) checkNothingElse() {
	for _, f := range []string{"-4", "-6"} {
		for _, r := range j.routes[f] {
			if r.ours() && !slices.ContainsFunc(j.ups, func(u *uplink) bool { return u.family == f && u.table == r.Table }) {
				j.wrong("table %s of no uplink holds %s", r.Table, r.prefix)
			}
		}
	}
}

var withoutDev = regexp.MustCompile(` dev \S+`)

// foreignSide compares all that belongs to others with the twin.
func (w *world) foreignSide() error {
	var errs []error
	for _, s := range []*side{w.main, w.twin} {
		for addr, line := range s.endpoints {
			// Its device is known by number: the link may have another name now, or be gone.
			now := endpointLine(s.Client, addr)
			if withoutDev.ReplaceAllString(now, "") != withoutDev.ReplaceAllString(line, "") {
				errs = append(errs, fmt.Errorf("[%s] the endpoint %q of others is %q now", s.Client.NS, line, now))
			}
		}
	}
	if main, twin := w.foreignTexts(false); main != twin {
		errs = append(errs, fmt.Errorf("what belongs to others differs (-: the twin without a daemon, +: beside the daemon):\n%s", lab.Diff(twin, main)))
	}
	return errors.Join(errs...)
}
