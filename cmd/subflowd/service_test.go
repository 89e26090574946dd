package main

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/plan"
	"github.com/subflowd/subflowd/internal/reconcile"
)

// TestReadyConvergedOrNot: what waits for the daemon waits for its first look, and not for a kernel that refuses.
func TestReadyConvergedOrNot(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	refused := &reconcile.View{
		Plan: &plan.Plan{Paths: []plan.Path{{Name: "eth1", State: plan.Live}, {Name: "eth0", State: plan.Live}, {Name: "wlan0", State: plan.Dark}}},
		Left: []reconcile.Left{{Err: "operation not permitted"}},
	}
	s := &service{log: zap.NewNop()}
	guarded := &reconcile.View{
		Plan: &plan.Plan{
			Paths: []plan.Path{{Name: "eth0", State: plan.Live}}, Guard: &plan.Guard{Name: "wg0", Policy: config.VPNWithdraw},
		}, Lingering: make([]reconcile.Lingering, 1),
	}
	for _, v := range []*reconcile.View{{}, refused, refused, guarded, {Plan: &plan.Plan{}, Converged: true}} {
		s.round(v)
	}
	for _, want := range []string{
		"STATUS=the kernel cannot be read",
		"STATUS=links that are paths: 2 (eth0, eth1), endpoints: 0, changes left: 1", "READY=1",
		"STATUS=links that are paths: 1 (eth0), endpoints: 0, stepped aside for the VPN by wg0, lingering: 1",
		"STATUS=no link is a path",
	} {
		b := make([]byte, 256)
		if err := c.SetReadDeadline(time.Now().Add(soon)); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(b[:n])); diff != "" {
			t.Error(diff)
		}
	}
}
