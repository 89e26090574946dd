package observe

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/subflowd/subflowd/internal/kernel"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/pkg/mptcp"
)

// manySample is a look at n connections of four subflows each, the nth look of them.
func manySample(n int, look uint64) *Sample {
	s := &Sample{
		Time: time.Date(2026, 3, 1, 12, 0, int(look), 0, time.UTC), MPTCP: true,
		Links:    []kernel.LinkCounters{{Index: 1, Name: "lo", Loopback: true}, {Index: 2, Name: "eth0", SentBytes: 5e9 * look}, {Index: 3, Name: "wlan0"}},
		names:    netstate.Names{1: "lo", 2: "eth0", 3: "wlan0"},
		loopback: map[int]bool{1: true},
		homes: map[netip.Addr][]int{
			netip.MustParseAddr("10.1.1.2"): {2}, netip.MustParseAddr("10.1.2.2"): {3},
		},
	}
	for i := range n {
		remote := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 443)
		c := mptcp.Connection{
			Token: uint32(i + 1), Cookie: uint64(10*i + 1), State: mptcp.StateEstablished, Remote: remote,
			Local: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 1, 2}), uint16(20000+i)), BytesSent: 4e6 * look, BytesReceived: 1000,
		}
		for k := range 4 {
			c.Subflows = append(c.Subflows, mptcp.Subflow{
				Token: c.Token, Cookie: c.Cookie + uint64(k) + 1, State: mptcp.StateEstablished, Remote: remote,
				Local:   netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(1 + k%2), 2}), uint16(20000+i)),
				IfIndex: int32(2 + k%2), JoinLocal: k > 0, LocalID: uint8(k), FullyEstablished: true,
				RTT: 1234 * time.Microsecond, MinRTT: time.Millisecond, RTO: 204 * time.Millisecond, Cwnd: 10, MSS: 1448,
				BytesSent: 1e6 * look, BytesAcked: 1e6, BytesReceived: 250, LastDataSent: 3 * time.Millisecond,
			})
		}
		s.Connections = append(s.Connections, c)
	}
	return s
}

func BenchmarkDocument(b *testing.B) {
	before, now := manySample(1000, 1), manySample(1000, 2)
	for b.Loop() {
		Document(now, before)
	}
}

func BenchmarkDocumentAsJSON(b *testing.B) {
	d := Document(manySample(1000, 2), manySample(1000, 1))
	for b.Loop() {
		if _, err := json.Marshal(d); err != nil {
			b.Fatal(err)
		}
	}
}
