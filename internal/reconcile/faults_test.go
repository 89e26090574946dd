package reconcile

import (
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/subflowd/subflowd/internal/netstate"
)

// TestEveryReadFails lets every read of a life fail, once and three times in a
// row: a dump that was interrupted too often, an answer that was cut off or did
// not come.
func TestEveryReadFails(t *testing.T) {
	usual := settledLife(t)
	for _, fault := range []syscall.Errno{syscall.EAGAIN, syscall.EMSGSIZE, syscall.ETIMEDOUT, syscall.ENOMEM, syscall.EPERM} {
		t.Run(fault.Error(), func(t *testing.T) {
			t.Parallel()
			for n := 1; n <= usual.reads; n++ {
				for _, times := range []int{1, 3} {
					synctest.Test(t, func(t *testing.T) {
						f := inhabited()
						i, struck := 0, 0
						f.FailRefresh(func(netstate.Hints) error {
							if i++; i >= n && i < n+times {
								struck++
								return fmt.Errorf("read: %w", fault)
							}
							return nil
						})
						h := run(t, f, &memory{})
						life(h)
						when := fmt.Sprintf("read %d, %d times", n, times)
						// One that passes is told when it comes twice; the resync's chance decides how many reads there are.
						want := 1
						if struck == 0 || struck == 1 && fault.Temporary() {
							want = 0
						}
						if told := failureLines(h.logs); told["error read kernel state"] != want {
							t.Errorf("%s: lines of failures: %v, wanted %d", when, told, want)
						}
						usual.wantAll(h, when)
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
	usual := settledLife(t)
	for n := 1; n <= usual.writes; n++ {
		for _, times := range []int{1, 3, 1 << 20} {
			synctest.Test(t, func(t *testing.T) {
				f := inhabited()
				b := &brokenRecord{memory: &memory{}, from: n, to: n + times}
				o, logs := options(f, b.memory)
				o.Record = b
				h := &host{Fake: f, t: t, loop: New(o), rec: b.memory, logs: logs}
				h.start()
				life(h)
				when := fmt.Sprintf("write %d, %d times", n, times)
				if told := failureLines(logs); told["error write state record"] != 1 {
					t.Errorf("%s: lines of failures: %v", when, told)
				}
				usual.wantAll(h, when)
			})
		}
	}
}

// TestRecordLostAtRestart: the record is missing, torn, of another version, boot
// or namespace, which the store tells apart and which all mean that nothing is
// known. What is exactly as the plan wants it is adopted then.
func TestRecordLostAtRestart(t *testing.T) {
	usual := settledLife(t)
	for _, before := range []time.Duration{0, time.Millisecond, time.Second, 10 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			h := run(t, inhabited(), &memory{})
			h.pass(before)
			h.stop()
			again := run(t, h.Fake, &memory{})
			life(again)
			if told := failureLines(again.logs); len(told) != 0 {
				t.Errorf("after %v: nothing failed, and lines of failures: %v", before, told)
			}
			// Which limits the first daemon found, the record alone knew.
			usual.wantAll(again, "after "+before.String(), "limits")
		})
	}
}
