package metrics

import (
	"github.com/subflowd/subflowd/internal/health"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
	"github.com/subflowd/subflowd/internal/probe"
	"github.com/subflowd/subflowd/pkg/status"
)

var probeStates = [...]struct {
	state health.State
	word  status.ProbeState
}{
	{health.Unknown, status.ProbeUnknown}, {health.Answers, status.ProbeAnswers}, {health.Silent, status.ProbeSilent}, {health.Down, status.ProbeDown},
}

// writeProbe writes what the tests of the paths found; nothing where there is
// no target.
func writeProbe(p *page, of *plan.Plan, s *probe.Status) {
	if s.Target == "" {
		return
	}
	each := func(name string, k kind, help string, write func(r health.Report, labels []string)) {
		p.family(name, k, help)
		for _, x := range of.Paths {
			if r, ok := s.Paths[netstate.LinkFamily{Link: x.Link, Family: x.Family}]; ok {
				write(r, pathLabels(x))
			}
		}
	}
	const state, rtt, total = "subflowd_path_probe_state", "subflowd_path_probe_rtt_seconds", "subflowd_path_probe_tests_total"
	each(state, gauge, "1 for what is known of the path by the probe.", func(r health.Report, labels []string) {
		for _, w := range probeStates {
			p.sample(state, truth(r.State == w.state), append(labels[:len(labels):len(labels)], "state", string(w.word))...)
		}
	})
	each(rtt, gauge, "How long connecting to the probe's target took over the path at the last answer; 0: there was none.", func(r health.Report, labels []string) {
		p.sample(rtt, r.RTT.Seconds(), labels...)
	})
	each(total, counter, "Tests of the path by the probe, by result.", func(r health.Report, labels []string) {
		p.sample(total, float64(r.Answered), append(labels[:len(labels):len(labels)], "result", "answered")...)
		p.sample(total, float64(r.Unanswered), append(labels[:len(labels):len(labels)], "result", "unanswered")...)
	})
}
