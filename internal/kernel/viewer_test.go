package kernel

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/test/lab"
)

// viewing opens a viewer on a host.
func viewing(t *testing.T, h *lab.Host, f func(*Viewer)) {
	t.Helper()
	h.Do(func() {
		v, err := OpenViewer()
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		f(v)
	})
}

func TestViewerCountsAsIPDoes(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.IPv6())
	if err := n.Client.Ping(n.ServerAddr, n.A.Addr); err != nil {
		t.Fatal(err)
	}
	viewing(t, n.Client, func(v *Viewer) {
		links, err := v.Links()
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]bool{}
		for _, l := range links {
			found[l.Name] = l.Loopback
			if l.Name != "eth0" {
				continue
			}
			// Packets may come meanwhile; they only add.
			tx, rx := n.Client.LinkBytes("eth0")
			if l.Index != n.Client.Ifindex("eth0") || l.SentBytes == 0 || l.ReceivedBytes == 0 || l.SentPackets == 0 || l.ReceivedPackets == 0 || l.SentBytes > tx || l.ReceivedBytes > rx {
				t.Errorf("%+v; ip: %d sent, %d received", l, tx, rx)
			}
		}
		if d := cmp.Diff(map[string]bool{"lo": true, "eth0": false, "eth1": false}, found); d != "" {
			t.Error(d)
		}
		addrs, err := v.Addrs()
		if err != nil {
			t.Fatal(err)
		}
		homes := map[netip.Addr]int{}
		for _, a := range addrs {
			homes[a.IP()] = a.Link
		}
		for _, p := range []*lab.Path{n.A, n.B} {
			for _, a := range []string{p.Addr, p.Addr6} {
				if homes[netip.MustParseAddr(a)] != n.Client.Ifindex(p.Dev) {
					t.Errorf("%s is on %d", a, homes[netip.MustParseAddr(a)])
				}
			}
		}
	})
}

// TestWays asks for more routes at once than one batch has.
func TestWays(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.IPv6())
	n.Client.IP("rule add from "+n.B.Addr+" lookup 102", "route add default via "+n.B.Gateway+" dev eth1 table 102", "route add unreachable 203.0.113.0/24")
	a, b := netip.MustParseAddr(n.A.Addr), netip.MustParseAddr(n.B.Addr)
	eth0, eth1 := n.Client.Ifindex("eth0"), n.Client.Ifindex("eth1")
	var flows []Flow
	var want []int
	ask := func(from, to netip.Addr, way int) {
		flows, want = append(flows, Flow{from, to}), append(want, way)
	}
	ask(netip.Addr{}, netip.MustParseAddr(n.ServerAddr), 0)
	for i := range byte(3 * lookupBatch / 2) {
		to := netip.AddrFrom4([4]byte{10, 9, 0, i + 1})
		ask(a, to, eth0)
		ask(b, to, eth1)
	}
	ask(a, netip.MustParseAddr("203.0.113.1"), 0)
	ask(netip.MustParseAddr("192.0.2.99"), netip.MustParseAddr(n.ServerAddr), 0) // not this host's
	ask(a, netip.MustParseAddr(n.ServerAddr6), 0)
	ask(netip.MustParseAddr(n.A.Addr6), netip.MustParseAddr(n.ServerAddr6), eth0)
	ask(a, a, 1)
	viewing(t, n.Client, func(v *Viewer) {
		found, err := v.Ways(flows)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, found); d != "" {
			t.Error(d)
		}
		if found, err := v.Ways(nil); err != nil || len(found) != 0 {
			t.Errorf("%v %v", found, err)
		}
	})
}

func TestDecodeCounters(t *testing.T) {
	t.Parallel()
	whole := counters(2, "eth0", 8)
	if l, ok := decodeCounters(whole); !ok || l != (LinkCounters{Index: 2, Name: "eth0", ReceivedPackets: 1, SentPackets: 2, ReceivedBytes: 3, SentBytes: 4, ReceiveErrors: 5, SendErrors: 6, ReceiveDropped: 7, SendDropped: 8}) {
		t.Errorf("%+v %v", l, ok)
	}
	if l, ok := decodeCounters(counters(2, "eth0", 3)); !ok || l.ReceivedBytes != 3 || l.SentBytes != 0 {
		t.Errorf("cut short: %+v %v", l, ok)
	}
	for _, b := range [][]byte{nil, whole[:10], counters(0, "eth0", 8), counters(2, "", 8)} {
		if l, ok := decodeCounters(b); ok {
			t.Errorf("%x is %+v", b, l)
		}
	}
}

// counters is a message about a link with the first n counters.
func counters(index uint32, name string, n int) []byte {
	h := make([]byte, ifinfoLen)
	putU32(h[4:], index)
	return build(h, func(m *messages) {
		if name != "" {
			m.bytes(unix.IFLA_IFNAME, []byte(name+"\x00"))
		}
		stats := make([]byte, 8*n)
		for i := range n {
			binary.NativeEndian.PutUint64(stats[8*i:], uint64(i+1))
		}
		m.bytes(unix.IFLA_STATS64, stats)
	})
}

// FuzzDecodeCounters: no input makes it panic, and a link has a name and an index.
func FuzzDecodeCounters(f *testing.F) {
	f.Add(counters(2, "eth0", 8))
	f.Add(counters(1, "lo", 25))
	f.Add(counters(2, "eth0", 0))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, ok := decodeCounters(b); ok && (l.Index <= 0 || l.Name == "") {
			t.Errorf("%+v", l)
		}
		if l, ok := decodeCounters(b); !ok && l.Index > 0 && l.Name != "" {
			t.Errorf("refused: %+v", l)
		}
	})
}
