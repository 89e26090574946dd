package reconcile

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/kernel/kerneltest"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/netstate/iptext"
)

// TestContentionOverAnEndpoint has somebody put an endpoint of his own in the place of ours, which the configuration
// lets us replace. His stays while the repair waits: without any the path would be lost to every connection.
func TestContentionOverAnEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := kerneltest.New(iptext.MustSnapshot(twoSubnets))
		o, logs := options(f, &memory{})
		o.Config.ForeignEndpoints, o.Config.Role = config.ForeignTakeOver, config.RoleServer
		h := runWith(t, f, o, logs)
		h.pass(time.Second)
		ours := strings.NewReplacer("subflow\n", "signal\n", "accepted 4", "accepted 0").Replace(settledText)
		h.want(ours)
		has := func() (there, signals bool) {
			for _, e := range h.Snapshot().Endpoints {
				if e.Addr == ip2 {
					return true, e.Flags == netstate.SignalFlag
				}
			}
			return false, false
		}
		replaced, gap := 0, time.Duration(0)
		const step = 50 * time.Millisecond
		for range 10 * time.Minute / step {
			there, signals := has()
			if signals {
				replaced++
				h.DelEndpoint(ip2)
				_ = h.AddEndpoint(netstate.Endpoint{Addr: ip2, Link: 3, Flags: netstate.SubflowFlag})
				h.loop.Hint(netstate.Hints{Kinds: netstate.KindEndpoints, Reason: "test"})
			}
			if !there {
				gap += step
			}
			h.pass(step)
		}
		if replaced < 8 || replaced > 25 {
			t.Errorf("replaced %d times in ten minutes", replaced)
		}
		if gap > 0 {
			t.Errorf("no endpoint for %v in all", gap)
		}
		h.wantFinding(codeContention, true)
		h.pass(2 * time.Minute)
		h.want(ours)
		h.converged()
	})
}
