package kerneltest

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/netstate/iptext"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const host = `
link 1 lo loopback
link 2 eth0
link 3 eth1
addr 10.1.1.2/24 dev eth0
addr 10.1.2.2/24 dev eth1
addr 2001:db8:1::2/64 dev eth0
route 10.1.1.0/24 dev eth0 proto kernel src 10.1.1.2
route 10.1.2.0/24 dev eth1 proto kernel src 10.1.2.2
route default via 10.1.1.1 dev eth0 proto dhcp metric 100
route default via 10.1.1.1 dev eth0 table 100002 proto 77 metric 100
rule 32765: from 10.1.1.2 lookup 100002 proto 77
`

func newHost() *Fake { return New(iptext.MustSnapshot(host)) }

func must(t *testing.T, f *Fake, changes ...netstate.Change) {
	t.Helper()
	for _, err := range f.Apply(changes) {
		if err != nil {
			t.Error(err)
		}
	}
}

func TestHiddenUntilAsked(t *testing.T) {
	f := newHost()
	first, _ := f.Refresh(netstate.Hints{Full: true})
	f.LinkDown(2)
	s, _ := f.Refresh(netstate.Hints{Kinds: netstate.KindRules})
	if iptext.Text(s) != iptext.Text(first) {
		t.Error("a change that no hint named was read")
	}
	s, _ = f.Refresh(netstate.Hints{Kinds: netstate.KindLinks})
	if text := iptext.Text(s); strings.Contains(text, "10.1.1.1 dev eth0") {
		t.Errorf("a link that is down has routes:\n%s", text)
	}
	if _, ok := s.Preferred[netstate.LinkFamily{Link: 2, Family: netstate.IPv4}]; ok {
		t.Error("a link that is down has a preferred source")
	}
}

func TestRuleSemantics(t *testing.T) {
	f := newHost()
	rule := f.Snapshot().Rules[1]
	if rule.Protocol != 77 {
		t.Fatalf("not our rule: %s", rule)
	}
	first := rule
	first.Suppress = 0
	must(t, f, netstate.Change{Op: netstate.RuleAppend, Rule: first}, netstate.Change{Op: netstate.RuleAppend, Rule: rule})
	if got := f.Snapshot().Rules; got[1] != rule || got[2] != first || got[3] != rule {
		t.Errorf("rules are not in the order of insertion: %v", got)
	}
	must(t, f, netstate.Change{Op: netstate.RuleDelete, Rule: rule}, netstate.Change{Op: netstate.RuleDelete, Rule: rule})
	if got := f.Snapshot().Rules; got[1] != rule {
		t.Errorf("a delete without suppress_prefixlength takes the first match: %v", got)
	}
}

func TestRouteSemantics(t *testing.T) {
	f := newHost()
	var ours netstate.Route
	for _, r := range f.Snapshot().Routes {
		if r.Table == 100002 {
			ours = r
		}
	}
	add := netstate.Change{Op: netstate.RouteAdd, Route: ours}
	must(t, f, add)
	add.Route.Gateway = netip.MustParseAddr("10.1.1.9")
	if err := f.Apply([]netstate.Change{add})[0]; !errors.Is(err, syscall.EEXIST) {
		t.Errorf("another route of the same key: %v", err)
	}
	add.Route.Metric, add.Route.Gateway = 5, netip.MustParseAddr("192.0.2.1")
	if err := f.Apply([]netstate.Change{add})[0]; !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("a gateway that no route covers: %v", err)
	}
	f.DelAddr(2, netip.MustParseAddr("10.1.1.2"))
	for _, r := range f.Snapshot().Routes {
		if r.Link == 2 && r.Family == netstate.IPv4 {
			t.Errorf("left without an address: %s", r)
		}
	}
}

func TestEndpointSemantics(t *testing.T) {
	f := newHost()
	ip := netip.MustParseAddr("10.1.1.2")
	e := netstate.Endpoint{Addr: ip, Link: 2, Flags: netstate.SubflowFlag}
	add := netstate.Change{Op: netstate.EndpointAdd, Endpoint: e}
	must(t, f, add)
	if err := f.Apply([]netstate.Change{add})[0]; !errors.Is(err, syscall.EEXIST) {
		t.Errorf("the same address again: %v", err)
	}
	have := f.Snapshot().Endpoints[0]
	have.Flags |= netstate.BackupFlag
	must(t, f, netstate.Change{Op: netstate.EndpointSet, Endpoint: have})
	if got := f.Snapshot().Endpoints[0]; got != have {
		t.Errorf("want %s, found %s", have, got)
	}
	f.SetConnections(netstate.Connection{Token: 7, State: netstate.Established, Subflows: []netstate.Subflow{
		{State: netstate.Established, Local: netip.AddrPortFrom(ip, 1000)},
	}})
	must(t, f, netstate.Change{Op: netstate.EndpointDelete, Endpoint: have}, netstate.Change{Op: netstate.EndpointDelete, Endpoint: have})
	if cut := f.Cut(); len(cut) != 1 || cut[0] != 7 {
		t.Errorf("cut connections: %v, want 7", cut)
	}
	for i := range 8 {
		e.Addr = ip.Next()
		for range i {
			e.Addr = e.Addr.Next()
		}
		must(t, f, netstate.Change{Op: netstate.EndpointAdd, Endpoint: e})
	}
	if err := f.Apply([]netstate.Change{add})[0]; !errors.Is(err, syscall.ERANGE) {
		t.Errorf("a ninth endpoint: %v", err)
	}
	limits := netstate.Change{Op: netstate.LimitsSet, Limits: netstate.Limits{Subflows: 9}}
	if err := f.Apply([]netstate.Change{limits})[0]; !errors.Is(err, syscall.EINVAL) {
		t.Errorf("limits above the maximum: %v", err)
	}
}

func TestFailsOnDemand(t *testing.T) {
	f := newHost()
	c := netstate.Change{Op: netstate.LimitsSet, Limits: netstate.Limits{Subflows: 3}}
	f.FailAt(2, syscall.EBUSY)
	errs := f.Apply([]netstate.Change{c, c, c})
	if errs[0] != nil || !errors.Is(errs[1], syscall.EBUSY) || errs[2] != nil {
		t.Errorf("want the second to fail: %v", errs)
	}
	if got := f.AppliedText(); len(got) != 2 {
		t.Errorf("applied: %v", got)
	}
	f.FailOp(netstate.LimitsSet, 1, syscall.EPERM)
	if errs := f.Apply([]netstate.Change{c, c}); !errors.Is(errs[0], syscall.EPERM) || errs[1] != nil {
		t.Errorf("want the first to fail: %v", errs)
	}
	f.FailRefresh(func(netstate.Hints) error { return syscall.ENOBUFS })
	if _, err := f.Refresh(netstate.Hints{Full: true}); !errors.Is(err, syscall.ENOBUFS) {
		t.Errorf("refresh: %v", err)
	}
}

func TestWatchLosesNothing(t *testing.T) {
	f := newHost()
	ctx, cancel := context.WithCancel(context.Background())
	const events = 1000
	got, ready, done := 0, make(chan struct{}), make(chan error, 1)
	go func() {
		done <- f.Watch(ctx, func() { close(ready) }, func(netstate.Hints) {
			if got++; got == events {
				cancel()
			}
		})
	}()
	<-ready
	for range events {
		f.Carrier(2, false)
	}
	if err := <-done; !errors.Is(err, context.Canceled) || got != events {
		t.Errorf("%d events of %d, %v", got, events, err)
	}
}
