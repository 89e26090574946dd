package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/test/lab"
)

func TestLinksAndAddressesAsIPShowsThem(t *testing.T) {
	t.Parallel()
	h := twoUplinks(t)
	h.IP("link add br0 type bridge", "link add p0 type veth peer name p1", "link set p0 master br0", "link set br0 up",
		"tuntap add tun0 mode tun", "addr add 10.3.0.1 peer 10.3.0.2/32 dev tun0", "link set tun0 up",
		"addr add 10.1.1.3/24 dev eth0", "addr change 2001:db8:2::2/64 dev eth1 preferred_lft 0 valid_lft 1000",
		"link set eth1 mtu 1400")
	inside(t, h, func(k *Kernel) {
		s := refresh(t, k, full())
		compareLinks(t, h, s)
		compareAddrs(t, h, s)
		tun := linkNamed(t, s, "tun0")
		if !tun.Tunnel() || tun.Flags&netstate.FlagP2P == 0 {
			t.Errorf("tun0: %+v", tun)
		}
		for _, a := range s.Addrs {
			switch {
			case a.Link == tun.Index && a.Family() == netstate.IPv4 && a.Peer != netip.MustParseAddr("10.3.0.2"):
				t.Errorf("peer of %s", a)
			case a.IP() == netip.MustParseAddr("2001:db8:2::2") && !a.Deprecated():
				t.Errorf("%s is not deprecated", a)
			case a.IP() == netip.MustParseAddr("10.1.1.3") && a.Flags&netstate.AddrTemporary == 0:
				t.Errorf("%s is not secondary", a)
			}
		}

		// Only what the hints name is read again, and equals a full read.
		eth1 := linkNamed(t, s, "eth1").Index
		h.IP("addr add 10.1.2.9/24 dev eth1", "addr del 10.1.1.3/24 dev eth0", "link set eth1 down", "link set eth1 name up1", "link set up1 up", "link del p0")
		partial := refresh(t, k, netstate.Hints{Kinds: netstate.KindLinks, Links: map[int]struct{}{eth1: {}, linkNamed(t, s, "p0").Index: {}, linkNamed(t, s, "p1").Index: {}}})
		if slices.ContainsFunc(partial.Addrs, func(a netstate.Addr) bool { return a.IP().String() == "10.1.1.3" }) == false {
			t.Error("an address that no hint named was read again")
		}
		compareLinks(t, h, partial)
		compareAddrs(t, h, refresh(t, k, netstate.Hints{Kinds: netstate.KindAddrs, Links: onlyLink(linkNamed(t, s, "eth0").Index)}))
		if len(s.Links) == len(partial.Links) || linkNamed(t, s, "eth1").Name != "eth1" {
			t.Error("an earlier snapshot was changed")
		}
	})
}

func compareLinks(t *testing.T, h *lab.Host, s *netstate.Snapshot) {
	t.Helper()
	type shownLink struct {
		Ifindex   int
		Ifname    string
		Mtu       uint32
		Master    string
		Flags     []string
		Operstate string
		Address   string
		Linkinfo  struct {
			Kind string `json:"info_kind"`
			Port string `json:"info_slave_kind"`
		}
	}
	var shown []shownLink
	h.JSON(&shown, "-d link show")
	var want, found []string
	// Kernels such as 6.1 list them by ifindex modulo 256.
	slices.SortFunc(shown, func(a, b shownLink) int { return a.Ifindex - b.Ifindex })
	for _, l := range shown {
		want = append(want, fmt.Sprintf("%d %s mtu %d master %s up %v lower %v kind %s port %s.",
			l.Ifindex, l.Ifname, l.Mtu, l.Master, slices.Contains(l.Flags, "UP"), slices.Contains(l.Flags, "LOWER_UP"), l.Linkinfo.Kind, l.Linkinfo.Port))
	}
	names := s.Names()
	for _, l := range s.Links {
		found = append(found, fmt.Sprintf("%d %s mtu %d master %s up %v lower %v kind %s port %s.",
			l.Index, l.Name, l.MTU, strings.TrimPrefix(names[l.Master], "if0"), l.Up(), l.Flags&netstate.FlagLowerUp != 0, l.Kind, l.PortKind))
	}
	wantLines(t, "links", strings.Join(found, "\n"), want...)
}

func compareAddrs(t *testing.T, h *lab.Host, s *netstate.Snapshot) {
	t.Helper()
	var shown []struct {
		Ifindex int
		Info    []struct {
			Local      string
			Prefixlen  int
			Deprecated bool
		} `json:"addr_info"`
	}
	h.JSON(&shown, "addr show")
	var want, found []string
	for _, l := range shown {
		for _, a := range l.Info {
			if strings.HasPrefix(a.Local, "fe80:") {
				continue // the kernel adds them in its own time
			}
			want = append(want, fmt.Sprintf("%d %s/%d deprecated %v", l.Ifindex, a.Local, a.Prefixlen, a.Deprecated))
		}
	}
	for _, a := range s.Addrs {
		if a.IP().IsLinkLocalUnicast() {
			continue
		}
		found = append(found, fmt.Sprintf("%d %s deprecated %v", a.Link, a.Local, a.Deprecated()))
	}
	wantLines(t, "addresses", strings.Join(found, "\n"), want...)
}

func TestWhichRoutesAreRead(t *testing.T) {
	t.Parallel()
	h := twoUplinks(t)
	h.IP("route add default via 10.1.1.1 dev eth0 metric 100 proto dhcp", "route add 10.60.0.0/16 via 10.1.1.1 proto bgp",
		"route add 10.1.1.128/25 via 10.1.1.1 proto bgp", "route add 10.61.0.0/16 via 10.1.1.1 proto static",
		"route add default via 10.1.2.1 metric 900 proto bgp", "route add unreachable 10.62.0.0/16 metric 7",
		"-6 route add 2001:db8:60::/48 via 2001:db8:1::1 proto ospf", "-6 route add 2001:db8:1:0:8000::/65 via 2001:db8:1::1 proto ospf",
		"-6 route add default via 2001:db8:1::1 metric 50 expires 1000 pref low",
		"rule add from 10.1.2.2 lookup 300", "route add default via 10.1.2.1 table 300", "route add default via 10.1.2.1 table 301",
		"route add 192.0.2.0/24 via 10.1.1.1 table 100099 proto 77", "route add 192.0.3.0/24 via 10.1.1.1 table 100002 proto 4",
		"route add 10.63.0.0/16 proto static nexthop via 10.1.1.1 weight 2 nexthop via 10.1.2.1 onlink dev eth1")
	inside(t, h, func(k *Kernel) {
		s := refresh(t, k, full())
		var found []string
		for _, r := range s.Routes {
			if !r.Dst.Addr().IsLinkLocalUnicast() && r.Protocol != netstate.ProtoKernel {
				found = append(found, r.Text(s.Names()))
			}
		}
		wantLines(t, "routes", strings.Join(found, "\n"),
			"default via 10.1.1.1 dev eth0 proto dhcp metric 100",
			"default via 10.1.2.1 dev eth1 proto bgp metric 900",
			"10.1.1.128/25 via 10.1.1.1 dev eth0 proto bgp",
			"10.61.0.0/16 via 10.1.1.1 dev eth0 proto static",
			"unreachable 10.62.0.0/16 proto boot metric 7",
			"10.63.0.0/16 via 10.1.1.1 dev eth0 proto static",
			"10.63.0.0/16 via 10.1.2.1 dev eth1 proto static onlink",
			"default via 10.1.2.1 dev eth1 table 300 proto boot",
			"192.0.3.0/24 via 10.1.1.1 dev eth0 table 100002 proto static",
			"192.0.2.0/24 via 10.1.1.1 dev eth0 table 100099 proto 77",
			"2001:db8:1:0:8000::/65 via 2001:db8:1::1 dev eth0 proto ospf metric 1024",
			"default via 2001:db8:1::1 dev eth0 proto boot metric 50 pref low")
		for _, r := range s.Routes {
			if r.Metric == 50 && (r.ExpiresIn.Seconds() < 900 || r.ExpiresIn.Seconds() > 1000) {
				t.Errorf("%s expires in %s", r, r.ExpiresIn)
			}
			if got, want := r.Multipath, r.Dst.String() == "10.63.0.0/16"; got != want {
				t.Errorf("%s: multipath %v", r, got)
			}
		}
		// The stale table is followed until it is empty, and a new rule leads to its table.
		h.IP("route del 192.0.2.0/24 table 100099", "rule add from 10.1.2.3 lookup 301")
		s = refresh(t, k, netstate.Hints{Kinds: netstate.KindRules | netstate.KindRoutes, Links: onlyLink(2)})
		if len(inTable(s, 100099)) != 0 || len(inTable(s, 301)) != 1 {
			t.Errorf("tables after a change: %v", s.Routes)
		}
	})
}

func TestSilentFlushIsSeen(t *testing.T) {
	t.Parallel()
	h := twoUplinks(t)
	inside(t, h, func(k *Kernel) {
		eth0 := linkNamed(t, refresh(t, k, full()), "eth0").Index
		apply(t, k, routeChanges(netstate.RouteAdd, path4(100002, eth0, "10.1.1.1")[:2]...)...)
		if s := refresh(t, k, netstate.Hints{Kinds: netstate.KindRoutes, Links: onlyLink(eth0)}); len(inTable(s, 100002)) != 2 {
			t.Fatalf("routes: %v", s.Routes)
		}
		h.IP("addr del 10.1.1.2/24 dev eth0")
		if s := refresh(t, k, netstate.Hints{Kinds: netstate.KindAddrs, Links: onlyLink(eth0)}); len(inTable(s, 100002)) != 0 {
			t.Errorf("routes that the last address took along: %v", inTable(s, 100002))
		}
	})
}

func TestPreferredSource(t *testing.T) {
	t.Parallel()
	h := twoUplinks(t)
	h.IP("addr add 10.1.1.8/24 dev eth0", "addr add 10.1.1.9/24 dev eth0", "route add default via 10.1.1.1 dev eth0 src 10.1.1.9",
		"addr add 10.1.2.9/24 dev eth1", "route add default via 10.1.2.1 dev eth1 metric 9",
		"addr add 2001:db8:1::9/64 dev eth0 nodad", "-6 route add default via 2001:db8:1::1 dev eth0 src 2001:db8:1::9",
		"addr add 2001:db8:2::9/64 dev eth1 nodad")
	inside(t, h, func(k *Kernel) {
		s := refresh(t, k, full())
		eth0, eth1 := linkNamed(t, s, "eth0").Index, linkNamed(t, s, "eth1").Index
		for lf, want := range map[netstate.LinkFamily]string{
			{Link: eth0, Family: netstate.IPv4}: "10.1.1.9", {Link: eth1, Family: netstate.IPv4}: "10.1.2.2",
			{Link: eth0, Family: netstate.IPv6}: "2001:db8:1::9",
		} {
			if got := s.Preferred[lf].String(); got != want {
				t.Errorf("preferred source of link %d %s: %s, want %s", lf.Link, lf.Family, got, want)
			}
		}
		if _, ok := s.Preferred[netstate.LinkFamily{Link: eth1, Family: netstate.IPv6}]; ok {
			t.Error("IPv6 without a route has a preferred source")
		}
		h.IP("addr del 10.1.1.9/24 dev eth0")
		s = refresh(t, k, netstate.Hints{Kinds: netstate.KindAddrs, Links: onlyLink(eth0)})
		if got := s.Preferred[netstate.LinkFamily{Link: eth0, Family: netstate.IPv4}].String(); got != "10.1.1.2" {
			t.Errorf("preferred source after the address went: %s", got)
		}
		h.IP("addr del 10.1.1.8/24 dev eth0")
		s = refresh(t, k, netstate.Hints{Kinds: netstate.KindAddrs, Links: onlyLink(eth0)})
		if got, ok := s.Preferred[netstate.LinkFamily{Link: eth0, Family: netstate.IPv4}]; ok {
			t.Errorf("asked for the only address of a link: %s", got)
		}
	})
}

func TestHardwareFromSysfs(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	dir := filepath.Join(root, "wlan0")
	if err := os.MkdirAll(filepath.Join(dir, "device"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "uevent"), []byte("DEVTYPE=wlan\nINTERFACE=wlan0\nIFINDEX=7\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../../bus/pci/drivers/iwlwifi", filepath.Join(dir, "device", "driver")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		id   linkID
		want hardware
	}{
		{linkID{index: 7, name: "wlan0"}, hardware{"wlan", "iwlwifi"}},
		{linkID{index: 8, name: "wlan0"}, hardware{}}, // another namespace's wlan0
		{linkID{index: 7, name: "eth0"}, hardware{}},
		{linkID{index: 7, name: "../wlan0"}, hardware{}},
	} {
		if got, err := readHardware(root, c.id); got != c.want || err != nil {
			t.Errorf("%v: %v, want %v", c.id, got, c.want)
		}
	}
}

func TestManyForeignRoutes(t *testing.T) {
	t.Parallel()
	const routes = 8000
	h := twoUplinks(t)
	var batch []string
	for i := range routes {
		batch = append(batch, fmt.Sprintf("route add 10.%d.%d.0/24 via 10.1.1.1 proto bgp", 100+i/250, i%250))
	}
	h.IP(batch...)
	inside(t, h, func(k *Kernel) {
		s := refresh(t, k, full())
		if len(s.Routes) > 20 || k.main.seen[tableID{netstate.IPv4, netstate.TableMain}] < routes {
			t.Errorf("%d routes kept, %v seen", len(s.Routes), k.main.seen)
		}
		// While a watcher says that main was not touched it is not walked.
		h.IP("route add 10.99.0.0/16 via 10.1.1.1 proto static")
		k.main.watched.Store(true)
		has := func(s *netstate.Snapshot) bool {
			return slices.ContainsFunc(s.Routes, func(r netstate.Route) bool { return r.Dst.String() == "10.99.0.0/16" })
		}
		if has(refresh(t, k, netstate.Hints{Kinds: netstate.KindRoutes})) {
			t.Error("a full table was walked for nothing")
		}
		k.main.touch(netstate.IPv4)
		if !has(refresh(t, k, netstate.Hints{Kinds: netstate.KindRoutes})) {
			t.Error("a table that was touched was not read")
		}
	})
}

func TestRefreshMakesUpForAFailure(t *testing.T) {
	t.Parallel()
	h := twoUplinks(t)
	inside(t, h, func(k *Kernel) {
		eth0 := linkNamed(t, refresh(t, k, full()), "eth0").Index
		h.IP("addr add 10.1.1.7/24 dev eth0")
		fd := k.rt.fd
		k.rt.fd = -1
		if _, err := k.Refresh(netstate.Hints{Kinds: netstate.KindAddrs, Links: onlyLink(eth0)}); !errors.Is(err, os.ErrClosed) {
			t.Errorf("refresh on a closed socket: %v", err)
		}
		k.rt.fd = fd
		compareAddrs(t, h, refresh(t, k, netstate.Hints{Kinds: netstate.KindRules}))
	})
}

func onlyLink(index int) map[int]struct{} { return map[int]struct{}{index: {}} }
