package kernel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/test/lab"
)

// TestErrorInTheMiddle: what follows a refusal, or a change that cannot even be
// asked for, is carried out, and each error belongs to its own change.
func TestErrorInTheMiddle(t *testing.T) {
	t.Parallel()
	h := twoUplinks(t)
	inside(t, h, func(k *Kernel) {
		eth0 := linkNamed(t, refresh(t, k, full()), "eth0").Index
		var changes []netstate.Change
		want := make([]error, 0, 3*requestBatch)
		for i := range 3 * requestBatch {
			r := path4(100002, eth0, "10.1.1.1")[0]
			r.Dst = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 50, byte(i), 0}), 24)
			var err error
			switch i % 5 {
			case 1: // refused by the kernel
				r.Link, err = 4000, unix.ENODEV
			case 3: // never sent
				r.Table, err = 0, unix.EINVAL
			}
			if i == 3*requestBatch-1 { // nor the last one, which would ask for the acknowledgement
				r.Table, err = 0, unix.EINVAL
			}
			changes = append(changes, netstate.Change{Op: netstate.RouteAdd, Route: r})
			want = append(want, err)
		}
		done := 0
		for i, err := range k.Apply(changes) {
			if !errors.Is(err, want[i]) {
				t.Errorf("%s: %v, want %v", changes[i], err, want[i])
			}
			if want[i] == nil {
				done++
			}
		}
		if n := len(lines(h.IP("-4 route show table 100002"))); n != done {
			t.Errorf("%d routes, want %d", n, done)
		}
		// None that can be sent at all.
		none := changes[3]
		for _, err := range k.Apply([]netstate.Change{none, none}) {
			if !errors.Is(err, unix.EINVAL) {
				t.Errorf("%s: %v", none, err)
			}
		}
	})
}

// TestAnswersThatDoNotFit: the kernel carries out a whole batch though its
// answers overflow the socket. None of the lost ones counts as success, and the
// next exchange is not confused.
func TestAnswersThatDoNotFit(t *testing.T) {
	t.Parallel()
	h := twoUplinks(t)
	inside(t, h, func(k *Kernel) {
		eth0 := linkNamed(t, refresh(t, k, full()), "eth0").Index
		good := path4(100002, eth0, "10.1.1.1")[0]
		bad := good
		bad.Link = 4000
		changes := routeChanges(netstate.RouteAdd, slices.Repeat([]netstate.Route{bad}, requestBatch-1)...)
		changes = append(changes, routeChanges(netstate.RouteAdd, good)...)
		if err := unix.SetsockoptInt(k.rt.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 2048); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		lost := 0
		for i, err := range k.Apply(changes) {
			switch {
			case err == nil:
				t.Errorf("%s: counts as done", changes[i])
			case errors.Is(err, unix.ENOBUFS) && MeaningOf(err) == Transient:
				lost++
			case !errors.Is(err, unix.ENODEV):
				t.Errorf("%s: %v", changes[i], err)
			}
		}
		if lost == 0 {
			t.Error("no answer was lost: the test shows nothing")
		}
		if took := time.Since(began); took > replyTimeout/2 {
			t.Errorf("an overflow took %s", took)
		}
		if err := unix.SetsockoptInt(k.rt.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1<<20); err != nil {
			t.Fatal(err)
		}
		if s := refresh(t, k, full()); len(inTable(s, 100002)) != 1 {
			t.Errorf("what came behind the refusals: %v", inTable(s, 100002))
		}
		apply(t, k, routeChanges(netstate.RouteAdd, good)...) // again, as one does after a lost answer
		wantLines(t, "ip route", h.IP("route show table 100002"), "10.1.1.0/24 dev eth0 proto 77 scope link")
	})
}

// TestIndexIsGivenOutAgain: index and name of a link that is gone belong to
// another device at the next reading.
func TestIndexIsGivenOutAgain(t *testing.T) {
	t.Parallel()
	h := twoUplinks(t)
	inside(t, h, func(k *Kernel) {
		index := linkNamed(t, refresh(t, k, full()), "eth0").Index
		// As if the old device had been a modem.
		for id := range k.hardware {
			if id.index == index {
				k.hardware[id] = hardware{devType: "wwan", driver: "option"}
			}
		}
		if l := linkNamed(t, refresh(t, k, netstate.Hints{Kinds: netstate.KindLinks, Links: onlyLink(index)}), "eth0"); !l.Cellular() {
			t.Fatalf("what sysfs told is asked for again: %+v", l)
		}
		h.IP("link del eth0", fmt.Sprintf("link add eth0 index %d type bridge", index), "link set eth0 up", "addr add 10.1.9.2/24 dev eth0")
		s := refresh(t, k, netstate.Hints{Kinds: netstate.KindLinks, Links: onlyLink(index)})
		if l := linkNamed(t, s, "eth0"); l.Index != index || l.Kind != "bridge" || l.Cellular() || l.Driver != "" {
			t.Errorf("found %+v", l)
		}
		compareAddrs(t, h, s)
		// A name that has moved on.
		h.IP("link set eth0 down", "link set eth0 name old", "link set eth1 down", "link set eth1 name eth0")
		s = refresh(t, k, netstate.Hints{Kinds: netstate.KindLinks, Links: map[int]struct{}{index: {}, h.Ifindex("eth0"): {}}})
		compareLinks(t, h, s)
	})
}

// TestHintsOfNoLink: an index that is none means neither all links nor an error
// that would come back for ever.
func TestHintsOfNoLink(t *testing.T) {
	t.Parallel()
	h := twoUplinks(t)
	inside(t, h, func(k *Kernel) {
		want := refresh(t, k, full())
		found := refresh(t, k, netstate.Hints{Kinds: netstate.KindLinks | netstate.KindAddrs, Links: map[int]struct{}{0: {}, -1: {}, 4000: {}}})
		if !slices.Equal(found.Links, want.Links) || !slices.Equal(found.Addrs, want.Addrs) {
			t.Errorf("found %v and %v", found.Links, found.Addrs)
		}
	})
}

// TestManyLinks: what one address costs does not depend on how many links exist.
func TestManyLinks(t *testing.T) {
	t.Parallel()
	const pairs = 150
	h := twoUplinks(t)
	batch := make([]string, pairs)
	for i := range batch {
		batch[i] = fmt.Sprintf("link add a%d up type veth peer name b%d", i, i)
	}
	h.IP(batch...)
	inside(t, h, func(k *Kernel) {
		s := refresh(t, k, full())
		compareLinks(t, h, s)
		eth0 := linkNamed(t, s, "eth0").Index
		h.IP("addr add 10.1.1.3/24 dev eth0")
		before := k.rt.seq
		s = refresh(t, k, netstate.Hints{Kinds: netstate.KindAddrs, Links: onlyLink(eth0)})
		compareAddrs(t, h, s)
		// Addresses, main and the link's table for each family, and a source for each uplink.
		if n := k.rt.seq - before; n > 12 {
			t.Errorf("%d requests for one address", n)
		}
		// More links than are asked for one by one.
		links := map[int]struct{}{}
		for _, l := range s.Links {
			links[l.Index] = struct{}{}
		}
		h.IP("link del a7", "addr del 10.1.1.3/24 dev eth0")
		s = refresh(t, k, netstate.Hints{Kinds: netstate.KindLinks, Links: links})
		compareLinks(t, h, s)
		compareAddrs(t, h, s)
	})
}

// TestStrangersAreNotBelieved: any root process can send a message to the
// watcher's port that looks like the kernel's.
func TestStrangersAreNotBelieved(t *testing.T) {
	t.Parallel()
	h := twoUplinks(t)
	w := watch(t, h, 100, nil)
	lab.Eventually(t, time.Minute, "a subscription", func() error {
		if w.k.watch.Load() == nil {
			return errors.New("none")
		}
		return nil
	})
	h.Do(func() {
		port := w.k.watch.Load().portid
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		forged := packet(unix.RTM_NEWROUTE, 0, 0, build(rtmsg(2, 0, 254, 4, 0), func(m *messages) { m.u32(unix.RTA_OIF, 2) }))
		for _, b := range [][]byte{forged, []byte("0123456789abcdefgh")} {
			if err := unix.Sendto(fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: port}); err != unix.ECONNREFUSED {
				t.Errorf("a message to the watcher: %v", err)
			}
		}
	})
	h.IP("route add 10.7.0.0/16 via 10.1.1.1")
	if _, before := w.until(t, "route added: 10.7.0.0/16"); len(before) > 0 {
		t.Errorf("hints %q", before)
	}
}

// TestReconfiguredWhileSubscribing: a protocol that changes before the watcher
// can be told is noticed by it.
func TestReconfiguredWhileSubscribing(t *testing.T) {
	t.Parallel()
	h := twoUplinks(t)
	inside(t, h, func(k *Kernel) {
		refresh(t, k, full())
		w := k.Watcher()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var reasons []string
		err := w.Watch(ctx, func() {
			// Between the subscription and its being known to Configure.
			k.Configure(Options{Protocol: 200, TableBase: 200000})
		}, func(hint netstate.Hints) {
			why := hint.Why(*k.names.Load())
			switch {
			case why == "the configuration of routing changed":
				h.IP("route add 10.50.0.0/16 via 10.1.1.1 proto 200")
			case strings.Contains(why, "10.50.0.0/16"):
				cancel()
			default:
				return // A slow machine is still bringing its links up.
			}
			reasons = append(reasons, why)
		})
		if !errors.Is(err, context.Canceled) || w.Overflows() != 0 {
			t.Errorf("%v, %d overflows", err, w.Overflows())
		}
		wantLines(t, "hints", strings.Join(reasons, "\n"), "the configuration of routing changed",
			"route added: 10.50.0.0/16 via 10.1.1.1 dev eth0 proto 200")
	})
}

// TestNexthopGroupsThatShrink: members of a group go one after the other, and
// the routes of the last one with it.
func TestNexthopGroupsThatShrink(t *testing.T) {
	t.Parallel()
	h := twoUplinks(t)
	for _, compat := range []string{"0", "1"} {
		h.Sysctl("net.ipv4.nexthop_compat_mode", compat)
		h.IP("nexthop add id 1 via 10.1.1.1 dev eth0", "nexthop add id 2 via 10.1.2.1 dev eth1", "nexthop add id 3 group 1/2", "route add 10.70.0.0/16 nhid 3")
		inside(t, h, func(k *Kernel) {
			show := func() []string {
				var out []string
				s := refresh(t, k, netstate.Hints{Kinds: netstate.KindRoutes})
				for _, r := range s.Routes {
					if r.NexthopID != 0 {
						out = append(out, r.Text(s.Names()))
					}
				}
				return out
			}
			refresh(t, k, full())
			wantLines(t, "both", strings.Join(show(), "\n"), "10.70.0.0/16 via 10.1.1.1 dev eth0 proto boot", "10.70.0.0/16 via 10.1.2.1 dev eth1 proto boot")
			h.IP("nexthop del id 1")
			wantLines(t, "one", strings.Join(show(), "\n"), "10.70.0.0/16 via 10.1.2.1 dev eth1 proto boot")
			if none, err := k.readNexthop(1); err != nil || none.route.Link != 0 {
				t.Errorf("a nexthop that is gone: %+v, %v", none, err)
			}
			h.IP("nexthop del id 2")
			wantLines(t, "none", strings.Join(show(), "\n"))
		})
		_, _ = h.TryIP("nexthop del id 3")
	}
}
