package reconcile

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/netstate"
)

// backupHost has eth1 as backup by configuration; release ends that.
func backupHost(t *testing.T) (h *host, release func()) {
	h = newHost(t, twoSubnets)
	h.pass(time.Second)
	set := func(v bool) {
		c := config.Default()
		c.Links = []config.LinkEntry{{Name: "eth1", Backup: &v}}
		if err := h.loop.SetConfig(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		h.pass(100 * time.Millisecond)
	}
	set(true)
	h.want(strings.Replace(settledText, "eth1 subflow", "eth1 subflow backup", 1))
	return h, func() { set(false) }
}

// heard is a connection whose subflows were heard of so long ago, in their
// order.
func heard(ago ...time.Duration) netstate.Connection {
	c := bound(1, []netip.Addr{ip1, ip2}[:len(ago)]...)
	for i, d := range ago {
		c.Subflows[i].LastRecv, c.Subflows[i].LastAck = d, d
	}
	return c
}

func TestBackupTakenAwayInTheDark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, release := backupHost(t)
		h.SetConnections(heard(0, time.Hour))
		h.endpointChanges()
		release()
		h.wantChanges("change id 2 nobackup nofullmesh")
		h.pass(10 * time.Second)
		h.wantChanges()
		h.SetConnections(heard(0, 0))
		h.pass(30 * time.Second)
		h.wantChanges("change id 2 backup nofullmesh", "change id 2 nobackup nofullmesh")
		h.want(settledText)
		h.pass(time.Hour)
		h.wantChanges()
		h.converged()
	})
}

func TestBackupTakenAwayInTheLight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, release := backupHost(t)
		h.SetConnections(heard(0, 0))
		h.endpointChanges()
		release()
		h.pass(time.Hour)
		h.wantChanges("change id 2 nobackup nofullmesh")
	})
}

func TestPeerThatStaysSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, release := backupHost(t)
		h.SetConnections(heard(0, time.Hour))
		release()
		h.endpointChanges()
		h.pass(11 * time.Minute)
		h.SetConnections(heard(0, 0))
		h.pass(time.Hour)
		h.wantChanges()
		if n := len(h.loop.told); n != 0 {
			t.Errorf("%d are waited for", n)
		}
	})
}

func TestBackupAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, release := backupHost(t)
		h.SetConnections(heard(0, time.Hour))
		release()
		c := config.Default()
		yes := true
		c.Links = []config.LinkEntry{{Name: "eth1", Backup: &yes}}
		if err := h.loop.SetConfig(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		h.pass(100 * time.Millisecond)
		h.endpointChanges()
		h.SetConnections(heard(0, 0))
		h.pass(time.Hour)
		h.wantChanges()
	})
}
