package main

import (
	"strings"
	"testing"

	"github.com/subflowd/subflowd/test/lab"
)

func TestOnceAndCleanup(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.IPv6())
	before := n.Client.Snapshot()
	if r := n.Client.Subflowd("--once"); r.Code != exitDone {
		t.Fatalf("--once: exit %d\n%s", r.Code, r.Stderr)
	}
	if err := n.CheckUplinks("subflow", n.A, n.B); err != nil {
		t.Error(err)
	}
	for _, p := range []*lab.Path{n.A, n.B} {
		if err := n.Client.Ping(n.ServerAddr, p.Addr); err != nil {
			t.Errorf("by %s: %v", p.Dev, err)
		}
	}
	after := n.Client.Snapshot()
	r := n.Client.Subflowd("--once")
	if r.Code != exitDone {
		t.Errorf("second --once: exit %d\n%s", r.Code, r.Stderr)
	}
	if strings.Contains(r.Stderr, "info ip ") {
		t.Errorf("second --once changed something:\n%s", r.Stderr)
	}
	n.Client.WantSnapshot(after)

	if r := n.Client.Subflowd("--cleanup"); r.Code != exitDone {
		t.Errorf("--cleanup: exit %d\n%s", r.Code, r.Stderr)
	}
	n.Client.WantSnapshot(before)
	if r := n.Client.Subflowd("--cleanup"); r.Code != exitDone || strings.Contains(r.Stderr, "info ip ") {
		t.Errorf("second --cleanup: exit %d\n%s", r.Code, r.Stderr)
	}
}
