package kernel

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
)

// large makes a table main of so many routes of a routing daemon that it is walked only when it has to be.
func large() []string {
	var batch []string
	for i := range manyRoutes + 1000 {
		batch = append(batch, fmt.Sprintf("route add blackhole 20.%d.%d.0/24 proto bgp", i/250, i%250))
	}
	return batch
}

// sortedRoutes leaves out what the kernel makes in its own time when a link comes up.
func sortedRoutes(s *netstate.Snapshot) []string {
	var list []string
	for _, r := range s.Routes {
		if linkLocal(r) {
			continue
		}
		r.ExpiresIn = 0
		list = append(list, r.Text(s.Names()))
	}
	slices.Sort(list)
	return list
}

// TestLargeTableByItsEvents: what the events of a large table say is known at once, and the walk after it finds the same.
func TestLargeTableByItsEvents(t *testing.T) {
	t.Parallel()
	h := twoUplinks(t)
	h.IP(large()...)
	w := watch(t, h, 1<<16, nil)
	walks := refresh(t, w.k, netstate.Hints{Kinds: netstate.KindRoutes, Walk: true})
	if walks.Unsure || w.k.main.seen[tableID{netstate.IPv4, netstate.TableMain}] < manyRoutes {
		t.Fatalf("unsure %v, seen %v", walks.Unsure, w.k.main.seen)
	}
	for i, c := range []struct {
		change string
		event  string
		walked bool // what the event says is not enough
	}{
		{"addr add 10.1.1.7/24 dev eth0", "10.1.1.7 added", false},
		{"route add default via 10.1.1.1 dev eth0 metric 7 proto dhcp", "dhcp metric 7", false},
		{"route add default via 10.1.1.9 dev eth0 metric 3 mtu 1400 proto static", "metric 3", false},
		{"route append default via 10.1.2.1 dev eth1 metric 7 proto dhcp", "route added: default via 10.1.2.1", false},
		{"route prepend default via 10.1.1.8 dev eth0 metric 7 proto dhcp", "10.1.1.8", false},
		{"route del default via 10.1.1.1 dev eth0 metric 7", "removed: default", false},
		{"route add 192.0.2.0/24 dev eth1 src 10.1.2.2", "192.0.2.0/24", false},
		{"route add blackhole 198.51.100.0/24", "198.51.100.0/24", false},
		{"route del blackhole 198.51.100.0/24", "removed: blackhole", false},
		{"route replace 192.0.2.0/24 via 10.1.1.1", "192.0.2.0/24 via", true},
		{"route add 203.0.113.0/24 nexthop via 10.1.1.1 dev eth0 nexthop via 10.1.2.1 dev eth1", "203.0.113.0/24", true},
		{"route del 203.0.113.0/24", "removed: 203.0.113.0/24", true},
		{"route add 203.0.113.0/24 via 10.1.1.1 src 10.1.1.7", "203.0.113.0/24", false},
		{"addr del 10.1.1.7/24 dev eth0", "10.1.1.7 removed", false},
		{"addr del 10.1.2.2/24 dev eth1", "10.1.2.2 removed", false}, // the last one
		{"addr add 10.1.2.2/24 dev eth1", "10.1.2.2 added", false},
		{"route add default via 10.1.2.1 dev eth1 metric 9", "metric 9", false},
		{"addr change 10.1.2.2/24 dev eth1 label eth1:x", "10.1.2.2 added", false},
	} {
		h.IP(c.change)
		hint, _ := w.until(t, c.event)
		// The kernel may add routes of its own to an address, whose events follow.
		h.IP(fmt.Sprintf("route add default via 10.1.1.1 metric %d", 1000+i))
		last, _ := w.until(t, fmt.Sprintf("metric %d", 1000+i))
		hint.Merge(last)
		s := refresh(t, w.k, hint)
		if s.Unsure == c.walked {
			t.Errorf("%s: unsure %v", c.change, s.Unsure)
		}
		truth := refresh(t, w.k, netstate.Hints{Kinds: netstate.KindRoutes, Walk: true})
		if got, want := sortedRoutes(s), sortedRoutes(truth); !slices.Equal(got, want) || truth.Unsure {
			t.Errorf("%s: by events\n%s\nwalked\n%s", c.change, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		for i := 1; i < len(s.Routes); i++ {
			a, b := s.Routes[i-1], s.Routes[i]
			if a.Table == b.Table && a.Family == b.Family && a.Dst == b.Dst && a.Metric > b.Metric {
				t.Errorf("%s: %s before %s", c.change, a.Text(s.Names()), b.Text(s.Names()))
			}
		}
	}
}

func TestTooManyEventsAreAWalk(t *testing.T) {
	t.Parallel()
	var p patches
	id := tableID{netstate.IPv4, netstate.TableMain}
	r := netstate.Route{Family: netstate.IPv4, Table: netstate.TableMain}
	if p.note(header{typ: unix.RTM_NEWROUTE}, r, false) {
		t.Error("a table that is not large")
	}
	p.setLarge(map[tableID]int{id: manyRoutes + 1})
	for i := range maxPatches {
		if !p.note(header{typ: unix.RTM_NEWROUTE}, r, false) {
			t.Fatalf("event %d", i)
		}
	}
	if p.note(header{typ: unix.RTM_NEWROUTE}, r, false) {
		t.Error("one too many is noted")
	}
	if n := len(p.take()[id]); n != maxPatches {
		t.Errorf("%d taken", n)
	}
	if !p.note(header{typ: unix.RTM_NEWROUTE}, r, false) {
		t.Error("nothing is noted after that")
	}
}

// TestLargeTableAtRandom: whatever happens to links, addresses and routes, what is known by events is what a walk finds.
func TestLargeTableAtRandom(t *testing.T) {
	t.Parallel()
	h := twoUplinks(t)
	h.IP(large()...)
	w := watch(t, h, 1<<16, nil)
	refresh(t, w.k, full())
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	var done []string
	byEvents := 0
	for i := range 150 {
		dev, n := pick("eth0 1", "eth1 2"), random.IntN(3)+2
		dev, net, _ := strings.Cut(dev, " ")
		addr := fmt.Sprintf("10.1.%s.%d", net, n)
		via := fmt.Sprintf("via 10.1.%s.%d dev %s", net, 1+random.IntN(2)*200, dev)
		route := pick("default", "192.0.2.0/24", "198.51.100.0/24") + " " + via + fmt.Sprintf(" metric %d", random.IntN(3)*10+5)
		change := pick(
			"addr add "+addr+"/24 dev "+dev, "addr add "+addr+"/24 dev "+dev, "addr del "+addr+"/24 dev "+dev,
			"route add "+route, "route add "+route+" src "+addr, "route append "+route, "route del "+route, "route replace "+route,
			"route add blackhole 203.0.113.0/24", "route del blackhole 203.0.113.0/24",
			"link set "+dev+" down", "link set "+dev+" up", "link set "+dev+" up",
			"route add 203.0.113.0/24 metric 9 nexthop via 10.1.1.1 dev eth0 nexthop via 10.1.2.1 dev eth1",
		)
		_, err := h.Try("ip", strings.Fields(change)...)
		done = append(done, fmt.Sprintf("%s (%v)", change, err == nil))
		marker := fmt.Sprintf("metric %d", 1000+i)
		h.IP("route add blackhole 192.0.0.0/24 " + marker)
		var all netstate.Hints
		for !strings.Contains(all.Reason, marker) {
			select {
			case hint := <-w.hints:
				all.Merge(hint)
				all.Reason = hint.Why(nil)
			case <-time.After(time.Minute):
				t.Fatalf("no hint of %s, the last one is %s", marker, all.Reason)
			}
		}
		s := refresh(t, w.k, all)
		if s.Unsure {
			byEvents++
		}
		truth := refresh(t, w.k, netstate.Hints{Kinds: netstate.KindRoutes, Walk: true})
		if d := cmp.Diff(sortedRoutes(truth), sortedRoutes(s)); d != "" {
			t.Fatalf("seed %d: walked (-) and by events (+)\n%s\nafter\n%s", seed, d, strings.Join(done[max(0, len(done)-12):], "\n"))
		}
	}
	if byEvents < 30 {
		t.Errorf("seed %d: events were believed %d times", seed, byEvents)
	}
}

// TestTouchedUntilRead: a refresh that reads something else does not take for read what an event is about.
func TestTouchedUntilRead(t *testing.T) {
	t.Parallel()
	var m mainTable
	m.watched.Store(true)
	m.touch(netstate.IPv4)
	for _, other := range []netstate.Hints{
		{Kinds: netstate.KindRules},
		{Kinds: netstate.KindEndpoints},
		{Kinds: netstate.KindRoutes, Family: netstate.IPv6},
	} {
		if m.takeTouched(other).has(netstate.IPv4) {
			t.Errorf("%+v reads IPv4 routes", other)
		}
	}
	mine := netstate.Hints{Kinds: netstate.KindRoutes, Family: netstate.IPv4}
	if got := m.takeTouched(mine); !got.has(netstate.IPv4) || got.has(netstate.IPv6) {
		t.Errorf("after others: touched %v", got)
	}
	if got := m.takeTouched(mine); got.has(netstate.IPv4) {
		t.Error("read twice for one event")
	}
	m.touch(0)
	if got := m.takeTouched(netstate.Hints{Kinds: netstate.KindLinks}); !got.has(netstate.IPv4) || !got.has(netstate.IPv6) {
		t.Errorf("a change of any family: touched %v", got)
	}
}
