package reconcile

import (
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/subflowd/subflowd/internal/kernel/kerneltest"
	"github.com/subflowd/subflowd/internal/netstate"
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

// TestEveryErrnoEverywhere lets every request of a life and of a cleanup go
// wrong in every way that there is.
func TestEveryErrnoEverywhere(t *testing.T) {
	usual := settledLife(t)
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
			for n := 1; n <= usual.requests; n++ {
				synctest.Test(t, func(t *testing.T) {
					f := inhabited()
					failOnce(f, n, fault)
					h := run(t, f, &memory{})
					life(h)
					told := failureLines(h.logs)
					// What was ignored is seen when the round looks again.
					if len(told) > 1 || len(told) == 0 && name != "ignored" {
						t.Errorf("request %d: lines of failures: %v", n, told)
					}
					usual.wantAll(h, fmt.Sprintf("request %d", n))
				})
			}
			for n := 1; n <= usual.teardown; n++ {
				synctest.Test(t, func(t *testing.T) {
					h := run(t, inhabited(), &memory{})
					life(h)
					failOnce(h.Fake, n, fault)
					o, _ := options(h.Fake, h.rec)
					_, _ = Cleanup(o)
					usual.wantClean(h, fmt.Sprintf("cleanup, request %d", n))
				})
			}
		})
	}
}
