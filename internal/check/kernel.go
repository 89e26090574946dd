package check

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
)

// kernel looks at what was built in and switched on. Multipath TCP itself is
// judged by plan.
func (l *looker) kernel() {
	if l.NoPolicyRouting {
		l.find(plan.Error, "no-policy-routing", "kernel", "has no policy routing",
			"use a kernel built with CONFIG_IP_MULTIPLE_TABLES=y and CONFIG_IPV6_MULTIPLE_TABLES=y", "ip rule: Operation not supported")
	}
}

// limits compares the limits with what the plan wants, or in mode "keep" with
// what the endpoints need.
func (l *looker) limits() {
	if !l.Snapshot.MPTCP.Present || l.guarded() {
		return
	}
	have := l.Snapshot.Limits
	want := have
	if l.Plan.Limits != nil {
		want = *l.Plan.Limits
	} else {
		want.Subflows = max(have.Subflows, l.neededSubflows())
	}
	severity := plan.Info
	switch {
	case have.Subflows == 0:
		severity = plan.Error
		want.Subflows = max(want.Subflows, 1)
	case have.Subflows < want.Subflows:
		severity = plan.Warning
	case have.AddAddrAccepted >= want.AddAddrAccepted:
		return
	}
	l.find(severity, "limits-low", "limits", fmt.Sprintf("are %s and should be %s", have, want),
		"ip mptcp limits set "+want.Text(), "ip mptcp limits: "+have.Text())
}

// neededSubflows is how many further subflows one connection needs to use every
// endpoint: the first subflow uses one.
func (l *looker) neededSubflows() uint32 {
	n := 0
	for _, e := range l.Snapshot.Endpoints {
		if e.Flags&netstate.ImplicitFlag == 0 && e.Flags&(netstate.SignalFlag|netstate.SubflowFlag) != 0 {
			n++
		}
	}
	return uint32(max(n-1, 1))
}

// filters reports addresses for which the kernel itself says that it drops.
// Beside a full tunnel nothing is to arrive: what belongs to the tunnel itself
// carries a mark, which lets it pass (src_valid_mark) and the question has not.
func (l *looker) filters() {
	if l.guarded() {
		return
	}
	for _, f := range l.Filtered {
		if l.specific(f.From) {
			continue
		}
		key := conf4(f.Link, "rp_filter")
		remedy := setSysctl(key, "2")
		if l.Daemon == nil && len(l.Changes.Up) > 0 && !l.Runs(Subflowd) {
			remedy = l.startOrReconcile() + " (its source rules are the route back; without them: " + remedy + ")"
		}
		l.find(plan.Error, "rp-filter", f.Addr.String(),
			"is on "+f.Link+", and what arrives there for it from outside is dropped: strict reverse path filtering, and no route back by this link",
			remedy,
			fmt.Sprintf("ip route get %s from %s iif %s: %s", f.Addr, f.From, f.Link, f.Text),
			fmt.Sprintf("net.ipv4.conf.all.rp_filter = %s, %s = %s", l.Sysctls[conf4("all", "rp_filter")], sysctlName(key), l.Sysctls[key]))
	}
}

func conf4(link, key string) string { return "net/ipv4/conf/" + link + "/" + key }
func conf6(link, key string) string { return "net/ipv6/conf/" + link + "/" + key }

// sysctlName is how sysctl(8) writes a path below /proc/sys: with dots, but for
// a link that has one itself ("eth0.100"), which only slashes can name.
func sysctlName(path string) string {
	if strings.Contains(path, ".") {
		return path
	}
	return strings.ReplaceAll(path, "/", ".")
}

// setSysctl is the command that sets a value. A link's name may hold anything
// but a slash and white space (dev_valid_name, net/core/dev.c).
func setSysctl(path, value string) string {
	word := sysctlName(path) + "=" + value
	if strings.ContainsFunc(word, func(r rune) bool { return !strings.ContainsRune(plainWord, r) }) {
		word = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return "sysctl -w " + word
}

// plainWord are the characters that mean nothing to a shell.
const plainWord = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./,:@%"

// number is a sysctl's value; false: the kernel does not have it, or it was not
// seen.
func (l *looker) number(path string) (int, bool) {
	v, err := strconv.Atoi(strings.TrimSpace(l.Sysctls[path]))
	return v, err == nil
}

// highest4 is what holds for a link where the kernel takes the larger of the
// link's value and that of "all" (IN_DEV_MAXCONF, IN_DEV_ORCONF in
// linux/inetdevice.h).
func (l *looker) highest4(link, key string) int {
	a, _ := l.number(conf4("all", key))
	b, _ := l.number(conf4(link, key))
	return max(a, b)
}

// neighbours looks for links in one IPv4 subnet that answer ARP for each other.
func (l *looker) neighbours() {
	var seen []netstate.Addr
	for _, a := range l.Snapshot.Addrs {
		if a.Family() != netstate.IPv4 || !l.resolves(a) {
			continue
		}
		for _, b := range seen {
			if a.Link == b.Link || !l.shared(a, b) {
				continue
			}
			one, two := l.names.Name(b.Link), l.names.Name(a.Link)
			if !l.answersForOthers(one) && !l.answersForOthers(two) {
				continue
			}
			l.find(plan.Warning, "arp-flux", one+", "+two, "are in one subnet, and answer ARP for each other's address",
				"sysctl -w net.ipv4.conf.all.arp_filter=1",
				"ip address: "+b.Local.String()+" dev "+one+", "+a.Local.String()+" dev "+two+"; arp_filter, arp_ignore and rp_filter let both answer")
		}
		seen = append(seen, a)
	}
}

// shared tells whether two links are likely to be on one wire: one prefix, or
// overlapping ones of two paths. The network of a bridge for containers inside
// the site's own is another wire.
func (l *looker) shared(a, b netstate.Addr) bool {
	one, two := a.Local.Masked(), b.Local.Masked()
	return one == two || one.Overlaps(two) && l.isPath(a.Link) && l.isPath(b.Link)
}

// resolves tells whether others find the address by ARP on its link.
func (l *looker) resolves(a netstate.Addr) bool {
	link, ok := l.Snapshot.LinkByIndex(a.Link)
	return ok && !a.Local.IsSingleIP() && netstate.Routable(a.IP()) && !link.Loopback() && link.Master == 0 &&
		link.Up() && link.Carrier() && link.Flags&(netstate.FlagNoARP|netstate.FlagP2P) == 0
}

// answersForOthers tells whether a link answers ARP for addresses of others.
// Strict reverse path filtering and arp_filter ask the routes, which know the
// right link by source rules; arp_ignore looks at the link's addresses alone.
func (l *looker) answersForOthers(link string) bool {
	return l.highest4(link, "arp_filter") == 0 && l.highest4(link, "arp_ignore") == 0 && l.highest4(link, "rp_filter") != 1
}

// routers looks at links by which the host goes outside and which forward: with
// accept_ra at 1 they take no advertisements (ipv6_accept_ra, linux/ipv6.h).
func (l *looker) routers() {
	for _, p := range l.Plan.Paths {
		forwarding, _ := l.number(conf6(p.Name, "forwarding"))
		accept, seen := l.number(conf6(p.Name, "accept_ra"))
		off, _ := l.number(conf6(p.Name, "disable_ipv6"))
		if !seen || forwarding == 0 || accept != 1 || off != 0 || l.staticDefault6(p.Link) {
			continue
		}
		// Where nothing of IPv6 is in use, there may be no router to hear of.
		severity := plan.Info
		if slices.ContainsFunc(l.Plan.Paths, func(o plan.Path) bool { return o.Link == p.Link && o.Family == netstate.IPv6 }) {
			severity = plan.Warning
		}
		key := conf6(p.Name, "accept_ra")
		l.find(severity, "accept-ra", p.Name, "forwards IPv6 and takes no router advertisements", setSysctl(key, "2"),
			fmt.Sprintf("%s = %d, %s = %d", sysctlName(conf6(p.Name, "forwarding")), forwarding, sysctlName(key), accept))
	}
}

// staticDefault6 tells whether a link has an IPv6 default route that needs no
// advertisements of the kernel's own.
func (l *looker) staticDefault6(link int) bool {
	return slices.ContainsFunc(l.Snapshot.Routes, func(r netstate.Route) bool {
		return r.Family == netstate.IPv6 && r.Link == link && r.Default() && r.Table == netstate.TableMain && r.ExpiresIn == 0 &&
			r.Protocol != netstate.ProtoRA && r.Protocol != netstate.ProtoKernel
	})
}

// nexthops looks for routes that show neither device nor gateway.
func (l *looker) nexthops() {
	mode, seen := l.number("net/ipv4/nexthop_compat_mode")
	if !seen || mode != 0 {
		return
	}
	for _, r := range l.Snapshot.Routes {
		if r.NexthopID != 0 {
			l.find(plan.Info, "nexthop-compat", "routes", "use nexthop objects, and net.ipv4.nexthop_compat_mode is 0",
				"sysctl -w net.ipv4.nexthop_compat_mode=1", "ip route: "+r.Text(l.names)+" nhid "+strconv.FormatUint(uint64(r.NexthopID), 10))
			return
		}
	}
}
