package control

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/subflowd/subflowd/internal/health"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/probe"
	"github.com/subflowd/subflowd/pkg/status"
)

func TestProbe(t *testing.T) {
	s := &probe.Status{
		Target: "example.net:443", Interval: 30 * time.Second, Err: errors.New("no such host"),
		Addresses: map[netstate.Family]netip.AddrPort{
			netstate.IPv6: netip.MustParseAddrPort("[2001:db8::1]:443"), netstate.IPv4: netip.MustParseAddrPort("192.0.2.1:443"),
		},
		Paths: map[netstate.LinkFamily]health.Report{
			{Link: 2, Family: netstate.IPv4}: {State: health.Silent, Since: ago(time.Minute), Tested: ago(time.Second), RTT: 25 * time.Millisecond, Failures: 4, Hold: 5 * time.Second},
			{Link: 3, Family: netstate.IPv4}: {Since: ago(time.Minute)},
			{Link: 9, Family: netstate.IPv4}: {State: health.Answers},
		},
	}
	b := FromLoop(&loop{v: situations["laptop"]()}, Host{About: func() status.Daemon { return status.Daemon{} }, Probe: func() *probe.Status { return s }})
	doc := b.Status()
	tested := now.Add(-time.Second).UTC()
	for _, x := range []struct{ found, want any }{
		{doc.Probe, &status.Probe{Target: "example.net:443", Addresses: []string{"192.0.2.1:443", "[2001:db8::1]:443"}, IntervalSeconds: 30, Error: "no such host"}},
		{doc.Paths[0].Probe, &status.PathProbe{State: status.ProbeSilent, Since: now.Add(-time.Minute).UTC(), Tested: &tested, RTTSeconds: 0.025, Failures: 4, HoldSeconds: 5}},
		{doc.Paths[1].Probe, (*status.PathProbe)(nil)},
		{doc.Paths[2].Probe, &status.PathProbe{State: status.ProbeUnknown, Since: now.Add(-time.Minute).UTC()}},
	} {
		if d := cmp.Diff(x.want, x.found); d != "" {
			t.Errorf("- wanted, + found\n%s", d)
		}
	}
	*s = probe.Status{}
	if off := b.Status(); off.Probe != nil {
		t.Errorf("without a target: %+v", off.Probe)
	}
}
