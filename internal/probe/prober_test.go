package probe

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/health"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
	"github.com/subflowd/subflowd/test/lab"
)

func TestMain(m *testing.M) { lab.Alone(func() { goleak.VerifyTestMain(m) }) }

// host is a source of paths that a test changes.
type host struct {
	mu      sync.Mutex
	paths   []health.Path
	changed chan struct{}
	told    chan map[netstate.LinkFamily]health.State
	trouble chan error
}

func newHost() *host {
	return &host{changed: make(chan struct{}), told: make(chan map[netstate.LinkFamily]health.State, 100), trouble: make(chan error, 100)}
}

func (h *host) set(paths ...health.Path) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.paths = paths
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *host) source() Source {
	return Source{
		Paths: func() []health.Path {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.paths
		},
		Changed: func() <-chan struct{} {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.changed
		},
		Decide:  func(s map[netstate.LinkFamily]health.State) { h.told <- s },
		Trouble: func(err error) { h.trouble <- err },
	}
}

// wait returns the first states that have what is wanted of a link.
func (h *host) wait(t *testing.T, link int, want health.State) {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		select {
		case s := <-h.told:
			if s[netstate.LinkFamily{Link: link, Family: netstate.IPv4}] == want {
				return
			}
		case <-late:
			t.Fatalf("link %d is never %q", link, want)
		}
	}
}

// loopback is a path out of lo, whose index is 1 in every namespace; the number tells paths apart. One that is dead is
// bound to a link that does not exist.
func loopback(number int, dead bool) health.Path {
	p := health.Path{LinkFamily: netstate.LinkFamily{Link: 1, Family: netstate.IPv4}, Source: netip.AddrFrom4([4]byte{127, 0, byte(number), 1})}
	if dead {
		p.Link = 1 << 20
	}
	return p
}

func TestProber(t *testing.T) {
	defer goleak.VerifyNone(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h := newHost()
	p := NewProber(h.source())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); p.Run(ctx) }()
	defer func() { cancel(); <-done }()

	h.set(loopback(1, false), loopback(2, true))
	p.Configure(config.Probe{Target: l.Addr().String(), Interval: time.Second})
	h.wait(t, 1<<20, health.Silent)
	s := p.Status()
	if good := s.Paths[loopback(1, false).LinkFamily]; good.State != health.Answers || good.RTT == 0 || s.Addresses[netstate.IPv4].String() != l.Addr().String() {
		t.Errorf("status %+v", s)
	}
	// Another target: what was known is void at once.
	p.Configure(config.Probe{Target: "127.0.0.1:1", Interval: time.Second})
	h.wait(t, 1<<20, health.Unknown)
	h.wait(t, 1, health.Down)
	p.Configure(config.Probe{})
	h.wait(t, 1, health.Unknown)
	if s := p.Status(); s.Target != "" || len(s.Paths) > 0 {
		t.Errorf("off: %+v", s)
	}
}

func TestPathsOf(t *testing.T) {
	a := netip.MustParseAddr("10.1.1.2")
	p := &plan.Plan{Paths: []plan.Path{
		{Link: 2, Family: netstate.IPv4, State: plan.Live, Probe: a},
		{Link: 3, Family: netstate.IPv4, State: plan.Grace, Probe: a},
		{Link: 4, Family: netstate.IPv4, State: plan.Live},
	}}
	if found := PathsOf(p); len(found) != 1 || found[0].Link != 2 || found[0].Source != a {
		t.Errorf("%+v", found)
	}
	p.Guard = &plan.Guard{Policy: config.VPNWithdraw}
	if found := PathsOf(p); len(found) != 0 {
		t.Errorf("beside a VPN: %+v", found)
	}
	p.Guard.Policy = config.VPNBackup
	if found := PathsOf(p); len(found) != 1 {
		t.Errorf("beside a VPN by configuration: %+v", found)
	}
	if PathsOf(nil) != nil {
		t.Error("paths of nothing")
	}
}

func TestCovers(t *testing.T) {
	a, b := loopback(1, false), loopback(2, true)
	moved := a
	moved.Source = b.Source
	for _, c := range []struct {
		now  []health.Path
		want bool
	}{{[]health.Path{a, b}, true}, {[]health.Path{b, a}, true}, {[]health.Path{a}, false}, {nil, false}, {[]health.Path{moved, b}, false}} {
		if covers(c.now, []health.Path{a, b}) != c.want {
			t.Errorf("%v", c.now)
		}
	}
}

func TestTargetAddresses(t *testing.T) {
	list := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:1"), netip.MustParseAddrPort("192.0.2.3:1")}
	x := newTarget("192.0.2.2:1")
	x.addrs[netstate.IPv4] = slices.Clone(list)
	x.another(netstate.IPv4)
	x.another(netstate.IPv6)
	if x.addrs[netstate.IPv4][0] != list[1] {
		t.Errorf("%v", x.addrs)
	}
	x.lookUp(t.Context(), begin)
	if x.err != nil || len(x.addrs[netstate.IPv4]) != 1 || x.addrs[netstate.IPv4][0] != list[1] {
		t.Errorf("%v, %v", x.addrs, x.err)
	}
	known := x.addrs
	x.host = "nobody.invalid"
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	x.lookUp(ended, begin)
	if x.err == nil || len(x.addrs[netstate.IPv4]) != len(known[netstate.IPv4]) {
		t.Errorf("after a failure: %v, %v", x.addrs, x.err)
	}
}
