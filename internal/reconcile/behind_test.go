package reconcile

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/subflowd/subflowd/internal/kernel/kerneltest"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/netstate/iptext"
	"github.com/subflowd/subflowd/internal/trigger"
)

// What the kernel told and no round has looked at yet makes the view an old one.
func TestBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := run(t, kerneltest.New(iptext.MustSnapshot(twoSubnets)), &memory{})
		synctest.Wait()
		for range trigger.MaxCredit/trigger.MinGap + 4 { // after a number of rounds without a pause the gate is closed for some milliseconds
			h.loop.Hint(netstate.Hints{Kinds: netstate.KindAddrs, Reason: "test"})
			synctest.Wait()
		}
		h.pass(trigger.MinGap)
		if h.loop.Behind() {
			t.Error("at rest: behind")
		}
		version := h.loop.View().Version
		h.loop.Hint(netstate.Hints{Kinds: netstate.KindAddrs, Reason: "test"})
		synctest.Wait()
		if !h.loop.Behind() || h.loop.View().Version != version {
			t.Errorf("after an event: behind %v, version %d after %d", h.loop.Behind(), h.loop.View().Version, version)
		}
		h.pass(time.Second)
		if h.loop.Behind() || h.loop.View().Version == version {
			t.Errorf("after the round: behind %v, version %d after %d", h.loop.Behind(), h.loop.View().Version, version)
		}
	})
}
