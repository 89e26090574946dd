package integration

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/subflowd/subflowd/test/lab"
)

// watchOrder looks, some thousand times a second, whether an endpoint exists whose address has no source rule or whose
// path table has no default route, until the returned function is called, which ends the test if there was one. It is
// for ways up: on the way down the kernel itself may take routes away before anybody is told.
//
// One ip(8) for each family is asked in a batch that does not end: a process for every look would take longer than the
// daemon takes for all its changes.
func watchOrder(h *lab.Host) (stop func()) {
	t := h.Lab.T
	t.Helper()
	var over atomic.Bool
	var looks []*orderLook
	var waits []func() error
	for _, f := range []string{"-4", "-6"} {
		l := &orderLook{family: f}
		cmd := h.Command("ip", f, "-batch", "-")
		cmd.SysProcAttr = nil // the thread that starts it ends before it does
		cmd.Stdin, cmd.Stdout = &repeat{text: "mptcp endpoint show\nrule show\nroute show table all proto 77\n", over: &over}, l
		h.Do(func() {
			if err := cmd.Start(); err != nil {
				t.Fatalf("start ip %s -batch: %v", f, err)
			}
		})
		looks, waits = append(looks, l), append(waits, cmd.Wait)
	}
	ended := false
	stop = func() {
		t.Helper()
		if ended {
			return
		}
		ended = true
		over.Store(true)
		for i, wait := range waits {
			if err := wait(); err != nil {
				t.Errorf("ip %s -batch: %v", looks[i].family, err)
			}
			if looks[i].bad != "" {
				h.Lab.Dump()
				t.Fatalf("[%s] %s", h.Name, looks[i].bad)
			}
		}
		t.Logf("looked at the order %d times", looks[0].count+looks[1].count)
	}
	t.Cleanup(stop)
	return stop
}

// repeat is a text without end, until it is over.
type repeat struct {
	text string
	over *atomic.Bool
}

func (r *repeat) Read(b []byte) (int, error) {
	if r.over.Load() {
		return 0, io.EOF
	}
	return copy(b, r.text), nil
}

// orderLook reads what ip prints: endpoints, rules and routes in turn.
type orderLook struct {
	family string
	bad    string
	count  int

	rest          []byte
	before, after []string // endpoints
	routing       []string
}

func (l *orderLook) Write(b []byte) (int, error) {
	l.rest = append(l.rest, b...)
	for {
		i := bytes.IndexByte(l.rest, '\n')
		if i < 0 {
			return len(b), nil
		}
		l.line(strings.Join(strings.Fields(string(l.rest[:i])), " "))
		l.rest = l.rest[i+1:]
	}
}

func (l *orderLook) line(s string) {
	switch {
	case s == "0: from all lookup local": // the first rule: all endpoints are known
		l.judge()
		l.before, l.after, l.routing = l.after, nil, nil
		l.count++
	case strings.Contains(s, " id "):
		l.after = append(l.after, s)
	case strings.HasPrefix(s, "default "), ours(s) && !strings.Contains(s, " suppress_prefixlength "):
		// ip leaves out the protocol of routes that it was asked for.
		l.routing = append(l.routing, s)
	}
}

// judge names an endpoint that was there before and after the look at the rules and routes, which it needed in vain.
func (l *orderLook) judge() {
	for _, e := range l.before {
		w := strings.Fields(e)
		if strings.Contains(w[0], ":") != (l.family == "-6") || !slices.Contains(l.after, e) {
			continue
		}
		has := func(begin, part string) bool {
			return slices.ContainsFunc(l.routing, func(r string) bool {
				return strings.HasPrefix(r, begin) && strings.Contains(r, part)
			})
		}
		rule, route := has("32765: from "+w[0]+" ", " lookup "), has("default ", " dev "+w[len(w)-1]+" ")
		if l.bad == "" && (!rule || !route) {
			l.bad = fmt.Sprintf("endpoint %s came before its routing: source rule %v, default route %v\n  found:\n    %s",
				e, rule, route, strings.Join(l.routing, "\n    "))
		}
	}
}
