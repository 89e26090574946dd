package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/kernel/kerneltest"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/netstate/iptext"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const twoSubnets = `
link 1 lo loopback
link 2 eth0
link 3 eth1
addr 10.1.1.2/24 dev eth0
addr 10.1.2.2/24 dev eth1
route 10.1.1.0/24 dev eth0 proto kernel src 10.1.1.2
route 10.1.2.0/24 dev eth1 proto kernel src 10.1.2.2
route default via 10.1.1.1 dev eth0 proto dhcp metric 100
route default via 10.1.2.1 dev eth1 proto dhcp metric 200
`

// settledText is what the kernel holds of ours for twoSubnets.
const settledText = `
endpoint 10.1.1.2 dev eth0 subflow
endpoint 10.1.2.2 dev eth1 subflow
limits subflows 2 add_addr_accepted 4
route 10.1.1.0/24 dev eth0 table 100002 proto 77
route 10.1.2.0/24 dev eth1 table 100003 proto 77
route default via 10.1.1.1 dev eth0 table 100002 proto 77 metric 100
route default via 10.1.2.1 dev eth1 table 100003 proto 77 metric 200
rule from 10.1.1.2 lookup main suppress_prefixlength 0 priority 32765 proto 77
rule from 10.1.1.2 lookup 100002 priority 32765 proto 77
rule from 10.1.2.2 lookup main suppress_prefixlength 0 priority 32765 proto 77
rule from 10.1.2.2 lookup 100003 priority 32765 proto 77
`

// memory is a record that lasts as long as the test.
type memory struct {
	own    netstate.Ownership
	writes int
	err    error
}

func (m *memory) Owned() netstate.Ownership { return m.own }

func (m *memory) edit(eps []netstate.Endpoint, do func(map[netip.Addr]netstate.Endpoint, netstate.Endpoint)) error {
	n := maps.Clone(m.own.Endpoints)
	if n == nil {
		n = map[netip.Addr]netstate.Endpoint{}
	}
	for _, e := range eps {
		do(n, e)
	}
	m.own.Endpoints, m.own.Known = n, true
	m.writes++
	return m.err
}

func (m *memory) Announce(eps ...netstate.Endpoint) error {
	return m.edit(eps, func(n map[netip.Addr]netstate.Endpoint, e netstate.Endpoint) {
		n[e.Addr] = netstate.Endpoint{Addr: e.Addr, Link: e.Link}
	})
}

func (m *memory) Settle(eps ...netstate.Endpoint) error {
	return m.edit(eps, func(n map[netip.Addr]netstate.Endpoint, e netstate.Endpoint) {
		n[e.Addr] = netstate.Endpoint{Addr: e.Addr, Link: e.Link, ID: e.ID}
	})
}

func (m *memory) Forget(eps ...netstate.Endpoint) error {
	return m.edit(eps, func(n map[netip.Addr]netstate.Endpoint, e netstate.Endpoint) { delete(n, e.Addr) })
}

func (m *memory) SetLimits(found, set netstate.Limits) error {
	if m.own.OwnsLimits(found) {
		m.own.LimitsBefore = &found
	} else {
		m.own.LimitsFound, m.own.LimitsBefore = &found, nil
	}
	m.own.LimitsSet, m.own.Known = &set, true
	m.writes++
	return m.err
}

func (m *memory) SetProtocols(p ...uint8) error {
	p = slices.Compact(slices.Sorted(slices.Values(p)))
	if !slices.Equal(p, m.own.Protocols) {
		m.own.Protocols, m.own.Known = p, true
		m.writes++
	}
	return m.err
}

func (m *memory) Remove() error {
	m.own = netstate.Ownership{}
	return m.err
}

// host is a loop that runs on a kernel in memory.
type host struct {
	*kerneltest.Fake
	t    *testing.T
	loop *Loop
	rec  *memory
	logs *observer.ObservedLogs
	stop func()
}

func options(f *kerneltest.Fake, r *memory) (Options, *observer.ObservedLogs) {
	core, logs := observer.New(zap.InfoLevel)
	return Options{Kernel: f, Watcher: f, Record: r, Config: config.Default(), Log: zap.New(core)}, logs
}

// run starts a loop on the host, in a bubble of fake time; each wait of the
// test lets the loop do all that is due.
func run(t *testing.T, f *kerneltest.Fake, r *memory) *host {
	o, logs := options(f, r)
	return runWith(t, f, o, logs)
}

func runWith(t *testing.T, f *kerneltest.Fake, o Options, logs *observer.ObservedLogs) *host {
	h := &host{Fake: f, t: t, loop: New(o), rec: o.Record.(*memory), logs: logs}
	h.start()
	return h
}

func (h *host) start() {
	ctx, cancel := context.WithCancel(h.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.loop.Run(ctx)
	}()
	h.stop = func() {
		cancel()
		<-done
	}
	h.t.Cleanup(h.stop)
}

// pass lets time pass.
func (h *host) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// ours is what the kernel holds of ours, in ip(8) words without ids.
func (h *host) ours() string { return oursOf(h.Snapshot()) }

func oursOf(s *netstate.Snapshot) string {
	n := s.Names()
	var out, rules []string
	for _, r := range s.Routes {
		if netstate.OwnsRoute(77, r) {
			r.Scope = 0
			out = append(out, "route "+r.Text(n))
		}
	}
	for _, r := range s.Rules {
		if netstate.OwnsRule(77, r) {
			rules = append(rules, "rule "+r.Text())
		}
	}
	for _, e := range s.Endpoints {
		e.ID = 0
		out = append(out, "endpoint "+e.Text(n))
	}
	out = append(out, "limits "+s.Limits.Text())
	slices.Sort(out)
	return "\n" + strings.Join(append(out, rules...), "\n") + "\n"
}

func (h *host) want(text string) {
	h.t.Helper()
	if d := cmp.Diff(lines(text), lines(h.ours())); d != "" {
		h.t.Errorf("(-want +got):\n%s", d)
	}
}

// lines are the lines of the text; the order of those of rules counts.
func lines(s string) []string {
	var out []string
	for l := range strings.Lines(s) {
		if l = strings.TrimSpace(l); l != "" {
			out = append(out, l)
		}
	}
	return out
}

// without drops the lines that contain one of the words.
func without(text string, words ...string) string {
	var out []string
	for _, l := range lines(text) {
		if !slices.ContainsFunc(words, func(w string) bool { return strings.Contains(l, w) }) {
			out = append(out, l)
		}
	}
	return strings.Join(out, "\n")
}

func (h *host) converged() {
	h.t.Helper()
	v := h.loop.View()
	if !v.Converged {
		h.t.Errorf("not converged: left %+v, findings %+v", v.Left, v.Findings)
	}
}

func (h *host) finding(code string) (Finding, bool) {
	for _, f := range h.loop.View().Findings {
		if f.Code == code {
			return f, true
		}
	}
	return Finding{}, false
}

func (h *host) wantFinding(code string, want bool) {
	h.t.Helper()
	if f, ok := h.finding(code); ok != want {
		h.t.Errorf("finding %s: want %v, got %v: %+v", code, want, ok, f)
	}
}

func (h *host) rounds() uint64 { return h.loop.View().Counters.Rounds }

func newHost(t *testing.T, text string) *host {
	return run(t, kerneltest.New(iptext.MustSnapshot(text)), &memory{})
}

var errBusy = fmt.Errorf("busy: %w", syscall.EBUSY)

func TestStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets)
		h.pass(time.Millisecond)
		h.want(settledText)
		h.converged()
		applied := h.AppliedText()
		if n := h.logs.Len(); n != len(applied) {
			t.Errorf("%d changes and %d lines", len(applied), n)
		}
		for _, l := range h.logs.All() {
			if !strings.HasPrefix(l.Message, "ip ") || l.ContextMap()["reason"] == "" || l.ContextMap()["trigger"] != "start" {
				t.Errorf("line %q %v", l.Message, l.ContextMap())
			}
		}
		own := h.rec.Owned()
		if e := own.Endpoints[netip.MustParseAddr("10.1.1.2")]; e.ID == 0 || e.Link != 2 {
			t.Errorf("record: %+v", own)
		}
		if own.LimitsFound == nil || own.LimitsSet == nil || own.LimitsSet.AddAddrAccepted != 4 {
			t.Errorf("limits in the record: %v, %v", own.LimitsFound, own.LimitsSet)
		}
		order := strings.Join(applied, "\n")
		if r, l, e := strings.LastIndex(order, " rule add"), strings.Index(order, "limits"), strings.Index(order, "endpoint add"); r > l || l > e {
			t.Errorf("order:\n%s", order)
		}
	})
}

func TestAdoptionChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets)
		h.pass(time.Second)
		h.stop()
		for _, known := range []bool{true, false} {
			if !known {
				h.rec.own = netstate.Ownership{}
			}
			before, writes := h.Snapshot(), h.rec.writes
			h.Applied()
			again := run(t, h.Fake, h.rec)
			again.pass(time.Minute)
			if l := h.AppliedText(); len(l) != 0 {
				t.Errorf("known %v: changed %v", known, l)
			}
			if d := cmp.Diff(iptext.Text(before), iptext.Text(h.Snapshot())); d != "" {
				t.Errorf("known %v: %s", known, d)
			}
			if known && h.rec.writes != writes {
				t.Errorf("the record was written %d times", h.rec.writes-writes)
			}
			if again.logs.Len() != 0 {
				t.Errorf("known %v: logged %v", known, again.logs.All())
			}
			again.converged()
			if e := h.rec.own.Endpoints[netip.MustParseAddr("10.1.2.2")]; e.ID == 0 {
				t.Errorf("known %v: the endpoint is not ours: %+v", known, h.rec.own)
			}
			again.stop()
		}
	})
}

func TestAtRestOnlyTheResyncWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets)
		h.pass(time.Minute) // the looks after the start are over
		h.Reads()
		rounds, logs := h.rounds(), h.logs.Len()
		h.pass(10 * time.Minute)
		n := int(h.rounds() - rounds)
		if n < 17 || n > 23 {
			t.Errorf("%d rounds in ten minutes", n)
		}
		if got := len(h.Reads()); got != n {
			t.Errorf("%d reads in %d rounds", got, n)
		}
		if h.logs.Len() != logs {
			t.Errorf("logged at rest: %v", h.logs.All()[logs:])
		}
	})
}

func TestReconcileAndChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets)
		h.pass(time.Second)
		changed := h.loop.Changed()
		h.Update(func(s *netstate.Snapshot) { s.Endpoints = s.Endpoints[:1] }) // no event tells
		if err := h.loop.Reconcile(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.want(settledText)
		select {
		case <-changed:
		default:
			t.Error("the view changed and nobody was told")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		h.stop()
		if err := h.loop.Reconcile(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

// TestEveryLineNamesItsLink: whoever reads the journal of one link misses nothing.
func TestEveryLineNamesItsLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets)
		h.pass(time.Second)
		n := map[string]int{}
		for _, e := range h.logs.All() {
			if reason, change := e.ContextMap()["reason"]; change && !strings.Contains(e.Message, "limits") {
				link, _ := e.ContextMap()["link"].(string)
				if link == "" {
					t.Errorf("%s: no link (%v)", e.Message, reason)
				}
				n[link]++
			}
		}
		if n["eth0"] == 0 || n["eth0"] != n["eth1"] {
			t.Errorf("lines by link: %v", n)
		}
	})
}
