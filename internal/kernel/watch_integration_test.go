package kernel

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/test/lab"
)

// watched runs a watcher in the host's namespace and gives what it emits.
type watched struct {
	k      *Kernel
	w      *Watcher
	hints  chan netstate.Hints
	stop   context.CancelFunc
	result chan error
}

func watch(t testing.TB, h *lab.Host, buffer int, before func(netstate.Hints)) *watched {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &watched{hints: make(chan netstate.Hints, buffer), stop: cancel, result: make(chan error, 1)}
	ready := make(chan struct{})
	done := h.Go(func() {
		k, err := Open(testOptions)
		if err != nil {
			t.Error(err)
			close(ready)
			return
		}
		if _, err := k.Refresh(full()); err != nil {
			t.Error(err)
		}
		w.k, w.w = k, k.Watcher()
		w.result <- w.w.Watch(ctx, func() { close(ready) }, func(h netstate.Hints) {
			if before != nil {
				before(h)
			}
			w.hints <- h
		})
	})
	select {
	case <-ready:
	case <-time.After(lab.Patient(time.Minute)):
		t.Fatal("no subscription")
	}
	t.Cleanup(func() {
		w.end(t)
		<-done
		w.k.Close()
	})
	return w
}

var ended = errors.New("ended before")

func (w *watched) end(t testing.TB) {
	w.stop()
	select {
	case err := <-w.result:
		w.result <- ended
		if !errors.Is(err, context.Canceled) && !errors.Is(err, ended) {
			t.Errorf("watch: %v", err)
		}
	case <-time.After(lab.Patient(time.Minute)):
		t.Error("the watcher does not end")
	}
}

// until waits for a hint whose reason contains what, and returns what came before it.
func (w *watched) until(t testing.TB, what string) (hint netstate.Hints, before []string) {
	t.Helper()
	late := time.After(lab.Patient(time.Minute))
	for {
		select {
		case h := <-w.hints:
			why := h.Why(*w.k.names.Load())
			if strings.Contains(why, what) {
				return h, before
			}
			// Links, IPv6 addresses and the links' own networks settle in their own time.
			if !strings.HasPrefix(why, "link ") && !strings.Contains(why, "route added: fe80::/64") &&
				!(strings.HasPrefix(why, "address ") && strings.Contains(why, "::")) {
				before = append(before, why)
			}
		case <-late:
			t.Fatalf("no hint %q, only %q", what, before)
		}
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWatchNamesKindAndLink(t *testing.T) {
	t.Parallel()
	h := twoUplinks(t)
	w := watch(t, h, 1000, nil)
	eth0, eth1 := h.Ifindex("eth0"), h.Ifindex("eth1")
	for _, step := range []struct {
		command, reason string
		kinds           netstate.Kinds
		links           []int
	}{
		{"addr add 10.1.1.3/24 dev eth0", "address 10.1.1.3 added on eth0", netstate.KindAddrs, []int{eth0}},
		{"addr del 10.1.1.3/24 dev eth0", "address 10.1.1.3 removed from eth0", netstate.KindAddrs | netstate.KindRoutes, []int{eth0}},
		{"route add default via 10.1.2.1 dev eth1", "route added: default via 10.1.2.1 dev eth1", netstate.KindRoutes, []int{eth1}},
		{"route del default via 10.1.2.1 dev eth1", "route removed: default via 10.1.2.1 dev eth1", netstate.KindRoutes, []int{eth1}},
		{"route add 10.7.0.0/16 nexthop via 10.1.1.1 nexthop via 10.1.2.1", "route added: 10.7.0.0/16", netstate.KindRoutes, []int{eth0, eth1}},
		{"route add 192.0.2.0/24 via 10.1.2.1 table 100002 proto 77", "route added: 192.0.2.0/24", netstate.KindRoutes, []int{eth0, eth1}},
		{"-6 route add 2001:db8:9::/48 via 2001:db8:1::1", "route added: 2001:db8:9::/48", netstate.KindRoutes, []int{eth0}},
		{"route add blackhole 10.8.0.0/16", "route added: blackhole 10.8.0.0/16", netstate.KindRoutes, nil},
		{"rule add from 10.1.1.9 lookup 5", "rule added: from 10.1.1.9 lookup 5", netstate.KindRules, nil},
		{"-6 rule del lookup main", "rule removed: from all lookup main", netstate.KindRules, nil},
		{"link set eth1 down", "link eth1 changed: down", netstate.KindLinks | netstate.KindAddrs | netstate.KindRoutes, []int{eth1}},
		{"link del eth0", "link eth0 changed: removed", netstate.KindLinks | netstate.KindAddrs | netstate.KindRoutes, []int{eth0}},
	} {
		h.IP(step.command)
		hint, _ := w.until(t, step.reason)
		if hint.Kinds != step.kinds || len(hint.Links) != len(step.links) || (hint.Links == nil) != (step.links == nil) {
			t.Errorf("ip %s: kinds %b links %v, want %b %v", step.command, hint.Kinds, hint.Links, step.kinds, step.links)
		}
		for _, l := range step.links {
			if _, ok := hint.Links[l]; !ok {
				t.Errorf("ip %s: link %d is not named: %v", step.command, l, hint.Links)
			}
		}
	}
}

func TestForeignPrefixesAreFiltered(t *testing.T) {
	t.Parallel()
	h := twoUplinks(t)
	w := watch(t, h, 1000, nil)
	h.IP("route add 10.50.0.0/16 via 10.1.1.1 proto bgp", "-6 route add 2001:db8:50::/48 via 2001:db8:1::1 proto ospf",
		"route del 10.50.0.0/16 via 10.1.1.1 proto bgp",
		"route add 10.51.0.0/16 via 10.1.1.1 proto 77 table 100002", "route add default via 10.1.1.1 proto bgp",
		"-6 route add default via 2001:db8:1::1 proto ospf", "route add 0.0.0.0/1 via 10.1.1.1 proto bgp",
		"route add local 10.1.1.77 dev lo table local proto static", "addr add 10.9.9.9/32 dev lo",
		"route add 10.52.0.0/16 via 10.1.1.1 proto static")
	_, before := w.until(t, "10.52.0.0/16")
	wantLines(t, "hints", strings.Join(before, "\n"),
		"route added: 10.51.0.0/16 via 10.1.1.1 dev eth0 table 100002 proto 77",
		"route added: default via 10.1.1.1 dev eth0 proto bgp",
		"route added: default via 2001:db8:1::1 dev eth0 proto ospf metric 1024",
		"route added: 0.0.0.0/1 via 10.1.1.1 dev eth0 proto bgp",
		"address 10.9.9.9 added on lo")
}

func TestOwnChangesAreNoNews(t *testing.T) {
	t.Parallel()
	h := twoUplinks(t)
	w := watch(t, h, 1000, nil)
	eth0 := h.Ifindex("eth0")
	ours := path4(100002, eth0, "10.1.1.1")
	h.Do(func() {
		apply(t, w.k, routeChanges(netstate.RouteAdd, ours...)...)
		apply(t, w.k, appendRules(ruleSet(netstate.FamilyOf(ours[1].Gateway).Default().Addr().Next(), 100002))...)
		apply(t, w.k, routeChanges(netstate.RouteDelete, ours[0])...)
	})
	h.IP("route del default table 100002")
	if _, before := w.until(t, "route removed: default"); len(before) > 0 {
		t.Errorf("hints of our own changes: %q", before)
	}
}

// TestOverflowSubscribesAgain counts descriptors, and so runs alone.
func TestOverflowSubscribesAgain(t *testing.T) {
	h := twoUplinks(t)
	var once sync.Once
	stuck, release := make(chan struct{}), make(chan struct{})
	unread := false
	var w *watched
	w = watch(t, h, 100000, func(h netstate.Hints) {
		once.Do(func() {
			close(stuck)
			<-release
		})
		if h.Full {
			unread = w.w.Unread()
		}
	})
	h.IP("addr add 10.1.1.3/24 dev eth0")
	<-stuck
	before := openDescriptors(t)
	var storm []string
	for i := range 60 {
		for k := range 100 {
			storm = append(storm, "route add 10."+itoa(100+i)+"."+itoa(k)+".0/24 via 10.1.1.1")
		}
	}
	h.IP(storm...)
	close(release)
	hint, _ := w.until(t, "overflow: events were lost")
	if !unread {
		t.Error("nothing was said to be unread while events were lost")
	}
	if !hint.Full || w.w.Overflows() != 1 {
		t.Errorf("full %v, %d overflows", hint.Full, w.w.Overflows())
	}
	h.IP("addr add 10.1.1.4/24 dev eth0")
	w.until(t, "address 10.1.1.4 added on eth0")
	if after := openDescriptors(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// TestBrokenSocketsSlowDown: a socket that breaks at once, again and again, does
// not make everything be read in a loop.
func TestBrokenSocketsSlowDown(t *testing.T) {
	t.Parallel()
	const times = 5
	w := watch(t, twoUplinks(t), 1000, nil)
	// What is told comes before the subscription is in use: the first one and each that follows.
	stands := func() {
		lab.Eventually(t, time.Minute, "a subscription", func() error {
			if w.k.main.watched.Load() {
				return nil
			}
			return errors.New("none stands")
		})
	}
	stands()
	began := time.Now()
	for range times {
		w.k.watch.Load().file.Close()
		w.until(t, "overflow: events were lost")
		stands()
	}
	if took := time.Since(began); took < (1<<times-1)*firstPause || w.w.Overflows() != times {
		t.Errorf("%d broken sockets in %s, %d counted", times, took, w.w.Overflows())
	}
}

func TestReconfigured(t *testing.T) {
	t.Parallel()
	h := twoUplinks(t)
	w := watch(t, h, 1000, nil)
	h.Do(func() { w.k.Configure(Options{Protocol: 200, TableBase: 200000}) })
	w.until(t, "configuration of routing changed")
	h.IP("route add 10.53.0.0/16 via 10.1.1.1 proto 77", "route add 10.51.0.0/16 via 10.1.1.1 proto 200")
	if _, before := w.until(t, "10.51.0.0/16"); len(before) > 0 || w.w.Overflows() != 0 {
		t.Errorf("hints %q, %d overflows", before, w.w.Overflows())
	}
}

func TestWatchRefusesAnotherNamespace(t *testing.T) {
	t.Parallel()
	h := twoUplinks(t)
	var k *Kernel
	inside(t, h, func(inside *Kernel) {
		k = inside
		lab.New(t).Host("other").Do(func() {
			if err := k.Watcher().Watch(t.Context(), nil, nil); !errors.Is(err, ErrNamespace) {
				t.Errorf("watch: %v", err)
			}
			mine, err := NamespaceCookie()
			if theirs, err2 := cookieOf(k.rt.fd); err != nil || err2 != nil || mine == theirs {
				t.Errorf("cookies %d and %d, %v, %v", mine, theirs, err, err2)
			}
		})
	})
	if id, err := BootID(); err != nil || len(id) != 36 {
		t.Errorf("boot id %q, %v", id, err)
	}
}

func itoa(n int) string { return decimal(uint32(n)) }

func openDescriptors(t testing.TB) int {
	t.Helper()
	n := 0
	for fd := range 4096 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			n++
		}
	}
	return n
}
