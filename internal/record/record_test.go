package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
)

const (
	boot   = "6b0cf6a5-4f6f-4e9c-a27a-0c4c5bd1a0a5"
	cookie = uint64(1) << 60
)

var sameAddr = cmp.Comparer(func(x, y netip.Addr) bool { return x == y })

func ep(addr string, link int, id uint8) netstate.Endpoint {
	return netstate.Endpoint{Addr: netip.MustParseAddr(addr), Link: link, ID: id, Flags: netstate.SubflowFlag}
}

func mustOpen(t testing.TB, dir string) *Store {
	t.Helper()
	s, own, err := Open(dir, boot, cookie)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(own, s.Owned(), sameAddr); d != "" {
		t.Fatalf("what Open returns is not what the store says:\n%s", d)
	}
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestProtocols(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	must(t, s.SetProtocols(90, 77, 90))
	if got := mustOpen(t, dir).Owned().Protocols; !cmp.Equal(got, []uint8{77, 90}) {
		t.Errorf("found %v", got)
	}
	must(t, s.SetProtocols(90))
	if got := mustOpen(t, dir).Owned().Protocols; !cmp.Equal(got, []uint8{90}) {
		t.Errorf("found %v", got)
	}
	for _, bad := range []string{"[300]", "[-1]", "[2]", "[255]", `["77"]`} {
		b, err := os.ReadFile(filepath.Join(dir, FileName))
		must(t, err)
		other := t.TempDir()
		must(t, os.WriteFile(filepath.Join(other, FileName), []byte(strings.Replace(string(b), "[90]", bad, 1)), 0o600))
		if _, own, err := Open(other, boot, cookie); err == nil || own.Known {
			t.Errorf("%s is taken: %+v", bad, own)
		}
	}
}

func TestLifeOfARecord(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "late")
	s := mustOpen(t, dir)
	if s.Owned().Known {
		t.Fatal("a record that was never written is known")
	}
	before := s.Owned()
	must(t, s.Announce(ep("10.1.1.2", 2, 0), ep("2001:db8::2", 3, 0)))
	must(t, s.SetLimits(netstate.Limits{Subflows: 2}, netstate.Limits{Subflows: 4, AddAddrAccepted: 4}))
	must(t, s.Settle(ep("10.1.1.2", 2, 7)))
	must(t, s.SetLimits(netstate.Limits{Subflows: 4, AddAddrAccepted: 4}, netstate.Limits{Subflows: 8}))
	must(t, s.Announce(ep("10.1.3.2", 4, 0)))
	must(t, s.Forget(ep("10.1.3.2", 4, 9), ep("10.9.9.9", 1, 1)))
	if before.Known || before.Endpoints != nil {
		t.Error("an ownership that was handed out changed")
	}
	want := netstate.Ownership{
		Known: true,
		Endpoints: map[netip.Addr]netstate.Endpoint{
			netip.MustParseAddr("10.1.1.2"):    {Addr: netip.MustParseAddr("10.1.1.2"), Link: 2, ID: 7},
			netip.MustParseAddr("2001:db8::2"): {Addr: netip.MustParseAddr("2001:db8::2"), Link: 3},
		},
		LimitsFound: &netstate.Limits{Subflows: 2},
		LimitsSet:   &netstate.Limits{Subflows: 8},
		// A kill may leave these.
		LimitsBefore: &netstate.Limits{Subflows: 4, AddAddrAccepted: 4},
	}
	for what, found := range map[string]netstate.Ownership{"in memory": s.Owned(), "on disk": mustOpen(t, dir).Owned()} {
		if d := cmp.Diff(want, found, sameAddr); d != "" {
			t.Errorf("%s (-wanted +found):\n%s", what, d)
		}
	}
	if !s.Owned().OwnsEndpoint(ep("2001:db8::2", 3, 5)) || s.Owned().OwnsEndpoint(ep("10.1.1.2", 2, 8)) {
		t.Error("an announced endpoint is ours under any id, a settled one under its own")
	}
	must(t, s.Remove())
	must(t, s.Remove())
	if s.Owned().Known || mustOpen(t, dir).Owned().Known {
		t.Error("the record is known after its removal")
	}
}

func TestUnchangedIsNotWritten(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	must(t, s.Settle(ep("10.1.1.2", 2, 7)))
	ino := func() uint64 {
		var st unix.Stat_t
		must(t, unix.Stat(filepath.Join(dir, FileName), &st))
		return st.Ino
	}
	first := ino()
	must(t, s.Settle(ep("10.1.1.2", 2, 7)))
	must(t, s.Forget(ep("10.1.1.9", 2, 7)))
	must(t, mustOpen(t, dir).Settle(ep("10.1.1.2", 2, 7)))
	if ino() != first {
		t.Error("the file was replaced by an equal one")
	}
	must(t, s.Announce(ep("10.1.1.3", 2, 0)))
	if ino() == first {
		t.Error("the file was written in place")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
		t.Errorf("left over: %v", left)
	}
}

func TestWhatCannotBeUsed(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	must(t, s.Settle(ep("10.1.1.2", 2, 7)))
	path := filepath.Join(dir, FileName)
	good, err := os.ReadFile(path)
	must(t, err)
	text := string(good)
	for _, c := range []struct{ name, content, problem string }{
		{"empty", "", "cut short or damaged"},
		{"not an object", "[]", "cut short or damaged"},
		{"cut short", text[:len(text)/2], "cut short or damaged"},
		{"no version", "{}", "cut short or damaged"},
		{"two records", text + text, "cut short or damaged"},
		{"a later version that looks different", `{"version":2,"boot_id":"x","namespace":"1","endpoints":{"a":1}}`, "has version 2"},
		{"not an address", strings.Replace(text, "10.1.1.2", "eth0", 1), "cut short or damaged"},
		{"a mapped address", strings.Replace(text, "10.1.1.2", "::ffff:10.1.1.2", 1), "makes no sense"},
		{"no id", strings.Replace(text, `"id":7`, `"id":0`, 1), "makes no sense"},
		{"an id out of range", strings.Replace(text, `"id":7`, `"id":256`, 1), "cut short or damaged"},
		{"too large", text + strings.Repeat(" ", maxSize), "too large"},
		{"another boot", strings.Replace(text, boot, "other", 1), ""},
		{"another boot, another layout", `{"version":1,"boot_id":"x","namespace":"1","endpoints":{"a":1}}`, ""},
		{"another namespace", strings.Replace(text, "1152921504606846976", "17", 1), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			must(t, os.WriteFile(path, []byte(c.content), 0o644))
			s, own, err := Open(dir, boot, cookie)
			if own.Known || len(own.Endpoints) > 0 || own.LimitsFound != nil {
				t.Errorf("found %+v", own)
			}
			switch {
			case c.problem == "" && err != nil:
				t.Errorf("problem: %v", err)
			case c.problem != "" && (err == nil || !strings.Contains(err.Error(), c.problem) || !strings.Contains(err.Error(), path)):
				t.Errorf("wanted a problem with %q, found %v", c.problem, err)
			}
			must(t, s.Settle(ep("10.1.1.2", 2, 7)))
			if after, _ := os.ReadFile(path); string(after) != text {
				t.Errorf("written: %s", after)
			}
		})
	}
}

// A disk that takes nothing costs the memory of a restart and nothing else.
func TestDiskThatTakesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	must(t, os.WriteFile(dir, nil, 0o644)) // a file in the directory's place
	s, _, err := Open(dir, boot, cookie)
	if err == nil {
		t.Error("no problem with a file in the directory's place")
	}
	err = s.Settle(ep("10.1.1.2", 2, 7))
	if !errors.Is(err, unix.ENOTDIR) || !strings.Contains(err.Error(), filepath.Join(dir, FileName)) || !strings.Contains(err.Error(), "after a restart") {
		t.Errorf("error: %v", err)
	}
	if !s.Owned().Known || !s.Owned().OwnsEndpoint(ep("10.1.1.2", 2, 7)) {
		t.Error("the ownership is not held in memory")
	}
	must(t, os.Remove(dir))
	must(t, s.Settle(ep("10.1.1.2", 2, 7)))
	if !mustOpen(t, dir).Owned().OwnsEndpoint(ep("10.1.1.2", 2, 7)) {
		t.Error("not written when the disk came back")
	}
}

func TestFullDisk(t *testing.T) {
	inOwnNamespace(t, unix.CLONE_NEWNS, func() {
		dir := t.TempDir()
		must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=32k"))
		defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
		s := mustOpen(t, dir)
		must(t, s.Settle(ep("10.1.1.2", 2, 7)))
		fill := filepath.Join(dir, "fill")
		for n := 28 << 10; n > 0; n -= 4 << 10 {
			if os.WriteFile(fill, make([]byte, n), 0o644) == nil {
				break
			}
		}
		// What has room in the file needs no other.
		must(t, s.Settle(ep("10.1.2.2", 3, 8)))
		many := []netstate.Endpoint{}
		for i := range 100 {
			many = append(many, ep(fmt.Sprintf("10.1.3.%d", i+1), 4, uint8(i+9)))
		}
		if err := s.Settle(many...); !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("error: %v", err)
		}
		if o := mustOpen(t, dir).Owned(); !o.OwnsEndpoint(ep("10.1.1.2", 2, 7)) || len(o.Endpoints) != 2 {
			t.Errorf("the old record is gone: %+v", o)
		}
		must(t, os.Remove(fill))
		must(t, s.Settle(ep("10.1.2.2", 3, 8)))
		if o := mustOpen(t, dir).Owned(); len(o.Endpoints) != 102 {
			t.Errorf("found %+v", o)
		}
		must(t, s.Forget(many...))
		if o := mustOpen(t, dir).Owned(); len(o.Endpoints) != 2 {
			t.Errorf("found %+v", o)
		}
	})
}

func encode(o netstate.Ownership) []byte {
	return appendDocument(nil, o, []byte(`"`+boot+`"`), cookie)
}

// TestEncoding: the file is what encoding/json makes of a document.
func TestEncoding(t *testing.T) {
	one, two := netstate.Limits{Subflows: 2}, netstate.Limits{Subflows: 8, AddAddrAccepted: 1<<32 - 1}
	for _, o := range []netstate.Ownership{
		{},
		{Protocols: []uint8{77}, LimitsFound: &one},
		{Protocols: []uint8{77, 90, 254}, LimitsFound: &one, LimitsSet: &two, LimitsBefore: &one, Endpoints: map[netip.Addr]netstate.Endpoint{
			netip.MustParseAddr("10.1.1.2"):                 {Link: 2, ID: 255},
			netip.MustParseAddr("2001:db8::ffff:1234:5678"): {Link: 1<<31 - 1},
			netip.MustParseAddr("::ffff:0:1"):               {Link: 3, ID: 1},
		}},
	} {
		d := document{
			header: header{Version: version, BootID: boot, Namespace: cookie}, Endpoints: []endpoint{},
			LimitsFound: (*limits)(o.LimitsFound), LimitsSet: (*limits)(o.LimitsSet), LimitsBefore: (*limits)(o.LimitsBefore),
		}
		for _, p := range o.Protocols {
			d.Protocols = append(d.Protocols, int(p))
		}
		for _, ip := range slices.SortedFunc(maps.Keys(o.Endpoints), netip.Addr.Compare) {
			e := o.Endpoints[ip]
			d.Endpoints = append(d.Endpoints, endpoint{Address: ip, Link: e.Link, ID: e.ID, Pending: e.ID == 0})
		}
		want, err := json.Marshal(d)
		must(t, err)
		if got := string(encode(o)); got != string(want)+"\n" {
			t.Errorf("wrote  %swanted %s", got, want)
		}
	}
}

// TestFileThatIsReplaced: whatever is done to the file, the next writes are in one of its name.
func TestFileThatIsReplaced(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "record")
	must(t, err)
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, FileName)
	s := mustOpen(t, dir)
	defer s.Close()
	must(t, s.Announce(ep("10.1.1.2", 2, 0)))
	must(t, s.Settle(ep("10.1.1.2", 2, 1)))
	for i, change := range []func() error{
		func() error { return nil },
		func() error { return os.Remove(path) },
		func() error { return os.RemoveAll(dir) },
		func() error { return os.Truncate(path, 10) },
		func() error { return os.Link(path, path+".link") },
		func() error { return os.WriteFile(path+".other", []byte("x"), 0o600) },
		func() error { return os.Rename(path+".other", path) },
	} {
		must(t, change())
		e := ep("10.1.2.2", 3, 0)
		must(t, s.Announce(e))
		if o := mustOpen(t, dir).Owned(); len(o.Endpoints) != 2 {
			t.Errorf("change %d: announced, and found %+v", i, o)
		}
		must(t, s.Forget(e))
		if o := mustOpen(t, dir).Owned(); len(o.Endpoints) != 1 {
			t.Errorf("change %d: forgotten, and found %+v", i, o)
		}
	}
	// One that was moved away is missed for one write at most.
	must(t, os.Rename(path, path+".away"))
	must(t, s.Announce(ep("10.1.2.2", 3, 0)))
	must(t, s.Settle(ep("10.1.2.2", 3, 2)))
	if o := mustOpen(t, dir).Owned(); len(o.Endpoints) != 2 {
		t.Errorf("moved away, and found %+v", o)
	}
}

func FuzzDecode(f *testing.F) {
	good := encode(netstate.Ownership{Known: true, LimitsSet: &netstate.Limits{Subflows: 8}, Endpoints: map[netip.Addr]netstate.Endpoint{
		netip.MustParseAddr("10.1.1.2"): {Addr: netip.MustParseAddr("10.1.1.2"), Link: 2, ID: 7},
		netip.MustParseAddr("fd00::1"):  {Addr: netip.MustParseAddr("fd00::1"), Link: 3},
	}})
	f.Add(good)
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(`{"version":1,"boot_id":"` + boot + `","namespace":"1152921504606846976","endpoints":[{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := decode(b, boot, cookie)
		if err != nil || !o.Known {
			if o.Known || o.Endpoints != nil || o.LimitsFound != nil || o.LimitsSet != nil {
				t.Fatalf("%v, and yet %+v", err, o)
			}
			return
		}
		back, err := decode(encode(o), boot, cookie)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(o, back, sameAddr); d != "" {
			t.Fatalf("changed on the way:\n%s", d)
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	dir, err := os.MkdirTemp("/dev/shm", "record")
	if err != nil {
		b.Skip("no tmpfs:", err)
	}
	defer os.RemoveAll(dir)
	s := mustOpen(b, dir)
	must(b, s.Settle(ep("10.1.1.2", 2, 1), ep("10.1.2.2", 3, 2), ep("2001:db8::2", 2, 3)))
	id := uint8(1)
	b.ReportAllocs()
	for b.Loop() {
		id = id%2 + 1
		must(b, s.Settle(ep("10.1.1.2", 2, id)))
	}
}

// TestLimitsOfOthers keeps what others set last, and knows its own after a kill
// between the record and the change.
func TestLimitsOfOthers(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	limits := func(subflows, accepted uint32) netstate.Limits {
		return netstate.Limits{Subflows: subflows, AddAddrAccepted: accepted}
	}
	found := func(what string, want netstate.Limits) {
		t.Helper()
		if got := mustOpen(t, dir).Owned().LimitsFound; got == nil || *got != want {
			t.Errorf("%s: found are %v, wanted %v", what, got, want)
		}
	}
	must(t, s.SetLimits(limits(2, 0), limits(2, 4)))
	must(t, s.SetLimits(limits(2, 4), limits(3, 4)))
	found("raised twice", limits(2, 0))
	// Killed before the kernel was asked: 2 and 4 are still there.
	must(t, mustOpen(t, dir).SetLimits(limits(2, 4), limits(3, 4)))
	found("after a kill", limits(2, 0))
	if o := mustOpen(t, dir).Owned(); !o.OwnsLimits(limits(2, 4)) || !o.OwnsLimits(limits(3, 4)) || o.OwnsLimits(limits(2, 0)) {
		t.Errorf("ours are those that were set last and those before: %+v", o)
	}
	must(t, mustOpen(t, dir).SetLimits(limits(7, 0), limits(7, 4)))
	found("others changed them", limits(7, 0))
	if o := mustOpen(t, dir).Owned(); o.OwnsLimits(limits(2, 4)) || o.OwnsLimits(limits(3, 4)) {
		t.Errorf("what others replaced is not ours any more: %+v", o)
	}
}

// A file in memory cannot outlive its boot, so that two boot ids of one boot, as in a container, do not matter.
func TestRecordInMemory(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "record")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	dir = filepath.Join(dir, "not", "yet")
	if !volatile(dir) || volatile("/proc") {
		t.Fatalf("in memory: %v, /proc: %v", volatile(dir), volatile("/proc"))
	}
	s, _, err := Open(dir, "one", 7)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetLimits(netstate.Limits{Subflows: 2}, netstate.Limits{Subflows: 4}); err != nil {
		t.Fatal(err)
	}
	if _, own, err := Open(dir, "two", 7); err != nil || !own.Known {
		t.Errorf("another boot id: known %v, %v", own.Known, err)
	}
	if _, own, err := Open(dir, "one", 8); err != nil || own.Known {
		t.Errorf("another namespace: known %v, %v", own.Known, err)
	}
}

// TestWrittenOver: a record in memory is written over, and made anew where that would not do.
func TestWrittenOver(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "record")
	must(t, err)
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, FileName)
	s := mustOpen(t, dir)
	id := uint8(0)
	check := func(what string) {
		t.Helper()
		id++
		must(t, s.Settle(ep("10.1.1.2", 2, id)))
		if o := mustOpen(t, dir).Owned(); !o.OwnsEndpoint(ep("10.1.1.2", 2, id)) {
			t.Errorf("%s: found %+v", what, o)
		}
	}
	ino := func() uint64 {
		var st unix.Stat_t
		must(t, unix.Stat(path, &st))
		return st.Ino
	}
	check("made")
	first := ino()
	check("written over")
	if ino() != first {
		t.Error("the file was made anew for a small change")
	}
	must(t, os.Link(path, path+".old"))
	check("one of two names")
	if ino() == first {
		t.Error("a file with a second name was written over")
	}
	must(t, os.Truncate(path, 10))
	check("torn")
	must(t, os.Remove(path))
	check("removed")
	must(t, os.Remove(path))
	must(t, os.Symlink(path+".old", path))
	check("a symbolic link in its place")
	must(t, os.RemoveAll(dir))
	check("the directory was removed")
}
