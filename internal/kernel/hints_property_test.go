package kernel

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/test/lab"
)

// actor does at random what administrators, DHCP clients and VPNs do, by ip(8).
type actor struct {
	*rand.Rand
	h, router *lab.Host
	done      []string
	names     []string // of links, as they are now
	told      int      // news that were compared
}

// seedVariable repeats a run: SUBFLOWD_TEST_SEED=7.
const seedVariable = "SUBFLOWD_TEST_SEED"

func newActor(t *testing.T) *actor {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv(seedVariable); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s=%d", seedVariable, seed)
	l := lab.New(t)
	a := &actor{Rand: rand.New(rand.NewPCG(seed, 1)), h: l.Host("client"), router: l.Host("router")}
	lab.Veth(a.h, "eth0", a.router, "c0")
	lab.Veth(a.h, "eth1", a.router, "c1")
	lab.NewTunnel(a.h, "tun0", a.router, "tun0")
	a.h.IP("link add br0 type bridge", "link add p0 type veth peer name p1", "link set p1 up", "link set br0 up",
		"rule add from 10.1.2.0/24 lookup 300", "-6 rule add from 2001:db8:2::/64 lookup 300")
	a.names = []string{"eth0", "eth1", "tun0", "br0", "p0"}
	return a
}

func (a *actor) pick(from ...string) string { return from[a.IntN(len(from))] }

func (a *actor) link() string { return a.pick(a.names...) }

// table is main, one that a rule leads to, one that none leads to, or a path table.
func (a *actor) table() string {
	path := fmt.Sprint(100000 + a.IntN(9))
	return " table " + a.pick("main", "main", "300", "301", path, path)
}

func (a *actor) proto() string { return " proto " + a.pick("static", "boot", "dhcp", "ra", "77", "77") }

func (a *actor) gateway() string { return fmt.Sprintf("10.1.%d.%d", 1+a.IntN(2), 1+a.IntN(3)) }

func (a *actor) gateway6() string { return fmt.Sprintf("2001:db8:%d::%d", 1+a.IntN(2), 1+a.IntN(3)) }

func (a *actor) addr() string {
	return fmt.Sprintf("10.1.%d.%d/%s", 1+a.IntN(2), 10+a.IntN(4), a.pick("24", "24", "32"))
}

func (a *actor) addr6() string { return fmt.Sprintf("2001:db8:%d::%d/64", 1+a.IntN(2), 10+a.IntN(3)) }

func (a *actor) dst() string {
	return a.pick("default", "default", "0.0.0.0/1", "10.60.0.0/16", "10.1.1.64/26")
}

func (a *actor) dst6() string {
	return a.pick("default", "default", "2001:db8:60::/48", "2001:db8:1:0:1::/80")
}

// moves are what may happen, as commands of ip(8); many of them fail.
var moves = []func(a *actor) string{
	func(a *actor) string { return "addr add " + a.addr() + " dev " + a.link() },
	func(a *actor) string { return "addr add " + a.addr() + " dev " + a.pick("eth0", "eth1") },
	func(a *actor) string { return "addr del " + a.addr() + " dev " + a.link() },
	func(a *actor) string { return "addr flush dev " + a.link() + " scope global" },
	func(a *actor) string { return "addr add 10.3.0.1 peer 10.3.0.2 dev " + a.link() },
	func(a *actor) string { return "-6 addr add " + a.addr6() + " dev " + a.link() + a.pick("", " nodad") },
	func(a *actor) string {
		return "-6 addr replace " + a.addr6() + " dev " + a.link() + " valid_lft 1000 preferred_lft " + a.pick("0", "900") + " nodad"
	},
	func(a *actor) string { return "-6 addr del " + a.addr6() + " dev " + a.link() },
	func(a *actor) string {
		return "route " + a.pick("add", "replace", "append") + " " + a.dst() + " via " + a.gateway() + " dev " + a.link() + " onlink" +
			a.table() + a.proto() + " metric " + a.pick("0", "100", "200") + a.pick("", "", " src 10.1.1.10", " mtu 1400")
	},
	func(a *actor) string {
		return "route add " + a.dst() + a.table() + a.proto() + " nexthop via 10.1.1.1 dev eth0 onlink weight 2 nexthop via 10.1.2.1 dev " + a.link() + " onlink"
	},
	func(a *actor) string { return "route add " + a.dst() + " dev " + a.link() + a.table() + a.proto() },
	func(a *actor) string {
		return "route add " + a.pick("blackhole", "unreachable", "throw") + " " + a.dst() + a.table() + a.proto() + " metric 7"
	},
	func(a *actor) string { return "route del " + a.dst() + a.table() },
	func(a *actor) string { return "route flush" + a.table() + a.pick("", " proto static", " proto 77") },
	func(a *actor) string {
		return "-6 route " + a.pick("add", "replace", "append") + " " + a.dst6() + " via " + a.pick(a.gateway6(), "fe80::1") + " dev " + a.link() +
			a.table() + a.proto() + " metric " + a.pick("100", "200") + a.pick("", "", " pref high", " expires 1000", " src 2001:db8:1::10")
	},
	func(a *actor) string {
		return "-6 route add " + a.dst6() + a.table() + a.proto() + " nexthop via fe80::1 dev eth0 nexthop via fe80::2 dev " + a.link()
	},
	func(a *actor) string { return "-6 route del " + a.dst6() + a.table() },
	func(a *actor) string { return "-6 route flush" + a.table() + a.pick("", " proto static") },
	func(a *actor) string {
		return "nexthop " + a.pick("add", "replace") + " id " + a.pick("1", "2") + " via " + a.gateway() + " dev " + a.link() + " onlink"
	},
	func(a *actor) string { return "nexthop add id 3 group 1/2" },
	func(a *actor) string { return "nexthop del id " + a.pick("1", "2", "3") },
	func(a *actor) string { return "route add " + a.dst() + a.table() + " nhid " + a.pick("1", "2", "3") },
	func(a *actor) string {
		return a.pick("", "-6 ") + "rule add " + a.pick("", "", "not ") + a.pick("fwmark 7 ", "iif eth0 ", "uidrange 5-9 ", "ipproto tcp ") +
			"lookup " + a.pick("300", "301", "main") + a.pick("", " suppress_prefixlength 0", " priority 32765", " priority 99")
	},
	func(a *actor) string {
		return "rule add from " + strings.TrimSuffix(a.addr(), "/24") + " lookup " + fmt.Sprint(100000+a.IntN(9)) + " priority 32765 proto " + a.pick("77", "78")
	},
	func(a *actor) string { return a.pick("", "-6 ") + "rule del lookup " + a.pick("300", "301") },
	func(a *actor) string { return a.pick("", "-6 ") + "rule del priority 32765" },
	func(a *actor) string { return "link set " + a.link() + " down" },
	func(a *actor) string { return "link set " + a.link() + " up" },
	func(a *actor) string { return "link set " + a.link() + " up" },
	func(a *actor) string { return "link set " + a.link() + " mtu " + a.pick("1400", "1500") },
	func(a *actor) string {
		return "link set " + a.pick("p0", "eth1") + a.pick(" master br0", " nomaster", " nomaster")
	},
	func(a *actor) string { return "link set eth0 address 02:00:00:00:00:0" + a.pick("1", "2") },
	(*actor).rename,
	(*actor).replug,
}

// rename gives a link another name, or its old one back.
func (a *actor) rename() string {
	i := slices.IndexFunc(a.names, func(n string) bool { return strings.HasPrefix(n, "p") })
	old := a.names[i]
	_, _ = a.h.TryIP("link set " + old + " down") // before 6.2 a link that is up keeps its name
	a.names[i] = "p" + fmt.Sprint(4+a.IntN(3))
	return "link set " + old + " name " + a.names[i]
}

// replug removes a link and makes another, which gets the same ifindex.
func (a *actor) replug() string {
	i := slices.IndexFunc(a.names, func(n string) bool { return strings.HasPrefix(n, "p") })
	old, index := a.names[i], a.h.Ifindex(a.names[i])
	_, _ = a.h.TryIP("link del " + old)
	a.names[i] = "p" + a.pick("0", "9")
	return fmt.Sprintf("link add %s index %d type %s", a.names[i], index, a.pick("bridge", "ifb"))
}

// act does one thing and returns its words. Carriers come and go by the other end.
func (a *actor) act() string {
	if a.IntN(12) == 0 {
		c := "link set " + a.pick("c0", "c1") + a.pick(" up", " down")
		_, err := a.router.TryIP(c)
		return a.note("[router] "+c, err)
	}
	c := moves[a.IntN(len(moves))](a)
	_, err := a.h.TryIP(c)
	return a.note(c, err)
}

func (a *actor) note(c string, err error) string {
	if err != nil {
		c += " (refused)"
	}
	a.done = append(a.done, "ip "+c)
	return c
}

// alike compares snapshots, but for lifetimes that run.
var alike = cmp.Options{
	cmpopts.EquateComparable(netstate.Link{}, netstate.Rule{}, netstate.LinkFamily{}, netip.Addr{}),
	cmpopts.EquateEmpty(),
	cmp.Transformer("address", func(a netstate.Addr) string {
		if a.Flags&netstate.AddrTentative != 0 {
			// Its other flags change without an event (inet6_addr_modify); the end
			// of its being tentative is one.
			a.Flags = netstate.AddrTentative
		}
		return fmt.Sprintf("%s peer %s flags %#x scope %d", a, a.Peer, a.Flags, a.Scope)
	}),
	cmp.Transformer("route", func(r netstate.Route) string {
		return fmt.Sprintf("%s scope %d linkdown %t expired %t nhid %d multipath %t encap %t",
			r.Text(nil), r.Scope, r.LinkDown, r.Expired(), r.NexthopID, r.Multipath, r.Encap)
	}),
}

// TestHintsAreComplete: what the watcher's hints make a long-lived Kernel read
// again is all that has changed, silent flushes included. What they tell of is
// read then, to the last attribute.
func TestHintsAreComplete(t *testing.T) {
	t.Parallel()
	const steps = 250
	a := newActor(t)
	w := watch(t, a.h, 100000, nil)
	a.h.Do(func() {
		refresh(t, w.k, full()) // what changed before the subscription stood has no hint
		for range steps {
			step := a.act()
			if diff := a.settle(t, w); diff != "" {
				t.Errorf("after ip %s: (-read anew +by hints)\n%s\nall before:\n\t%s", step, diff, strings.Join(a.done, "\n\t"))
				return
			}
		}
	})
	if a.told < steps/20 {
		t.Errorf("only %d addresses and routes were told of", a.told)
	}
}

// settle follows the hints until the snapshot is that of a fresh reader. Links
// and addresses report some changes up to a second late.
func (a *actor) settle(t *testing.T, w *watched) string {
	late := time.Now().Add(15 * time.Second)
	for {
		var hints netstate.Hints
		for len(w.hints) > 0 {
			hints.Merge(<-w.hints)
		}
		found := refresh(t, w.k, hints)
		fresh, err := Open(testOptions)
		if err != nil {
			t.Fatal(err)
		}
		want := refresh(t, fresh, full())
		fresh.Close()
		diff := cmp.Diff(want, found, alike)
		if diff == "" {
			a.compareNews(t, hints, found)
		}
		if diff == "" || time.Now().After(late) {
			return diff
		}
		select {
		case h := <-w.hints:
			w.hints <- h
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// compareNews wants what the hints told to be what was read.
func (a *actor) compareNews(t *testing.T, h netstate.Hints, found *netstate.Snapshot) {
	t.Helper()
	if !h.Told {
		return
	}
	for _, n := range h.News {
		switch {
		case n.Addr != nil && n.Addr.Flags&netstate.AddrTentative != 0:
		case n.Addr != nil && !slices.Contains(found.Addrs, *n.Addr):
			t.Errorf("after ip %s: %+v is told of and not read", a.done[len(a.done)-1], *n.Addr)
		case n.Route != nil && !slices.ContainsFunc(found.Routes, n.Route.Still):
			t.Errorf("after ip %s: %+v is told of and not read", a.done[len(a.done)-1], *n.Route)
		default:
			a.told++
		}
	}
}
