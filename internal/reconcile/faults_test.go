package reconcile

import (
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/subflowd/subflowd/internal/kernel/kerneltest"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/netstate/iptext"
)

// settledLife is what is ours, and what is not, after a life without faults.
func settledLife(t *testing.T) (ours, others string, reads, writes int) {
	synctest.Test(t, func(t *testing.T) {
		h := run(t, kerneltest.New(iptext.MustSnapshot(twoSubnets+strangers)), &memory{})
		life(h)
		ours, others = sorted(without(h.ours(), "limits")), foreignOf(h.Snapshot())
		reads, writes = len(h.Reads()), h.rec.writes
	})
	return ours, others, reads, writes
}

func (h *host) wantLife(ours, others, when string) {
	h.t.Helper()
	if d := cmp.Diff(ours, sorted(without(h.ours(), "limits"))); d != "" {
		h.t.Errorf("%s (-want +got):\n%s", when, d)
	}
	if d := cmp.Diff(others, foreignOf(h.Snapshot())); d != "" {
		h.t.Errorf("%s: what others have (-want +got):\n%s", when, d)
	}
}

// TestEveryReadFails lets every read of a life fail, once and three times in a
// row: a dump that was interrupted too often, an answer that was cut off or did
// not come.
func TestEveryReadFails(t *testing.T) {
	ours, others, reads, _ := settledLife(t)
	if reads < 10 {
		t.Fatalf("a life has %d reads", reads)
	}
	for _, fault := range []syscall.Errno{syscall.EAGAIN, syscall.EMSGSIZE, syscall.ETIMEDOUT, syscall.ENOMEM, syscall.EPERM} {
		t.Run(fault.Error(), func(t *testing.T) {
			t.Parallel()
			for n := 1; n <= reads; n++ {
				for _, times := range []int{1, 3} {
					synctest.Test(t, func(t *testing.T) {
						f := kerneltest.New(iptext.MustSnapshot(twoSubnets + strangers))
						i := 0
						f.FailRefresh(func(netstate.Hints) error {
							if i++; i >= n && i < n+times {
								return fmt.Errorf("read: %w", fault)
							}
							return nil
						})
						h := run(t, f, &memory{})
						life(h)
						when := fmt.Sprintf("read %d, %d times", n, times)
						h.wantLife(ours, others, when)
						for l, count := range failureLines(h.logs) {
							if count > 1 {
								t.Errorf("%s: %d times: %s", when, count, l)
							}
						}
					})
				}
			}
		})
	}
}

// brokenRecord cannot be written for a while; what it says is held in memory.
type brokenRecord struct {
	*memory
	from, to int
}

func (b *brokenRecord) fault(err error) error {
	if b.writes >= b.from && b.writes < b.to {
		return fmt.Errorf("write: %w", syscall.ENOSPC)
	}
	return err
}

func (b *brokenRecord) Announce(e ...netstate.Endpoint) error {
	return b.fault(b.memory.Announce(e...))
}

func (b *brokenRecord) Settle(e ...netstate.Endpoint) error { return b.fault(b.memory.Settle(e...)) }

func (b *brokenRecord) Forget(e ...netstate.Endpoint) error { return b.fault(b.memory.Forget(e...)) }

func (b *brokenRecord) SetProtocols(p ...uint8) error { return b.fault(b.memory.SetProtocols(p...)) }

func (b *brokenRecord) SetLimits(found, set netstate.Limits) error {
	return b.fault(b.memory.SetLimits(found, set))
}

// TestFullDiskEverywhere lets the disk be full from every write of a life on,
// for one write, for three, and for good.
func TestFullDiskEverywhere(t *testing.T) {
	ours, others, _, writes := settledLife(t)
	for n := 1; n <= writes; n++ {
		for _, times := range []int{1, 3, 1 << 20} {
			synctest.Test(t, func(t *testing.T) {
				f := kerneltest.New(iptext.MustSnapshot(twoSubnets + strangers))
				b := &brokenRecord{memory: &memory{}, from: n, to: n + times}
				o, logs := options(f, b.memory)
				o.Record = b
				h := &host{Fake: f, t: t, loop: New(o), rec: b.memory, logs: logs}
				h.start()
				life(h)
				h.wantLife(ours, others, fmt.Sprintf("write %d, %d times", n, times))
				if told := failureLines(logs)["write state record"]; told != 1 {
					t.Errorf("write %d, %d times: %d lines tell of it", n, times, told)
				}
			})
		}
	}
}

// TestRecordLostAtRestart: the record is missing, torn, of another version, boot
// or namespace, which the store tells apart and which all mean that nothing is
// known. What is exactly as the plan wants it is adopted then.
func TestRecordLostAtRestart(t *testing.T) {
	ours, others, _, _ := settledLife(t)
	for _, before := range []time.Duration{0, time.Millisecond, time.Second, 10 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			h := run(t, kerneltest.New(iptext.MustSnapshot(twoSubnets+strangers)), &memory{})
			h.pass(before)
			h.stop()
			again := run(t, h.Fake, &memory{})
			life(again)
			again.wantLife(ours, others, "after "+before.String())
			o, _ := options(again.Fake, again.rec)
			if _, err := Cleanup(o); err != nil {
				t.Error(err)
			}
			again.want("endpoint 10.99.0.1 signal\n" + "limits " + again.Snapshot().Limits.Text())
		})
	}
}
