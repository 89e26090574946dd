package probe

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/subflowd/subflowd/pkg/mptcp"
	"github.com/subflowd/subflowd/pkg/status"
	"github.com/subflowd/subflowd/test/lab"
)

// TestBothLists: what a socket says of its subflows, and what sock_diag says of them, is the same.
func TestBothLists(t *testing.T) {
	n := lab.TwoSubnets(t)
	n.Client.IP("mptcp limits set subflows 2 add_addr_accepted 4", "mptcp endpoint add 10.1.2.2 dev eth1 subflow",
		"route add default via 10.1.2.1 dev eth1 table 200", "rule add from 10.1.2.2 lookup 200")
	var l net.Listener
	n.Server.Do(func() {
		var err error
		if l, err = Listen(t.Context(), "10.9.0.2:5001"); err != nil {
			t.Fatal(err)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, func(string) {}) }()
	defer func() { cancel(); <-done }()
	n.Client.Do(func() {
		client, err := mptcp.Dial()
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		a := try(netip.MustParseAddrPort("10.9.0.2:5001"), via{}, 10*time.Second)
		defer a.close()
		if a.Outcome != status.ProbeMPTCP || a.spoke != cameByMPTCP {
			t.Fatalf("%+v", a)
		}
		lab.Eventually(t, 20*time.Second, "two subflows in both lists", func() error {
			bySocket, err := a.sock.subflows()
			if err != nil {
				return err
			}
			byDiag, err := diagSubflows(client, a.info.token)
			if err != nil {
				return err
			}
			one, other := ends(bySocket), ends(byDiag)
			if len(one) != 2 || !slices.Equal(one, other) {
				return fmt.Errorf("by the socket %v, by sock_diag %v", one, other)
			}
			return nil
		})
	})
}

func ends(list []subflow) (out []string) {
	for _, s := range list {
		out = append(out, fmt.Sprint(s.local, s.remote, s.established))
	}
	slices.Sort(out)
	return out
}
