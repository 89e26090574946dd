package managers

import (
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/pkg/mptcp"
	"github.com/subflowd/subflowd/test/lab"
)

// watch notes when a host's addresses, default routes and rules are announced, and when an address has its endpoint, which
// is the last thing that a new path gets. A path that comes back may have its endpoint still.
type watch struct {
	h *lab.Host

	mu       sync.Mutex
	index    map[string]int
	usable   map[netip.Addr]time.Time // since when, and since the last time it was not
	route    map[int]time.Time        // of the last default route in main, by link
	rule     map[netip.Addr]time.Time // of the last rule from the address
	endpoint map[netip.Addr]time.Time
}

func newWatch(h *lab.Host) *watch {
	h.Lab.T.Helper()
	w := &watch{
		h: h, index: map[string]int{}, usable: map[netip.Addr]time.Time{}, route: map[int]time.Time{},
		rule: map[netip.Addr]time.Time{}, endpoint: map[netip.Addr]time.Time{},
	}
	for _, dev := range []string{"eth0", "eth1"} {
		w.index[dev] = h.Ifindex(dev)
	}
	addrs, routes, quit := make(chan netlink.AddrUpdate, 64), make(chan netlink.RouteUpdate, 64), make(chan struct{})
	var pm *mptcp.Client
	var rules *nl.NetlinkSocket
	h.Do(func() {
		var err error
		if pm, err = mptcp.Dial(); err != nil {
			h.Lab.T.Fatal(err)
		}
		if err = netlink.AddrSubscribe(addrs, quit); err != nil {
			h.Lab.T.Fatal(err)
		}
		if err = netlink.RouteSubscribe(routes, quit); err != nil {
			h.Lab.T.Fatal(err)
		}
		if rules, err = nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE); err != nil {
			h.Lab.T.Fatal(err)
		}
	})
	var running sync.WaitGroup
	running.Go(func() { w.addrs(addrs) })
	running.Go(func() { w.routes(routes) })
	running.Go(func() { w.rules(rules) })
	running.Go(func() { w.endpoints(pm, quit) })
	h.Lab.T.Cleanup(func() {
		close(quit)
		rules.Close()
		running.Wait()
		pm.Close()
	})
	return w
}

func (w *watch) addrs(updates <-chan netlink.AddrUpdate) {
	for u := range updates {
		a, ok := netip.AddrFromSlice(u.LinkAddress.IP)
		if a = a.Unmap(); !ok || a.IsLinkLocalUnicast() {
			continue
		}
		w.mu.Lock()
		switch {
		case !u.NewAddr:
			delete(w.usable, a)
			delete(w.endpoint, a)
		case u.Flags&unix.IFA_F_TENTATIVE == 0 && w.usable[a].IsZero():
			w.usable[a] = time.Now()
		}
		w.mu.Unlock()
	}
}

func (w *watch) routes(updates <-chan netlink.RouteUpdate) {
	for u := range updates {
		ones := 0
		if u.Dst != nil {
			ones, _ = u.Dst.Mask.Size()
		}
		if u.Type == unix.RTM_NEWROUTE && u.Table == unix.RT_TABLE_MAIN && ones == 0 {
			w.mu.Lock()
			w.route[u.LinkIndex] = time.Now()
			w.mu.Unlock()
		}
	}
}

func (w *watch) rules(s *nl.NetlinkSocket) {
	for {
		msgs, _, err := s.Receive()
		if err != nil {
			return
		}
		for _, m := range msgs {
			if m.Header.Type != unix.RTM_NEWRULE || len(m.Data) < unix.SizeofRtMsg {
				continue
			}
			attrs, err := nl.ParseRouteAttr(m.Data[unix.SizeofRtMsg:])
			if err != nil {
				continue
			}
			for _, x := range attrs {
				if from, ok := netip.AddrFromSlice(x.Value); ok && x.Attr.Type == unix.FRA_SRC {
					w.mu.Lock()
					w.rule[from] = time.Now()
					w.mu.Unlock()
				}
			}
		}
	}
}

// endpoints asks for them while an address waits for one: the kernel announces none.
func (w *watch) endpoints(pm *mptcp.Client, quit <-chan struct{}) {
	for {
		select {
		case <-quit:
			return
		case <-time.After(w.pause()):
		}
		list, err := pm.Endpoints()
		if err != nil {
			continue
		}
		now := time.Now()
		w.mu.Lock()
		for _, e := range list {
			if w.endpoint[e.Addr].IsZero() && !w.usable[e.Addr].IsZero() {
				w.endpoint[e.Addr] = now
			}
		}
		w.mu.Unlock()
	}
}

// pause is short for two seconds after an address came.
func (w *watch) pause() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	for a, at := range w.usable {
		if w.endpoint[a].IsZero() && time.Since(at) < 2*time.Second {
			return 300 * time.Microsecond
		}
	}
	return 10 * time.Millisecond
}

// log says how long a path took whose address has its endpoint now.
func (w *watch) log(what, dev, addr string) {
	t := w.h.Lab.T
	t.Helper()
	a := netip.MustParseAddr(addr)
	// What is announced last may be read last here.
	ms := func(from, to time.Time) float64 { return max(0, float64(to.Sub(from).Microseconds())/1000) }
	w.mu.Lock()
	defer w.mu.Unlock()
	usable, route, done := w.usable[a], w.route[w.index[dev]], w.endpoint[a]
	if w.rule[a].After(done) {
		done = w.rule[a]
	}
	switch {
	case usable.IsZero() || done.IsZero():
		t.Logf("measured: %s, %s: not seen", what, dev)
	case route.Before(usable.Add(-5 * time.Second)): // none, or an old one
		t.Logf("measured: %s, %s: path %.1f ms after the address", what, dev, ms(usable, done))
	default:
		t.Logf("measured: %s, %s: path %.1f ms after the address, %.1f ms after the default route", what, dev, ms(usable, done), ms(route, done))
	}
}
