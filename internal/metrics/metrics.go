// Package metrics tells Prometheus of the daemon: what the loop knows, the
// kernel's MPTcpExt counters, and connections by path.
//
// The files: metrics (a scrape), view (what the loop knows), traffic
// (connections), text (the format), listener (the optional TCP port).
package metrics

import (
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/subflowd/subflowd/internal/probe"
	"github.com/subflowd/subflowd/internal/reconcile"
	"github.com/subflowd/subflowd/internal/version"
	"github.com/subflowd/subflowd/pkg/mptcp"
	"github.com/subflowd/subflowd/pkg/status"
)

// trafficAge is how old the list of connections may be. Any local user may
// scrape, and each list costs a walk over the host's TCP sockets.
const trafficAge = 5 * time.Second

// Source is where the numbers come from. All may be called by several
// goroutines at once, but for Traffic.
type Source struct {
	View  func() *reconcile.View
	State func(*reconcile.View) status.State
	// Counters are those of the kernel.
	Counters func() (mptcp.Counters, error)
	// Traffic lists what the connections of the host use.
	Traffic func() (Traffic, error)
	// Probe is what the tests of the paths found; nil: there are none.
	Probe func() *probe.Status
}

// Handler answers scrapes. Nothing is read between them.
type Handler struct {
	source Source

	mu      sync.Mutex // one reading of connections at a time
	read    time.Time
	traffic Traffic
	err     error
}

// New makes a handler.
func New(s Source) *Handler { return &Handler{source: s} }

// ServeHTTP writes all metrics, whatever the path of the request is.
func (h *Handler) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	var p page
	h.write(&p)
	w.Header().Set("Content-Type", contentType)
	_, _ = w.Write(p.Bytes())
}

func (h *Handler) write(p *page) {
	v := h.source.View()
	p.family("subflowd_build_info", gauge, "The program; always 1.")
	p.sample("subflowd_build_info", 1, "version", version.Version(), "commit", version.Commit())
	p.single("subflowd_start_time_seconds", gauge, "When the daemon started, in seconds since 1970.", float64(v.Started.UnixMilli())/1000)
	writeState(p, h.source.State(v))
	writeView(p, v)
	if h.source.Probe != nil && v.Plan != nil {
		writeProbe(p, v.Plan, h.source.Probe())
	}

	counters, errCounters := h.source.Counters()
	if errors.Is(errCounters, mptcp.ErrUnsupported) {
		errCounters = nil // the condition mptcp-absent says it
	}
	writeCounters(p, counters)
	traffic, errTraffic := h.connections()
	if errTraffic == nil {
		writeTraffic(p, v.Plan, traffic)
	}
	p.family("subflowd_read_failed", gauge, "Whether what this scrape wanted from the kernel could not be read; its metrics are then missing.")
	p.sample("subflowd_read_failed", truth(errCounters != nil), "source", "mptcp_ext")
	p.sample("subflowd_read_failed", truth(errTraffic != nil), "source", "connections")
}

// connections reads them, unless somebody asked moments ago.
func (h *Handler) connections() (Traffic, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.read.IsZero() || time.Since(h.read) > trafficAge {
		h.traffic, h.err = h.source.Traffic()
		if errors.Is(h.err, mptcp.ErrUnsupported) {
			h.traffic, h.err = Traffic{}, nil
		}
		h.read = time.Now()
	}
	return h.traffic, h.err
}

// currentEstablished is the one of the kernel's counters that falls.
const currentEstablished = "MPCurrEstab"

func writeCounters(p *page, c mptcp.Counters) {
	if len(c) == 0 {
		return
	}
	names := make([]string, 0, len(c))
	for name := range c {
		names = append(names, name)
	}
	slices.Sort(names)
	const total = "subflowd_mptcp_ext_total"
	p.family(total, counter, "The kernel's MPTcpExt statistics of the network namespace since it was made, by their names there.")
	for _, name := range names {
		if name != currentEstablished {
			p.sample(total, float64(c[name]), "name", name)
		}
	}
	if n, ok := c[currentEstablished]; ok {
		p.single("subflowd_mptcp_established_connections", gauge, "Established MPTCP connections as the kernel counts them (MPCurrEstab).", float64(n))
	}
}
