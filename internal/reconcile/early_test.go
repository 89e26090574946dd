package reconcile

import (
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/subflowd/subflowd/internal/kernel/kerneltest"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/netstate/iptext"
)

// oneUplink is a host whose second link has nothing yet.
const oneUplink = `
link 1 lo loopback
link 2 eth0
link 3 eth1
addr 10.1.1.2/24 dev eth0
route 10.1.1.0/24 dev eth0 proto kernel src 10.1.1.2
route default via 10.1.1.1 dev eth0 proto dhcp metric 100
`

var (
	addr2 = netstate.Addr{Link: 3, Local: netip.MustParsePrefix("10.1.2.2/24")}
	way2  = defaultOf("10.1.2.1", 3, 200)

	subnet2 = netstate.Route{
		Family: netstate.IPv4, Table: netstate.TableMain, Dst: addr2.Local.Masked(), Type: netstate.Unicast,
		Protocol: netstate.ProtoKernel, Scope: netstate.ScopeLink, Link: 3, PrefSrc: ip2,
	}
)

// steps writes down what the loop does with the kernel.
func (h *host) steps() *[]string {
	steps := new([]string)
	h.FailRefresh(func(netstate.Hints) error {
		*steps = append(*steps, "read")
		return nil
	})
	h.After(func(c netstate.Change) { *steps = append(*steps, c.Text(nil)) })
	return steps
}

func (h *host) lease() {
	h.t.Helper()
	if err := h.Lease(addr2, way2); err != nil {
		h.t.Fatal(err)
	}
}

// earlyHost is at rest with one uplink.
func earlyHost(t *testing.T) *host {
	h := run(t, kerneltest.New(iptext.MustSnapshot(oneUplink)), &memory{})
	h.pass(time.Minute)
	return h
}

// TestPathBeforeReading: the first path of a link is made from what the events
// say, and what was made is read afterwards.
func TestPathBeforeReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := earlyHost(t)
		steps := h.steps()
		h.lease()
		h.pass(20 * time.Millisecond)
		h.converged()
		h.want(settledText)
		made := slices.Index(*steps, "read")
		if made != 5 || !strings.Contains((*steps)[4], "endpoint") || len(*steps) < 7 {
			t.Errorf("wanted five changes and then reads:\n%s", strings.Join(*steps, "\n"))
		}
		for _, l := range h.logs.FilterField(zap.String("link", "eth1")).All() {
			if m := l.ContextMap(); m["trigger"] != "address 10.1.2.2 added on eth1" || m["reason"] == "" {
				t.Errorf("%s: %v", l.Message, m)
			}
		}
		if n := h.logs.FilterField(zap.String("link", "eth1")).Len(); n != 5 {
			t.Errorf("%d lines tell of five changes", n)
		}
	})
}

// TestPathOfTwoRounds: an address comes well before its router.
func TestPathOfTwoRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := earlyHost(t)
		h.AddAddr(addr2)
		h.pass(20 * time.Millisecond)
		steps := h.steps()
		if err := h.AddRoute(way2); err != nil {
			t.Fatal(err)
		}
		h.pass(20 * time.Millisecond)
		h.want(settledText)
		if slices.Index(*steps, "read") != 5 {
			t.Errorf("wanted five changes and then reads:\n%s", strings.Join(*steps, "\n"))
		}
	})
}

// TestToldAndOver: what the events say is over when they are heard. It leaves
// nothing, is no fight and no failure, and the path comes when it comes.
func TestToldAndOver(t *testing.T) {
	over := map[string]func(h *host){
		"address and route":     func(*host) {},
		"the route":             func(h *host) { h.AddAddr(addr2) },
		"the address, moved":    func(h *host) { h.AddAddr(netstate.Addr{Link: 2, Local: addr2.Local}) },
		"the link":              func(h *host) { h.Update(func(s *netstate.Snapshot) { s.Links = s.Links[:2] }) },
		"the link's being up":   func(h *host) { h.LinkDown(3) },
		"the router, by a lie":  func(h *host) { h.AddAddr(addr2); _ = h.AddRoute(defaultOf("10.1.2.9", 3, 200)) },
		"the metric, by a lie":  func(h *host) { h.AddAddr(addr2); _ = h.AddRoute(defaultOf("10.1.2.1", 3, 50)) },
		"the only default, lie": func(h *host) { h.AddAddr(addr2); _ = h.AddRoute(way2); _ = h.AddRoute(defaultOf("10.1.2.9", 3, 50)) },
	}
	for name, do := range over {
		t.Run(name, func(t *testing.T) {
			want := afterwards(t, do, false)
			if got := afterwards(t, do, true); got != want {
				t.Errorf("with events that tell, and are late (-without +with):\n%s", cmp.Diff(want, got))
			}
		})
	}
}

// afterwards is what is ours after something happened, 20 times, of which the
// events told something else.
func afterwards(t *testing.T, do func(h *host), tell bool) (ours string) {
	synctest.Test(t, func(t *testing.T) {
		h := earlyHost(t)
		for range 20 {
			if tell {
				h.Emit(netstate.Hints{
					Kinds: netstate.KindAddrs | netstate.KindRoutes, Links: map[int]struct{}{3: {}}, Family: netstate.IPv4, Added: true,
					Told: true, News: []netstate.News{{Addr: &addr2}, {Route: &subnet2}, {Route: &way2}},
				})
			}
			h.pass(100 * time.Millisecond)
		}
		do(h)
		h.pass(time.Minute)
		h.converged()
		h.wantFinding(codeChange, false)
		if n := len(failureLines(h.logs)); n != 0 {
			t.Errorf("failures: %v", failureLines(h.logs))
		}
		ours = sorted(h.ours())
		h.stop()
	})
	return ours
}

// TestPathNotForced: what of a path is refused is tried again at once, and its
// endpoint not made before its routing.
func TestPathNotForced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := earlyHost(t)
		failOnce(h.Fake, 2, syscall.ENETUNREACH) // the default route
		steps := h.steps()
		h.lease()
		h.pass(50 * time.Millisecond)
		step := func(words string) int {
			return slices.IndexFunc(*steps, func(s string) bool { return strings.Contains(s, words) })
		}
		if way, endpoint := step("route add default"), step("endpoint"); way < 0 || endpoint < way {
			t.Errorf("an endpoint without routing:\n%s", strings.Join(*steps, "\n"))
		}
		if told := failureLines(h.logs); len(told) != 1 {
			t.Errorf("lines of failures: %v", told)
		}
		h.converged()
		h.want(settledText)
	})
}

// TestNoPathBesideATunnel: a tunnel is read, and while it is read the events of a new uplink come. What the last plan
// knew of tunnels does not count.
func TestNoPathBesideATunnel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := run(t, kerneltest.New(iptext.MustSnapshot(oneUplink+"link 4 tun0 kind tun p2p\n")), &memory{})
		h.pass(5 * time.Second)
		h.Applied()
		h.Update(func(s *netstate.Snapshot) {
			s.Addrs = append(s.Addrs, netstate.Addr{Link: 4, Local: netip.MustParsePrefix("10.8.0.2/24")})
			s.Outbound = map[netstate.Family][2]int{netstate.IPv4: {4, 4}}
		})
		reads := 0
		h.FailRefresh(func(netstate.Hints) error {
			if reads++; reads == 1 {
				for _, n := range []netstate.News{{Addr: &addr2}, {Route: &subnet2}, {Route: &way2}} {
					h.loop.Hint(netstate.Hints{
						Kinds: netstate.KindAddrs | netstate.KindRoutes, Links: map[int]struct{}{3: {}}, Family: netstate.IPv4, Added: true, Told: true, News: []netstate.News{n},
					})
				}
			}
			return nil
		})
		tun := netstate.Addr{Link: 4, Local: netip.MustParsePrefix("10.8.0.2/24")}
		h.Emit(netstate.Hints{
			Kinds: netstate.KindAddrs, Links: map[int]struct{}{4: {}}, Family: netstate.IPv4, Added: true, Told: true, News: []netstate.News{{Addr: &tun}},
		})
		h.pass(time.Second)
		for _, c := range h.Applied() {
			if c.Op == netstate.EndpointAdd || c.Op == netstate.RuleAppend {
				t.Errorf("beside a full tunnel that has been read: %s", c.Text(nil))
			}
		}
	})
}
