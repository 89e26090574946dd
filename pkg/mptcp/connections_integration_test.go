package mptcp

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// twoPaths gives a connection over loopback from 127.0.0.2 to 127.0.0.1, with another subflow from 10.0.0.1.
func twoPaths(t testing.TB) *pair {
	t.Helper()
	ip(t, "addr", "add", "10.0.0.1/24", "dev", "lo")
	ip(t, "mptcp", "limits", "set", "subflows", "4", "add_addr_accepted", "4")
	ip(t, "mptcp", "endpoint", "add", "10.0.0.1", "subflow")
	l, at := listen(t, "127.0.0.1:0")
	return connect(t, l, at, "127.0.0.2")
}

// connectionOf finds the connection of a socket by its local address.
func connectionOf(t testing.TB, c *Client, fd int) Connection {
	t.Helper()
	list, err := c.Connections(ConnectionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	at := sockName(t, fd)
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(list, func(x Connection) bool { return x.Local == at && uint64(x.Inode) == stat.Ino })
	if i < 0 {
		t.Fatalf("no connection with %v and inode %d in %+v", at, stat.Ino, list)
	}
	return list[i]
}

func withSubflows(t testing.TB, c *Client, fd, n int) Connection {
	t.Helper()
	var got Connection
	eventually(t, "subflows", func() bool {
		got = connectionOf(t, c, fd)
		established := 0
		for _, f := range got.Subflows {
			if f.State == StateEstablished && f.FullyEstablished {
				established++
			}
		}
		return established == n && len(got.Subflows) == n
	})
	return got
}

func subflowFrom(t testing.TB, x Connection, a string) Subflow {
	t.Helper()
	i := slices.IndexFunc(x.Subflows, func(f Subflow) bool { return f.Local.Addr() == addr(a) })
	if i < 0 {
		t.Fatalf("no subflow from %s in %+v", a, x.Subflows)
	}
	return x.Subflows[i]
}

func TestConnectionWithTwoSubflows(t *testing.T) {
	newNamespace(t)
	c := dial(t)
	if list, err := c.Connections(ConnectionOptions{}); err != nil || len(list) != 0 {
		t.Fatalf("empty namespace: got %v, %v", list, err)
	}
	p := twoPaths(t)
	client, server := withSubflows(t, c, p.client, 2), withSubflows(t, c, p.server, 2)

	if client.State != StateEstablished || client.Fallback || client.Token == 0 || client.Token == server.Token ||
		client.Remote != server.Local || client.Flags&ConnectionRemoteKey == 0 || client.ExtraSubflows != 1 ||
		client.SubflowsMax != 4 || client.UID != uint32(unix.Getuid()) || client.Cookie == 0 || client.Family != unix.AF_INET {
		t.Errorf("client: %+v", client)
	}
	first, join := subflowFrom(t, client, "127.0.0.2"), subflowFrom(t, client, "10.0.0.1")
	if first.JoinLocal || first.JoinRemote || first.LocalID != 0 || first.Token != client.Token || first.Cookie == 0 {
		t.Errorf("first subflow: %+v", first)
	}
	if !join.JoinLocal || !join.JoinRemote || join.LocalID != 1 || join.RemoteToken != server.Token || join.Token != client.Token {
		t.Errorf("join: %+v", join)
	}
	if first.Cwnd == 0 || first.MSS == 0 || first.RTT == 0 || first.BytesReceived == 0 || first.CAState != CAOpen {
		t.Errorf("tcp_info of the first subflow: %+v", first)
	}
	accepted := server.Subflows[slices.IndexFunc(server.Subflows, func(f Subflow) bool { return f.RemoteID == 1 })]
	if accepted.JoinLocal || !accepted.JoinRemote || accepted.Remote != join.Local {
		t.Errorf("accepted join: %+v", accepted)
	}

	from, err := c.SubflowsFrom(addr("10.0.0.1"))
	if err != nil || len(from) != 1 || from[0].Cookie != join.Cookie {
		t.Errorf("subflows from 10.0.0.1: %+v, %v", from, err)
	}
	if from, err := c.SubflowsFrom(addr("10.0.0.9")); err != nil || len(from) != 0 {
		t.Errorf("subflows from 10.0.0.9: %+v, %v", from, err)
	}
	counts, err := c.ConnectionCounts()
	if want := (Counts{Connections: 2, Subflows: 4}); err != nil || counts != want {
		t.Errorf("counts: got %+v, %v, want %+v", counts, err, want)
	}
	plain, err := c.Connections(ConnectionOptions{NoSubflows: true})
	if err != nil || len(plain) != 2 || plain[0].Subflows != nil {
		t.Errorf("without subflows: %+v, %v", plain, err)
	}
	some, err := c.Connections(ConnectionOptions{States: States(StateSynSent, StateLastAck)})
	if err != nil || len(some) != 0 {
		t.Errorf("other states: %+v, %v", some, err)
	}
}

func TestBackupShows(t *testing.T) {
	newNamespace(t)
	c := dial(t)
	p := twoPaths(t)
	withSubflows(t, c, p.client, 2)
	if err := c.SetFlags(Endpoint{ID: 1, Addr: addr("10.0.0.1")}, FlagBackup); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the backup flag at both ends", func() bool {
		client := subflowFrom(t, connectionOf(t, c, p.client), "10.0.0.1")
		remote := slices.ContainsFunc(connectionOf(t, c, p.server).Subflows, func(f Subflow) bool {
			return f.Remote == client.Local && f.BackupRemote
		})
		return client.BackupLocal && remote
	})
}

// TestMappedAddresses: an IPv6 socket with an IPv4 connection has its first subflow in the IPv6 dump, its join in
// the IPv4 one.
func TestMappedAddresses(t *testing.T) {
	newNamespace(t)
	c := dial(t)
	ip(t, "addr", "add", "10.0.0.1/24", "dev", "lo")
	ip(t, "mptcp", "endpoint", "add", "10.0.0.1", "subflow")
	l, at := listen(t, "[::ffff:127.0.0.1]:0")
	p := connect(t, l, at, "")
	x := withSubflows(t, c, p.client, 2)
	if x.Family != unix.AF_INET6 || x.Local.Addr() != addr("127.0.0.1") {
		t.Errorf("connection: %+v", x)
	}
	first := subflowFrom(t, x, "127.0.0.1")
	from, err := c.SubflowsFrom(addr("127.0.0.1"))
	if err != nil || !slices.ContainsFunc(from, func(f Subflow) bool { return f.Cookie == first.Cookie }) {
		t.Errorf("subflows from 127.0.0.1: %+v, %v", from, err)
	}
	if err := c.DestroySubflow(first); err != nil {
		t.Error(err)
	}
	left := withSubflows(t, c, p.client, 1)
	subflowFrom(t, left, "10.0.0.1")
	p.exchange(t)
}

func TestIPv6Connection(t *testing.T) {
	newNamespace(t)
	c := dial(t)
	ip(t, "addr", "add", "2001:db8::1/64", "dev", "lo", "nodad")
	ip(t, "mptcp", "endpoint", "add", "2001:db8::1", "dev", "lo", "subflow")
	l, at := listen(t, "[::1]:0")
	p := connect(t, l, at, "")
	x := withSubflows(t, c, p.client, 2)
	join := subflowFrom(t, x, "2001:db8::1")
	if join.IfIndex != 1 || join.Family != unix.AF_INET6 {
		t.Errorf("join: %+v", join)
	}
	if err := c.DestroySubflow(join); err != nil {
		t.Error(err)
	}
	subflowFrom(t, withSubflows(t, c, p.client, 1), "::1")
}

func TestDestroySubflowCutsNothingElse(t *testing.T) {
	newNamespace(t)
	c := dial(t)
	p := twoPaths(t)
	x := withSubflows(t, c, p.client, 2)
	join := subflowFrom(t, x, "10.0.0.1")

	wrong := join
	wrong.Cookie++
	if err := c.DestroySubflow(wrong); err == nil {
		t.Error("another cookie: no error")
	}
	if err := c.DestroySubflow(Subflow{}); !errors.Is(err, unix.EINVAL) {
		t.Errorf("no subflow: got %v, want EINVAL", err)
	}
	withSubflows(t, c, p.client, 2)

	if err := c.DestroySubflow(join); err != nil {
		t.Fatal(err)
	}
	left := withSubflows(t, c, p.client, 1)
	if subflowFrom(t, left, "127.0.0.2").Cookie != subflowFrom(t, x, "127.0.0.2").Cookie {
		t.Error("the first subflow is another one")
	}
	p.exchange(t)
	if err := c.DestroySubflow(join); !errors.Is(err, ErrAbsent) {
		t.Errorf("again: got %v, want ErrAbsent", err)
	}
	if got, err := c.Endpoints(); err != nil || len(got) != 1 {
		t.Errorf("endpoints: %v, %v", got, err)
	}
}

func TestFallbackShows(t *testing.T) {
	newNamespace(t)
	c := dial(t)
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		t.Fatal(err)
	}
	closeOnCleanup(t, l)
	if err := errors.Join(unix.Bind(l, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(l, 8)); err != nil {
		t.Fatal(err)
	}
	p := connect(t, l, sockName(t, l), "")
	x := connectionOf(t, c, p.client)
	if !x.Fallback || x.Flags&ConnectionFallback == 0 {
		t.Errorf("connection to a TCP server: %+v", x)
	}
	counts, err := c.ConnectionCounts()
	if err != nil || counts.Connections != 1 || counts.Fallback != 1 {
		t.Errorf("counts: %+v, %v", counts, err)
	}
}

func TestCloseInitialSubflows(t *testing.T) {
	newNamespace(t)
	c := dial(t)
	p := twoPaths(t)
	withSubflows(t, c, p.client, 2)
	if err := c.CloseInitialSubflows(addr("127.0.0.2")); err != nil {
		t.Fatal(err)
	}
	subflowFrom(t, withSubflows(t, c, p.client, 1), "10.0.0.1")
	if got, err := c.Endpoints(); err != nil || len(got) != 1 {
		t.Errorf("endpoints: %v, %v", got, err)
	}
}

func TestCounters(t *testing.T) {
	newNamespace(t)
	c := dial(t)
	before, err := ReadCounters()
	if err != nil {
		t.Fatal(err)
	}
	p := twoPaths(t)
	withSubflows(t, c, p.client, 2)
	after, err := ReadCounters()
	if err != nil {
		t.Fatal(err)
	}
	d := after.Sub(before)
	if d["MPCapableSYNTX"] != 1 || d["MPJoinSynRx"] != 1 || d["MPCapableSYNRX"] != 1 {
		t.Errorf("counters after one connection with a join: %v", d)
	}
}

func BenchmarkConnections(b *testing.B) {
	newNamespace(b)
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		b.Fatal(err)
	}
	files.Cur = files.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		b.Fatal(err)
	}
	ip(b, "addr", "add", "10.0.0.1/24", "dev", "lo")
	ip(b, "mptcp", "endpoint", "add", "10.0.0.1", "subflow")
	l, at := listen(b, "127.0.0.1:0")
	for range 2500 {
		connect(b, l, at, "")
	}
	c := dial(b)
	for name, read := range map[string]func() error{
		"all":        func() error { _, err := c.Connections(ConnectionOptions{}); return err },
		"nosubflows": func() error { _, err := c.Connections(ConnectionOptions{NoSubflows: true}); return err },
		"from":       func() error { _, err := c.SubflowsFrom(addr("10.0.0.1")); return err },
		"from-none":  func() error { _, err := c.SubflowsFrom(addr("10.0.0.9")); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := read(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
