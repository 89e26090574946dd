//go:build bench

package bench

import (
	"testing"

	"github.com/subflowd/subflowd/test/lab"
)

// TestNewPath measures from the kernel's last message about a new uplink to its endpoint, and back.
func TestNewPath(t *testing.T) {
	l := lab.New(t)
	ours, bare := newSubject(t, l, "ours"), newSubject(t, l, "bare")
	script, mptcpd := newSubject(t, l, "script"), newSubject(t, l, "mptcpd")
	ours.startOurs()
	bare.startLoop()
	script.startScript()
	mptcpd.startMPTCPD()
	all := []*subject{ours, bare, mptcpd, script}
	gone := map[*subject]samples{}
	for i := range repetitions(100) + 3 {
		for _, s := range all {
			if s == script && i%5 != 0 {
				continue // slow, and steady enough
			}
			up, down := s.bring(), s.take()
			if i >= 3 { // what is done for the first time is not counted
				s.took, gone[s] = append(s.took, up), append(gone[s], down)
			}
		}
	}
	for _, s := range all {
		t.Logf("%-8s new path %v median, %v p95, %v best; path gone %v median", s.name, s.took.median(), s.took.quantile(0.95), s.took.quantile(0), gone[s].median())
	}
	mine := ours.took.median()
	compare := func(name string, s *subject, limit float64) {
		t.Helper()
		report(t, "new path: "+name, short(mine), short(s.took.median()), ofTimes(mine, s.took.median()), limit)
	}
	compare("mptcpd's endpoint alone", mptcpd, 1.2)
	compare("the same requests in a bare loop", bare, 2)
	compare("a script of ip commands", script, 1.0/20)
	report(t, "new path: 95th percentile beside the median", short(ours.took.quantile(0.95)), short(mine), ofTimes(ours.took.quantile(0.95), mine), 3)
	report(t, "path gone: the bare loop", short(gone[ours].median()), short(gone[bare].median()), ofTimes(gone[ours].median(), gone[bare].median()), 0)
	report(t, "path gone: mptcpd", short(gone[ours].median()), short(gone[mptcpd].median()), ofTimes(gone[ours].median(), gone[mptcpd].median()), 0)
}
