package kernel

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
)

// TestSilentFlushIsAwaited: the kernel says that the last address went before it
// takes the link's routes out of all tables, which is slow beside many others.
// Whoever reads at once must not see them for ever after.
func TestSilentFlushIsAwaited(t *testing.T) {
	t.Parallel()
	const rounds, others = 150, 20000
	h := twoUplinks(t)
	h.IP("addr del 10.1.1.2/24 dev eth0")
	batch := make([]string, others)
	for i := range batch {
		batch[i] = "route add 10." + itoa(100+i/250) + "." + itoa(i%250) + ".0/24 via 10.1.2.1 proto bgp table 900"
	}
	h.IP(batch...)
	w := watch(t, h, 100000, nil)
	eth0 := h.Ifindex("eth0")
	table := testOptions.TableBase + uint32(eth0)
	h.Do(func() {
		other, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		link := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: eth0}}
		addr, err := netlink.ParseAddr("10.1.1.2/24")
		if err != nil {
			t.Fatal(err)
		}
		marker := netlink.NewRule()
		marker.Priority, marker.Table, marker.Family = 100, 5, unix.AF_INET
		left := 0
		for range rounds {
			route := &netlink.Route{LinkIndex: eth0, Table: int(table), Gw: net.IPv4(10, 1, 1, 1)}
			if err := errors.Join(other.AddrAdd(link, addr), other.RouteAdd(route)); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- errors.Join(other.AddrDel(link, addr), other.RuleAdd(marker), other.RuleDel(marker)) }()
			var last *netstate.Snapshot
			w.follow(t, "rule added", func(hint netstate.Hints) { last = refresh(t, w.k, hint) })
			w.follow(t, "rule removed", nil)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			left += len(inTable(last, table))
		}
		if left > 0 {
			t.Errorf("in %d of %d rounds a route was read that is gone", left, rounds)
		}
	})
}

// follow hands on every hint before the one whose reason has the prefix.
func (w *watched) follow(t *testing.T, prefix string, each func(netstate.Hints)) {
	t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case hint := <-w.hints:
			if strings.HasPrefix(hint.Why(nil), prefix) {
				return
			}
			if each != nil {
				each(hint)
			}
		case <-late:
			t.Fatalf("no hint %q", prefix)
		}
	}
}
