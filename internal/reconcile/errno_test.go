package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zaptest/observer"

	"github.com/subflowd/subflowd/internal/kernel/kerneltest"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/netstate/iptext"
)

// errnos are those with which the kernel may refuse a request of ours: what
// net/ipv4/fib_frontend.c, net/ipv6/route.c, net/core/fib_rules.c,
// net/mptcp/pm_kernel.c, netlink itself and the allocators below return, and a
// security module.
var errnos = []syscall.Errno{
	syscall.EPERM, syscall.EACCES, syscall.EBUSY, syscall.EEXIST, syscall.ENOENT, syscall.ESRCH, syscall.EINVAL,
	syscall.ENOBUFS, syscall.ENOMEM, syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.ENODEV,
	syscall.ENXIO, syscall.EADDRNOTAVAIL, syscall.EADDRINUSE, syscall.EAGAIN, syscall.EINTR, syscall.EOPNOTSUPP,
	syscall.EAFNOSUPPORT, syscall.EPROTONOSUPPORT, syscall.ENOSPC, syscall.ERANGE, syscall.EOVERFLOW, syscall.EMSGSIZE,
	syscall.E2BIG, syscall.EFAULT, syscall.ENOPROTOOPT, syscall.EIO, syscall.ETIMEDOUT,
}

// strangers is what others have beside twoSubnets, some of it close to ours.
const strangers = `
route 10.50.0.0/24 via 10.1.1.1 dev eth0 proto static
route default via 10.1.2.1 dev eth1 table 500 proto static
route 10.60.0.0/24 dev eth0 table 100002 proto static
rule 1000: from 10.9.0.0/16 lookup 500
rule 32765: from 10.8.0.1 lookup 500
endpoint 10.99.0.1 id 200 signal
`

// foreignOf is what is not ours, in ip(8) words.
func foreignOf(s *netstate.Snapshot) string {
	var out []string
	n := s.Names()
	for _, r := range s.Routes {
		if !netstate.OwnsRoute(77, r) {
			out = append(out, r.Text(n))
		}
	}
	slices.Sort(out)
	for _, r := range s.Rules {
		if !netstate.OwnsRule(77, r) {
			out = append(out, r.Text())
		}
	}
	for _, e := range s.Endpoints {
		if e.ID == 200 {
			out = append(out, e.Text(n))
		}
	}
	return strings.Join(out, "\n")
}

// life is a bring-up, a change and a stop: an address is renumbered, a link
// loses its lease and gets it again, and its carrier for longer than the grace.
func life(h *host) {
	h.pass(time.Second)
	h.AddAddr(netstate.Addr{Link: 2, Local: mustPrefix("10.1.1.9/24")})
	h.pass(time.Second)
	h.DelAddr(2, ip1)
	_ = h.AddRoute(defaultOf("10.1.1.1", 2, 100))
	h.pass(time.Second)
	h.DelAddr(3, ip2)
	h.pass(time.Second)
	if err := h.Lease(netstate.Addr{Link: 3, Local: mustPrefix("10.1.2.2/24")}, defaultOf("10.1.2.1", 3, 200)); err != nil {
		h.t.Error(err)
	}
	h.pass(time.Second)
	h.Carrier(3, false)
	h.pass(20 * time.Second)
	h.Carrier(3, true)
	h.pass(2 * time.Minute)
	h.converged()
	h.wantFinding(codeChange, false)
	if l := h.loop.View().Lingering; len(l) != 0 {
		h.t.Errorf("lingering: %+v", l)
	}
	h.stop()
}

// failOnce has the n-th request from now on go wrong. That an endpoint is gone
// the kernel never says in vain: it is deleted by its number.
func failOnce(f *kerneltest.Fake, n int, fault error) {
	n += f.Requests()
	f.FailWith(func(i int, c netstate.Change) error {
		if i != n || fault == kerneltest.ErrIgnored && c.Op == netstate.EndpointDelete {
			return nil
		}
		return fault
	})
}

// failureLines counts the lines that tell of a failure, by their text.
func failureLines(logs *observer.ObservedLogs) map[string]int {
	m := map[string]int{}
	for _, l := range logs.All() {
		if l.ContextMap()["error"] != nil {
			m[l.Message]++
		}
	}
	return m
}

// TestEveryErrnoEverywhere lets every request of a life and of a cleanup go
// wrong in every way that there is.
func TestEveryErrnoEverywhere(t *testing.T) {
	var lifetime, teardown int
	var want, strange, clean string
	synctest.Test(t, func(t *testing.T) {
		h := run(t, kerneltest.New(iptext.MustSnapshot(twoSubnets+strangers)), &memory{})
		life(h)
		want, strange, lifetime = sorted(without(h.ours(), "limits")), foreignOf(h.Snapshot()), h.Requests()
		o, _ := options(h.Fake, h.rec)
		if _, err := Cleanup(o); err != nil {
			t.Fatal(err)
		}
		clean, teardown = sorted(h.ours()), h.Requests()-lifetime
	})
	if lifetime < 25 || teardown < 12 {
		t.Fatalf("a life has %d requests, a cleanup %d", lifetime, teardown)
	}
	faults := map[string]error{"ignored": kerneltest.ErrIgnored}
	for _, e := range errnos {
		faults[fmt.Sprintf("refused: %v", e)] = e
	}
	for _, e := range []syscall.Errno{syscall.ENOBUFS, syscall.ETIMEDOUT, syscall.EINTR, syscall.EMSGSIZE} {
		faults[fmt.Sprintf("answer lost: %v", e)] = kerneltest.LostAnswer{Err: e}
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := 1; n <= lifetime; n++ {
				synctest.Test(t, func(t *testing.T) {
					f := kerneltest.New(iptext.MustSnapshot(twoSubnets + strangers))
					failOnce(f, n, fault)
					h := run(t, f, &memory{})
					life(h)
					if d := cmp.Diff(want, sorted(without(h.ours(), "limits"))); d != "" {
						t.Errorf("request %d (-want +got):\n%s", n, d)
					}
					if d := cmp.Diff(strange, foreignOf(h.Snapshot())); d != "" {
						t.Errorf("request %d: what others have (-want +got):\n%s", n, d)
					}
					told := failureLines(h.logs)
					for l, times := range told {
						if times > 1 {
							t.Errorf("request %d: %d times: %s", n, times, l)
						}
					}
					// What was ignored is seen when the round looks again.
					if len(told) > 1 || len(told) == 0 && name != "ignored" {
						t.Errorf("request %d: lines of failures: %v", n, told)
					}
					cleanupAfterFault(t, n, h.Fake, h.rec, clean)
				})
			}
			for n := 1; n <= teardown; n++ {
				synctest.Test(t, func(t *testing.T) {
					h := run(t, kerneltest.New(iptext.MustSnapshot(twoSubnets+strangers)), &memory{})
					life(h)
					failOnce(h.Fake, n, fault)
					o, _ := options(h.Fake, h.rec)
					_, _ = Cleanup(o)
					cleanupAfterFault(t, n, h.Fake, h.rec, clean)
					if d := cmp.Diff(strange, foreignOf(h.Snapshot())); d != "" {
						t.Errorf("cleanup, request %d: what others have (-want +got):\n%s", n, d)
					}
				})
			}
		})
	}
}

// cleanupAfterFault wants a cleanup without faults to leave nothing.
func cleanupAfterFault(t *testing.T, n int, f *kerneltest.Fake, r *memory, clean string) {
	t.Helper()
	f.FailWith(nil)
	o, _ := options(f, r)
	if _, err := Cleanup(o); err != nil {
		t.Errorf("request %d: cleanup: %v", n, err)
	}
	if d := cmp.Diff(clean, sorted(oursOf(f.Snapshot()))); d != "" {
		t.Errorf("request %d: after cleanup (-want +got):\n%s", n, d)
	}
}

func sorted(text string) string {
	l := lines(text)
	slices.Sort(l)
	return strings.Join(l, "\n")
}
