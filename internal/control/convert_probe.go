package control

import (
	"cmp"

	"github.com/subflowd/subflowd/internal/health"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/probe"
	"github.com/subflowd/subflowd/pkg/status"
)

// addProbe adds what the tests of the paths found; nothing where there is no
// target.
func addProbe(doc *status.Document, s *probe.Status) {
	if s.Target == "" {
		return
	}
	doc.Probe = &status.Probe{Target: s.Target, IntervalSeconds: s.Interval.Seconds()}
	for _, f := range netstate.Families {
		if a, ok := s.Addresses[f]; ok {
			doc.Probe.Addresses = append(doc.Probe.Addresses, a.String())
		}
	}
	if s.Err != nil {
		doc.Probe.Error = s.Err.Error()
	}
	for k, r := range s.Paths {
		for i := range doc.Paths {
			if p := &doc.Paths[i]; p.Ifindex == k.Link && p.Family == family(k.Family) {
				p.Probe = pathProbe(r)
			}
		}
	}
}

func pathProbe(r health.Report) *status.PathProbe {
	return &status.PathProbe{
		State: status.ProbeState(cmp.Or(string(r.State), string(status.ProbeUnknown))), Since: utc(r.Since), Tested: maybe(r.Tested),
		RTTSeconds: r.RTT.Seconds(), Failures: r.Failures, HoldSeconds: r.Hold.Seconds(),
	}
}
