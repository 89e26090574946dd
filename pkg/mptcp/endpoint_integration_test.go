package mptcp

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// linkName resolves names in the namespace of the calling thread.
func linkName(ifindex int) string {
	i, err := net.InterfaceByIndex(ifindex)
	if err != nil {
		return ""
	}
	return i.Name
}

// shownByIP is what `ip mptcp endpoint` lists, one line for each endpoint, sorted.
func shownByIP(t *testing.T) []string {
	t.Helper()
	var lines []string
	for line := range strings.Lines(ip(t, "mptcp", "endpoint")) {
		lines = append(lines, strings.TrimSpace(line))
	}
	slices.Sort(lines)
	return lines
}

func shownByUs(t *testing.T, c *Client) []string {
	t.Helper()
	list, err := c.Endpoints()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, e := range list {
		lines = append(lines, e.Format(linkName))
	}
	slices.Sort(lines)
	return lines
}

func sameAsIP(t *testing.T, c *Client) {
	t.Helper()
	want, got := shownByIP(t), shownByUs(t, c)
	if !slices.Equal(got, want) {
		t.Errorf("ip mptcp endpoint:\n%s\nFormat:\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
	}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestEndpointsAgreeWithIP(t *testing.T) {
	newNamespace(t)
	c := dial(t)
	ip(t, "link", "add", "wan0", "type", "veth", "peer", "name", "peer0")
	wan, err := net.InterfaceByName("wan0")
	if err != nil {
		t.Fatal(err)
	}
	dev := int32(wan.Index)

	for _, e := range []Endpoint{
		{Addr: addr("10.1.1.2"), Flags: FlagSubflow, IfIndex: dev},
		{Addr: addr("10.1.1.3"), Flags: FlagSubflow | FlagBackup | FlagFullmesh},
		{ID: 200, Addr: addr("2001:db8::2"), Flags: FlagSignal},
		{Addr: addr("2001:db8::3"), Flags: FlagSignal | FlagSubflow | FlagBackup, IfIndex: dev},
		{Addr: addr("10.1.1.4")},
		{Addr: addr("10.1.1.5"), Flags: FlagSubflow, IfIndex: 999},
	} {
		if err := c.AddEndpoint(e); err != nil {
			t.Errorf("%v", err)
		}
	}
	sameAsIP(t, c)

	ip(t, "mptcp", "endpoint", "add", "10.1.1.6", "dev", "wan0", "id", "7", "signal")
	ip(t, "mptcp", "endpoint", "delete", "id", "1")
	sameAsIP(t, c)

	got, err := c.Endpoint(7)
	want := Endpoint{ID: 7, Addr: addr("10.1.1.6"), Flags: FlagSignal, IfIndex: dev}
	if err != nil || got != want {
		t.Errorf("endpoint 7: got %v, %v, want %v", got, err, want)
	}
	if err := c.FlushEndpoints(); err != nil {
		t.Error(err)
	}
	if left := shownByIP(t); len(left) != 0 {
		t.Errorf("left after a flush: %q", left)
	}
}

func TestEndpointWithPort(t *testing.T) {
	newNamespace(t)
	c := dial(t)
	if err := c.AddEndpoint(Endpoint{Addr: addr("127.0.0.1"), Port: 4711, Flags: FlagSignal}); err != nil {
		t.Fatal(err)
	}
	sameAsIP(t, c)
	err := c.AddEndpoint(Endpoint{Addr: addr("127.0.0.1"), Port: 4712, Flags: FlagSubflow})
	if !errors.Is(err, unix.EINVAL) {
		t.Errorf("port without signal: got %v, want EINVAL", err)
	}
}

func TestIDRules(t *testing.T) {
	newNamespace(t)
	c := dial(t)
	for _, e := range []Endpoint{
		{Addr: addr("10.0.0.1")},
		{ID: 200, Addr: addr("10.0.0.2")},
		{Addr: addr("10.0.0.3")},
	} {
		if err := c.AddEndpoint(e); err != nil {
			t.Fatal(err)
		}
	}
	list, err := c.Endpoints()
	if err != nil {
		t.Fatal(err)
	}
	var ids []uint8
	for _, e := range list {
		ids = append(ids, e.ID)
	}
	if want := []uint8{1, 200, 201}; !slices.Equal(ids, want) {
		t.Errorf("ids: got %v, want %v", ids, want)
	}
}

// TestSentinels draws each error from the real kernel.
func TestSentinels(t *testing.T) {
	newNamespace(t)
	c := dial(t)
	full := func() error {
		for i := range 256 {
			a := netip.AddrFrom4([4]byte{10, 9, 0, byte(i)})
			if err := c.AddEndpoint(Endpoint{Addr: a}); err != nil {
				return err
			}
		}
		return nil
	}
	if err := c.AddEndpoint(Endpoint{ID: 5, Addr: addr("10.0.0.1"), Flags: FlagSignal}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		do    func() error
		want  error
		errno unix.Errno
	}{
		{"same address", func() error { return c.AddEndpoint(Endpoint{Addr: addr("10.0.0.1")}) }, ErrExist, unix.EEXIST},
		{"mapped form", func() error { return c.AddEndpoint(Endpoint{Addr: addr("::ffff:10.0.0.1")}) }, ErrExist, unix.EEXIST},
		{"id in use", func() error { return c.AddEndpoint(Endpoint{ID: 5, Addr: addr("10.0.0.2")}) }, ErrBusy, unix.EBUSY},
		{"signal and fullmesh", func() error {
			return c.AddEndpoint(Endpoint{Addr: addr("10.0.0.3"), Flags: FlagSignal | FlagFullmesh})
		}, nil, unix.EINVAL},
		{"no address", func() error { return c.AddEndpoint(Endpoint{}) }, nil, unix.EINVAL},
		{"get", func() error { _, err := c.Endpoint(9); return err }, ErrAbsent, unix.EINVAL},
		{"delete", func() error { return c.DeleteEndpoint(Endpoint{ID: 9}) }, ErrAbsent, unix.EINVAL},
		{"delete without id", func() error { return c.DeleteEndpoint(Endpoint{Addr: addr("10.0.0.1")}) }, ErrNoID, 0},
		{"flags by id", func() error { return c.SetFlags(Endpoint{ID: 9}, 0) }, ErrAbsent, unix.EINVAL},
		{"flags by address", func() error { return c.SetFlags(Endpoint{Addr: addr("10.0.0.9")}, 0) }, ErrAbsent, unix.EINVAL},
		{"flags of nothing", func() error { return c.SetFlags(Endpoint{}, 0) }, ErrNoID, 0},
		{"limits", func() error { return c.SetLimits(Limits{Subflows: 1000}) }, nil, unix.EINVAL},
		{"close nothing", func() error { return c.CloseInitialSubflows(netip.Addr{}) }, nil, unix.EINVAL},
		{"full", full, ErrFull, unix.ERANGE},
	} {
		t.Run(tc.name, func(t *testing.T) {
			// A subtest has a goroutine of its own; the client's sockets know their namespace.
			err := tc.do()
			if err == nil {
				t.Fatal("no error")
			}
			if tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("%v: not %v", err, tc.want)
			}
			// Older kernels (6.1) have EINVAL for all.
			if tc.errno != 0 && !errors.Is(err, tc.errno) && !errors.Is(err, unix.EINVAL) {
				t.Errorf("%v: not errno %d", err, tc.errno)
			}
			for _, other := range []error{ErrExist, ErrBusy, ErrFull, ErrAbsent, ErrUnsupported, ErrPermission, ErrNoID} {
				if other != tc.want && errors.Is(err, other) {
					t.Errorf("%v: also %v", err, other)
				}
			}
		})
	}
	var e *Error
	if err := c.SetLimits(Limits{Subflows: 1000}); !errors.As(err, &e) || !strings.Contains(e.Msg, "limit") {
		t.Errorf("no text in %+v", e)
	}
}

func TestSetFlags(t *testing.T) {
	newNamespace(t)
	c := dial(t)
	if err := c.AddEndpoint(Endpoint{ID: 3, Addr: addr("10.0.0.1"), Flags: FlagSubflow | FlagFullmesh}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		e    Endpoint
		set  Flags
		want Flags
	}{
		{Endpoint{ID: 3}, FlagBackup | FlagFullmesh, FlagSubflow | FlagBackup | FlagFullmesh},
		{Endpoint{ID: 3}, FlagBackup, FlagSubflow | FlagBackup},
		{Endpoint{Addr: addr("10.0.0.1")}, 0, FlagSubflow},
		{Endpoint{ID: 3, Addr: addr("10.0.0.1")}, FlagFullmesh, FlagSubflow | FlagFullmesh},
		// The address wins over the id.
		{Endpoint{ID: 99, Addr: addr("10.0.0.1")}, FlagBackup | FlagSignal, FlagSubflow | FlagBackup},
	} {
		if err := c.SetFlags(step.e, step.set); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Endpoint(3); err != nil || got.Flags != step.want {
			t.Errorf("after SetFlags(%v, %v): got %v, %v, want %v", step.e, step.set, got.Flags, err, step.want)
		}
		sameAsIP(t, c)
	}
}

func TestLimits(t *testing.T) {
	newNamespace(t)
	c := dial(t)
	want := Limits{Subflows: 5, AddAddrAccepted: 3}
	if err := c.SetLimits(want); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Limits(); err != nil || got != want {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if got := strings.TrimSpace(ip(t, "mptcp", "limits")); got != want.String() {
		t.Errorf("ip mptcp limits: %q, String: %q", got, want)
	}
}

func TestProbeChangesNothing(t *testing.T) {
	newNamespace(t)
	c := dial(t)
	ip(t, "mptcp", "limits", "set", "subflows", "3", "add_addr_accepted", "1")
	ip(t, "mptcp", "endpoint", "add", "10.0.0.1", "id", "1", "subflow", "backup", "fullmesh")
	before := ip(t, "mptcp", "limits") + ip(t, "mptcp", "endpoint") + ip(t, "-s", "link")
	f, err := Probe(c)
	if err != nil {
		t.Fatal(err)
	}
	if after := ip(t, "mptcp", "limits") + ip(t, "mptcp", "endpoint") + ip(t, "-s", "link"); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if f.SetFlagsByID != Yes || f.Events != Yes || f.Fullmesh != Yes || f.UserspacePM == Unknown {
		t.Errorf("features of a current kernel: %+v", f)
	}
	// The maximum is the highest value that works, whatever this kernel's is.
	if err := c.SetLimits(Limits{f.MaxLimit, f.MaxLimit}); err != nil {
		t.Errorf("maximum %d: %v", f.MaxLimit, err)
	}
	if !f.MaxProbed && kernelAtLeast(t, 6, 18) {
		t.Errorf("the maximum was not found: %+v", f)
	}
	if err := c.SetLimits(Limits{f.MaxLimit + 1, 0}); !errors.Is(err, unix.EINVAL) {
		t.Errorf("maximum %d and one: got %v, want EINVAL", f.MaxLimit, err)
	}
	for i := 1; i < f.MaxEndpoints; i++ {
		if err := c.AddEndpoint(Endpoint{Addr: netip.AddrFrom4([4]byte{10, 0, 1, byte(i)})}); err != nil {
			t.Fatalf("endpoint %d of %d: %v", i+1, f.MaxEndpoints, err)
		}
	}
	if err := c.AddEndpoint(Endpoint{Addr: addr("10.0.2.1")}); !errors.Is(err, ErrFull) {
		t.Errorf("endpoint %d of %d: got %v, want ErrFull", f.MaxEndpoints+1, f.MaxEndpoints, err)
	}
	// The flag itself tells what the probe must have found.
	if err := c.DeleteEndpoint(Endpoint{ID: 1}); err != nil {
		t.Fatal(err)
	}
	if err := c.AddEndpoint(Endpoint{ID: 1, Addr: addr("10.0.0.1"), Flags: FlagLaminar}); err != nil {
		t.Fatal(err)
	}
	e, err := c.Endpoint(1)
	if err != nil {
		t.Fatal(err)
	}
	if want := supportOf(e.Flags&FlagLaminar != 0); f.Laminar != want && f.Laminar != Unknown {
		t.Errorf("laminar: probed %v, tried %v", f.Laminar, want)
	}
}

func TestWithoutPrivilege(t *testing.T) {
	newNamespace(t)
	ip(t, "mptcp", "endpoint", "add", "10.0.0.1", "subflow")
	l, at := listen(t, "127.0.0.1:0")
	connect(t, l, at, "")
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	// The thread ends with the test, and its lack of capabilities with it.
	if err := unix.Capset(&hdr, &none[0]); err != nil {
		t.Fatal(err)
	}
	c := dial(t)
	f, err := Probe(c)
	if !errors.Is(err, ErrPermission) || !errors.Is(err, unix.EPERM) {
		t.Errorf("probe: got %v, want ErrPermission", err)
	}
	if f.MaxLimit != fallbackMaximum || f.MaxProbed || f.Events != Yes || f.UserspacePM == Unknown {
		t.Errorf("features: %+v", f)
	}
	e := Endpoint{ID: 1, Addr: addr("10.0.0.1")}
	for name, err := range map[string]error{
		"add":    c.AddEndpoint(Endpoint{Addr: addr("10.0.0.2")}),
		"delete": c.DeleteEndpoint(e),
		"flags":  c.SetFlags(e, 0),
		"flush":  c.FlushEndpoints(),
		"limits": c.SetLimits(Limits{}),
		"close":  c.CloseInitialSubflows(e.Addr),
	} {
		if !errors.Is(err, ErrPermission) {
			t.Errorf("%s: got %v, want ErrPermission", name, err)
		}
	}
	if s, err := c.SubscribeEvents(); !errors.Is(err, ErrPermission) {
		t.Errorf("events: got %v, %v, want ErrPermission", s, err)
	}
	list, err := c.Connections(ConnectionOptions{})
	if len(list) != 2 || (err != nil && !errors.Is(err, ErrPermission)) {
		t.Errorf("connections: got %d, %v", len(list), err)
	}
	if err == nil && len(list[0].Subflows) == 0 {
		t.Error("hidden subflows without ErrPermission")
	}
	if err == nil {
		if err := c.DestroySubflow(list[0].Subflows[0]); !errors.Is(err, ErrPermission) {
			t.Errorf("destroy: got %v, want ErrPermission", err)
		}
	}
}

func TestClosedClient(t *testing.T) {
	c, err := Dial()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Endpoints(); !errors.Is(err, ErrClosed) {
		t.Errorf("endpoints: got %v, want ErrClosed", err)
	}
	if _, err := c.Connections(ConnectionOptions{}); !errors.Is(err, ErrClosed) {
		t.Errorf("connections: got %v, want ErrClosed", err)
	}
	if err := c.SetLimits(Limits{}); !errors.Is(err, ErrClosed) {
		t.Errorf("limits: got %v, want ErrClosed", err)
	}
}

// TestImplicitEndpoint: the kernel makes one for a subflow from an address that is no endpoint, once the peer has
// announced itself; adding it replaces it, asking for an id does not.
func TestImplicitEndpoint(t *testing.T) {
	newNamespace(t)
	c := dial(t)
	ip(t, "mptcp", "limits", "set", "subflows", "4", "add_addr_accepted", "4")
	ip(t, "mptcp", "endpoint", "add", "127.0.0.3", "signal")
	l, at := listen(t, "0.0.0.0:0")
	p := connect(t, l, netip.AddrPortFrom(addr("127.0.0.1"), at.Port()), "127.0.0.2")
	var implicit Endpoint
	eventually(t, "an implicit endpoint", func() bool {
		p.exchange(t)
		list, err := c.Endpoints()
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(list, func(e Endpoint) bool { return e.Flags&FlagImplicit != 0 })
		if i >= 0 {
			implicit = list[i]
		}
		return i >= 0
	})
	err := c.AddEndpoint(Endpoint{ID: 99, Addr: implicit.Addr, Flags: FlagSubflow})
	if !errors.Is(err, unix.EINVAL) || errors.Is(err, ErrExist) || errors.Is(err, ErrFull) || errors.Is(err, ErrBusy) {
		t.Errorf("with an id: got %v, want EINVAL", err)
	}
	if err := c.AddEndpoint(Endpoint{Addr: implicit.Addr, Flags: FlagSubflow}); err != nil {
		t.Error(err)
	}
	want := Endpoint{ID: implicit.ID, Addr: implicit.Addr, Flags: FlagSubflow}
	if got, err := c.Endpoint(implicit.ID); err != nil || got != want {
		t.Errorf("replaced: got %v, %v, want %v", got, err, want)
	}
}
