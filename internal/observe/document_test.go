package observe

import (
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/subflowd/subflowd/internal/kernel"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/pkg/mptcp"
	"github.com/subflowd/subflowd/pkg/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "write the documents that are found to testdata")

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func ip(s string) netip.Addr      { return netip.MustParseAddr(s) }
func end(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
func ways(m ...any) map[kernel.Flow]int {
	out := map[kernel.Flow]int{}
	for i := 0; i < len(m); i += 3 {
		out[kernel.Flow{Local: ip(m[i].(string)), Remote: ip(m[i+1].(string))}] = m[i+2].(int)
	}
	return out
}

// host is a laptop with two links, looked at at some second.
func host(second int, conns ...mptcp.Connection) *Sample {
	n := uint64(second)
	s := &Sample{
		Time: noon.Add(time.Duration(second) * time.Second), MPTCP: true, Connections: conns,
		Links: []kernel.LinkCounters{
			{Index: 1, Name: "lo", Loopback: true},
			{Index: 2, Name: "eth0", ReceivedBytes: 12_400_000_000 + 9_000_000*n, SentBytes: 340_000_000 + 250_000*n},
			{Index: 3, Name: "wlan0", ReceivedBytes: 812_000_000, SentBytes: 12_100_000},
		},
		names: netstate.Names{1: "lo", 2: "eth0", 3: "wlan0"}, loopback: map[int]bool{1: true},
		homes: map[netip.Addr][]int{ip("127.0.0.1"): {1}, ip("10.1.1.2"): {2}, ip("10.1.2.2"): {3}, ip("2001:db8:1::2"): {2}},
		ways:  ways("10.1.1.2", "192.0.2.1", 2, "10.1.2.2", "192.0.2.1", 2, "127.0.0.1", "127.0.0.1", 1, "2001:db8:1::2", "2001:db8:9:1234:5678:9abc:def0:1", 2),
	}
	for i := range s.Connections {
		attach(&s.Connections[i])
	}
	return s
}

// download is a connection over both links.
func download(second int) mptcp.Connection {
	n := uint64(second)
	return mptcp.Connection{
		Token: 0x1a2b3c, Cookie: 1, State: mptcp.StateEstablished, Local: end("10.1.1.2:40000"), Remote: end("192.0.2.1:443"),
		UID: 1000, Inode: 7788, SubflowsMax: 2, BytesSent: 31_000 * n, BytesAcked: 30_000 * n, BytesReceived: 6_000_000 * n, ReceiveQueue: 1448,
		Subflows: []mptcp.Subflow{
			{ // by the link that its socket is bound to
				Cookie: 3, State: mptcp.StateEstablished, Local: end("10.1.2.2:51000"), Remote: end("192.0.2.1:443"), IfIndex: 3,
				LocalID: 2, JoinLocal: true, JoinRemote: true, FullyEstablished: true, BackupLocal: true,
				RTT: 34500 * time.Microsecond, MinRTT: 30 * time.Millisecond, RTO: 250 * time.Millisecond, CAState: mptcp.CALoss, Backoff: 2,
				Cwnd: 1, MSS: 1448, Unacked: 4, Lost: 3, TotalRetrans: 17, BytesSent: 20_000, BytesAcked: 2000, BytesReceived: 1_000_000,
			},
			{ // by the route
				Cookie: 2, State: mptcp.StateEstablished, Local: end("10.1.1.2:40000"), Remote: end("192.0.2.1:443"), FullyEstablished: true,
				RTT: 840 * time.Microsecond, Cwnd: 42, MSS: 1448, BytesSent: 28_000 * n, BytesAcked: 28_000*n + 1, BytesReceived: 5_000_000 * n, DeliveryRate: 1_250_000,
			},
			{ // closed with its endpoint
				Cookie: 4, State: mptcp.StateFinWait1, Local: end("10.1.9.2:51002"), Remote: end("192.0.2.1:443"), IfIndex: 9, JoinLocal: true,
			},
		},
	}
}

// single is a connection with one subflow without news.
func single(cookie uint64, local, remote string) mptcp.Connection {
	return mptcp.Connection{
		Token: uint32(cookie), Cookie: cookie, State: mptcp.StateEstablished, Local: end(local), Remote: end(remote), BytesSent: 512, BytesAcked: 512,
		Subflows: []mptcp.Subflow{{
			Cookie: cookie + 1, State: mptcp.StateEstablished, Local: end(local), Remote: end(remote), FullyEstablished: true, BytesSent: 512, BytesAcked: 513, Cwnd: 10,
		}},
	}
}

// situations are looks worth a picture.
var situations = map[string]func() *status.Connections{
	"empty": func() *status.Connections { return Document(host(0), nil) },
	"single": func() *status.Connections {
		return Document(host(0, single(0xabcd, "10.1.1.2:40001", "192.0.2.1:80")), nil)
	},
	"download": func() *status.Connections {
		return Document(host(2, download(2)), host(1, download(1)))
	},
	"hidden": func() *status.Connections {
		c := single(0xabcd, "10.1.1.2:40001", "192.0.2.1:80")
		c.Subflows = nil
		s := host(0, c)
		s.Hidden = true
		return Document(s, nil)
	},
	"odd": func() *status.Connections {
		fallback := single(0x10, "10.1.1.2:40002", "192.0.2.1:25")
		fallback.Fallback, fallback.BytesSent, fallback.Subflows[0].FullyEstablished = true, 0, false
		astray := single(0x20, "10.1.2.2:40003", "192.0.2.1:443")
		lost := single(0x30, "10.1.1.2:40004", "203.0.113.7:443")
		lost.Subflows[0].State = mptcp.StateSynSent
		inner := single(0x40, "127.0.0.1:40005", "127.0.0.1:8080")
		long := single(0x50, "[2001:db8:1::2]:40006", "[2001:db8:9:1234:5678:9abc:def0:1]:443")
		long.Subflows[0].BackupRemote = true
		none := single(0x60, "10.1.1.2:40007", "192.0.2.9:443")
		none.Subflows = nil
		closing := single(0x70, "10.1.1.2:40008", "192.0.2.1:443")
		closing.State, closing.Subflows[0].State = mptcp.StateFinWait2, mptcp.StateFinWait2
		unconfirmed := single(0x80, "10.1.1.2:40009", "192.0.2.1:443")
		unconfirmed.Subflows[0].FullyEstablished, unconfirmed.Subflows[0].JoinLocal = false, true
		return Document(host(0, fallback, astray, lost, inner, long, none, closing, unconfirmed), nil)
	},
}

func TestDocuments(t *testing.T) {
	for name, make := range situations {
		t.Run(name, func(t *testing.T) {
			found, err := json.MarshalIndent(make(), "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", "connections", name+".json")
			if *update {
				if err := os.WriteFile(file, append(found, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), string(found)+"\n"); d != "" {
				t.Errorf("%s (- wanted, + found; -update writes it)\n%s", file, d)
			}
		})
	}
}

// TestRatesOfWhatIsNew: what is younger than the first look has no rate, and a
// counter that fell began anew.
func TestRatesOfWhatIsNew(t *testing.T) {
	before, now := host(0, download(5)), host(1, download(1), single(99, "10.1.1.2:1", "192.0.2.1:2"))
	d := Document(now, before)
	for _, c := range d.Connections {
		switch {
		case c.Token == Token(99) && (c.Rate != nil || c.Subflows[0].Rate != nil):
			t.Errorf("%+v", c)
		case c.Token != Token(99) && (c.Rate == nil || *c.Rate != status.Rate{}):
			t.Errorf("rate %+v", c.Rate)
		}
	}
	if d := Document(before, before); d.IntervalSeconds != 0 || d.Connections[0].Rate != nil {
		t.Error("two looks at one time have rates")
	}
}

func TestPathTraffic(t *testing.T) {
	fallback := single(0x10, "10.1.1.2:40002", "192.0.2.1:25")
	fallback.Fallback = true
	found := host(0, download(1), single(0x20, "10.1.1.2:5", "192.0.2.1:443"), fallback).byPath()
	want := map[pathKey]load{
		{2, status.IPv4}: {moved{28_512, 5_000_000}, 2, 2},
		{3, status.IPv4}: {moved{2000, 1_000_000}, 1, 1},
	}
	if d := cmp.Diff(want, found, cmp.AllowUnexported(load{}, moved{}, pathKey{})); d != "" {
		t.Error(d)
	}
}

func TestWords(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 B", 999: "999 B", 1000: "1.00 kB", 1234: "1.23 kB", 9994: "9.99 kB", 9996: "10.0 kB", 99_940: "99.9 kB", 99_960: "100 kB",
		999_499: "999 kB", 999_600: "1.00 MB", 12_400_000_000: "12.4 GB", 1<<64 - 1: "18.4 EB",
	} {
		if found := Bytes(n); found != want {
			t.Errorf("%d: %q, want %q", n, found, want)
		}
	}
	for n, want := range map[uint64]string{0: "0 bit/s", 1: "8 bit/s", 125: "1.00 kbit/s", 1 << 62: "36.9 Ebit/s"} {
		if found := BitRate(n); found != want {
			t.Errorf("%d: %q, want %q", n, found, want)
		}
	}
	for d, want := range map[time.Duration]string{84 * time.Microsecond: "84 us", 1234 * time.Microsecond: "1.23 ms", 34500 * time.Microsecond: "34.5 ms", 1200 * time.Millisecond: "1.2 s"} {
		if found := Short(d); found != want {
			t.Errorf("%v: %q, want %q", d, found, want)
		}
	}
	if Token(0x1a) != "0000001a" || Token(0xffffffff) != "ffffffff" || Token(0) != "00000000" {
		t.Error("tokens")
	}
}
