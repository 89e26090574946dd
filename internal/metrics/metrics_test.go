package metrics

import (
	"errors"
	"flag"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/health"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
	"github.com/subflowd/subflowd/internal/probe"
	"github.com/subflowd/subflowd/internal/reconcile"
	"github.com/subflowd/subflowd/pkg/mptcp"
	"github.com/subflowd/subflowd/pkg/status"
	"github.com/subflowd/subflowd/test/lab"
)

var update = flag.Bool("update", false, "write the scrapes that are found to testdata")

func TestMain(m *testing.M) { lab.Alone(func() { goleak.VerifyTestMain(m) }) }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// laptop has an Ethernet with both families, a Wi-Fi without carrier, and a full
// tunnel.
func laptop() *reconcile.View {
	v := &reconcile.View{
		Version: 12, Started: time.UnixMilli(1772366400500), Converged: true,
		Plan: &plan.Plan{
			Paths: []plan.Path{
				{Link: 2, Name: "eth0", Family: netstate.IPv4, State: plan.Live, Addrs: []plan.PathAddr{{IP: addr("10.1.1.2")}}},
				{Link: 2, Name: "eth0", Family: netstate.IPv6, State: plan.Live, Addrs: []plan.PathAddr{{IP: addr("2001:db8::2")}}},
				{Link: 3, Name: "wl\"\\\xff", Family: netstate.IPv4, State: plan.Dark, Backup: true, Addrs: []plan.PathAddr{{IP: addr("10.1.2.2")}}},
			},
			Endpoints: make([]plan.Endpoint, 2),
			Guard:     &plan.Guard{Link: 9, Name: "wg0", Family: netstate.IPv4, Policy: config.VPNWithdraw},
		},
		Snapshot:    &netstate.Snapshot{Limits: netstate.Limits{Subflows: 2, AddAddrAccepted: 4}},
		Left:        []reconcile.Left{{Err: "operation not permitted"}, {}},
		Lingering:   []reconcile.Lingering{{Blocking: 2}, {Blocking: 1}},
		Contentions: []reconcile.Contention{{Object: "rules of 10.1.1.2"}},
		Findings: []reconcile.Finding{
			{Finding: plan.Finding{Code: "lingering", Severity: plan.Info}},
			{Finding: plan.Finding{Code: "contention", Severity: plan.Warning}},
			{Finding: plan.Finding{Code: "lingering", Severity: plan.Info}},
		},
		Counters: reconcile.Counters{
			Rounds: 6, Events: 40, FullReads: 3, Overflows: 1, ReadErrors: 2, Kicks: 4, Closed: 5,
			Changes:  map[netstate.Op]uint64{netstate.RuleAppend: 8, netstate.EndpointAdd: 4},
			Failures: map[netstate.Op]uint64{netstate.RouteAdd: 3},
		},
	}
	v.Counters.Took.Counts[0], v.Counters.Took.Counts[3], v.Counters.Took.Counts[len(reconcile.DurationBounds)] = 3, 2, 1
	v.Counters.Took.Sum = 6125 * time.Millisecond
	return v
}

func flow(state mptcp.State, local string, link int32) mptcp.Subflow {
	return mptcp.Subflow{State: state, Local: netip.AddrPortFrom(addr(local), 40000), IfIndex: link}
}

func traffic() Traffic {
	return Traffic{Connections: 3, Fallback: 1, Subflows: 5, List: []mptcp.Connection{
		{Subflows: []mptcp.Subflow{
			flow(mptcp.StateEstablished, "10.1.1.2", 0), flow(mptcp.StateEstablished, "10.1.1.2", 2), flow(mptcp.StateEstablished, "10.1.2.2", 3),
		}},
		{Subflows: []mptcp.Subflow{
			flow(mptcp.StateEstablished, "::ffff:10.1.1.2", 0), flow(mptcp.StateSynSent, "10.1.2.2", 3), flow(mptcp.StateEstablished, "192.0.2.1", 0),
		}},
		{Fallback: true, Subflows: []mptcp.Subflow{flow(mptcp.StateEstablished, "10.1.1.2", 0)}},
	}}
}

func source(v *reconcile.View) Source {
	return Source{
		View:  func() *reconcile.View { return v },
		State: func(*reconcile.View) status.State { return status.Failing },
		Counters: func() (mptcp.Counters, error) {
			return mptcp.Counters{"MPJoinSynTx": 7, "MPCapableSYNTX": 1 << 40, "MPCurrEstab": 2}, nil
		},
		Traffic: func() (Traffic, error) { return traffic(), nil },
		Probe: func() *probe.Status {
			return &probe.Status{Target: "example.net:443", Paths: map[netstate.LinkFamily]health.Report{
				{Link: 2, Family: netstate.IPv4}: {State: health.Answers, RTT: 20 * time.Millisecond, Answered: 7, Unanswered: 1},
				{Link: 2, Family: netstate.IPv6}: {Unanswered: 2},
				{Link: 8, Family: netstate.IPv4}: {State: health.Silent}, // no path any more
			}}
		},
	}
}

func scrape(h *Handler) string {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, Path, nil))
	return w.Body.String()
}

var build = regexp.MustCompile(`(?m)^subflowd_build_info\{.*\} 1$`)

func TestScrapes(t *testing.T) {
	failing := source(laptop())
	failing.Counters = func() (mptcp.Counters, error) { return nil, errors.New("read counters") }
	failing.Traffic = func() (Traffic, error) { return Traffic{}, unix.EPERM }
	absent := source(&reconcile.View{Started: time.UnixMilli(1000)})
	absent.Counters = func() (mptcp.Counters, error) { return nil, mptcp.ErrUnsupported }
	absent.Traffic = func() (Traffic, error) { return Traffic{}, mptcp.ErrUnsupported }
	busy := source(laptop())
	busy.Traffic = func() (Traffic, error) { return Traffic{Omitted: true}, nil }
	for name, s := range map[string]Source{"laptop": source(laptop()), "failing": failing, "start": absent, "busy": busy} {
		t.Run(name, func(t *testing.T) {
			got := scrape(New(s))
			problems, err := promlint.New(strings.NewReader(got)).Lint()
			if err != nil || len(problems) > 0 {
				t.Errorf("promlint: %v %v\n%s", err, problems, got)
			}
			got = build.ReplaceAllString(got, "subflowd_build_info{...} 1")
			file := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s (- wanted, + found; -update writes it)\n%s", file, diff)
			}
		})
	}
}

func TestConnectionsAreReadOnceInAWhile(t *testing.T) {
	s := source(laptop())
	reads := 0
	s.Traffic = func() (Traffic, error) { reads++; return Traffic{}, nil }
	h := New(s)
	if reads != 0 {
		t.Error("connections were read before a scrape")
	}
	for range 10 {
		scrape(h)
	}
	if reads != 1 {
		t.Errorf("ten scrapes at once read the connections %d times", reads)
	}
	h.read = time.Now().Add(-2 * trafficAge)
	scrape(h)
	if reads != 2 {
		t.Errorf("a later scrape did not read them again: %d", reads)
	}
}

// TestDocumented wants the metrics of docs/metrics.md and those of a scrape to
// be the same.
func TestDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			for _, m := range regexp.MustCompile("`(subflowd_[a-z_]+)`").FindAllStringSubmatch(cells[1], -1) {
				documented[m[1]] = true
			}
		}
	}
	served := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) `).FindAllStringSubmatch(scrape(New(source(laptop()))), -1) {
		served[m[1]] = true
	}
	if diff := cmp.Diff(documented, served); diff != "" {
		t.Errorf("- documented, + served\n%s", diff)
	}
}
