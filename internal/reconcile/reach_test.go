package reconcile

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/subflowd/subflowd/internal/health"
	"github.com/subflowd/subflowd/internal/netstate"
)

// silent has the probe say that its target answers over eth0 alone; answering
// ends that.
func (h *host) silent()    { h.reached(health.Silent) }
func (h *host) answering() { h.reached(health.Answers) }

func (h *host) reached(eth1 health.State) {
	h.loop.SetReach(map[netstate.LinkFamily]health.State{
		{Link: 2, Family: netstate.IPv4}: health.Answers, {Link: 3, Family: netstate.IPv4}: eth1,
	}, "probe")
	h.pass(100 * time.Millisecond)
}

// TestSilentPathWithoutConnections: its endpoint goes at once, and comes back.
func TestSilentPathWithoutConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets)
		h.pass(time.Second)
		h.endpointChanges()
		h.silent()
		h.wantChanges("change id 2 backup nofullmesh", "delete id 2")
		h.wantFinding("path-silent", true)
		h.converged()
		h.pass(time.Hour)
		h.wantChanges()
		h.answering()
		h.wantChanges("add 10.1.2.2 dev eth1 subflow")
		h.wantFinding("path-silent", false)
		h.want(settledText)
	})
}

// TestSilentPathInUse: its endpoint is backup for as long as a connection has
// nothing else, and an endpoint like any other when the path is back.
func TestSilentPathInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, twoSubnets)
		h.pass(time.Second)
		h.SetConnections(bound(1, ip2))
		h.endpointChanges()
		h.silent()
		h.wantChanges("change id 2 backup nofullmesh")
		h.wantFinding(codeLingering, true)
		h.pass(time.Hour)
		h.want(strings.Replace(settledText, "eth1 subflow", "eth1 subflow backup", 1))
		h.converged()
		h.answering()
		h.pass(time.Minute)
		h.wantFinding(codeLingering, false)
		h.want(settledText)
	})
}
