package inspect

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/subflowd/subflowd/internal/netstate"
)

const sysctlRoot = "/proc/sys/"

// hostSysctls are read once, linkSysctls for each link that has an address.
var (
	hostSysctls = []string{
		"net/ipv4/nexthop_compat_mode", "net/mptcp/enabled", "net/mptcp/pm_type", "net/mptcp/path_manager", "net/mptcp/blackhole_timeout",
	}
	linkSysctls = map[string][]string{
		"net/ipv4/conf/": {"rp_filter", "arp_filter", "arp_ignore"},
		"net/ipv6/conf/": {"forwarding", "accept_ra", "disable_ipv6"},
	}
)

// sysctls reads files of the calling thread's namespace: /proc/sys/net shows
// that of the thread that opens them (net_ctl_root, net/sysctl_net.c).
func (g *gatherer) sysctls() {
	for _, name := range hostSysctls {
		g.sysctl(name)
	}
	links := map[string]bool{"all": true}
	names := g.facts.Snapshot.Names()
	for _, a := range g.facts.Snapshot.Addrs {
		if netstate.Routable(a.IP()) {
			links[names.Name(a.Link)] = true
		}
	}
	for link := range links {
		for dir, keys := range linkSysctls {
			for _, key := range keys {
				g.sysctl(dir + link + "/" + key)
			}
		}
	}
}

// sysctl reads one value. A missing one is of another kernel, or of a link that
// has just gone.
func (g *gatherer) sysctl(name string) {
	b, err := os.ReadFile(sysctlRoot + name)
	switch {
	case err == nil:
		g.facts.Sysctls[name] = strings.TrimSpace(string(b))
	case !errors.Is(err, fs.ErrNotExist):
		g.cannot("sysctl "+strings.ReplaceAll(name, "/", "."), cause(err))
	}
}

// strict tells whether reverse path filtering is strict on a link: the larger
// of two values counts (IN_DEV_RPFILTER, linux/inetdevice.h), and 1 is strict.
func (g *gatherer) strict(link string) bool {
	return max(g.facts.Sysctls["net/ipv4/conf/all/rp_filter"], g.facts.Sysctls["net/ipv4/conf/"+link+"/rp_filter"]) == "1"
}
