package mptcp

import (
	"errors"
	"io/fs"
	"maps"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"
)

func TestFormat(t *testing.T) {
	name := func(i int) string { return map[int]string{2: "eth0"}[i] }
	for _, tc := range []struct {
		e    Endpoint
		want string
	}{
		{Endpoint{1, addr("10.1.1.2"), 0, FlagSubflow | FlagBackup, 2}, "10.1.1.2 id 1 subflow backup dev eth0"},
		{Endpoint{3, addr("2001:db8::1"), 5000, FlagSignal, 0}, "2001:db8::1 port 5000 id 3 signal"},
		{Endpoint{Addr: addr("10.1.1.2"), IfIndex: 9}, "10.1.1.2 dev if9"},
		{Endpoint{ID: 4}, "id 4"},
		{Endpoint{ID: 4, Flags: 0x3f}, "id 4 signal subflow backup fullmesh implicit laminar"},
		{Endpoint{ID: 4, Flags: FlagSubflow | 0x140}, "id 4 subflow 0x140"},
		{Endpoint{}, "none"},
	} {
		if got := tc.e.Format(name); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
	if got := (Endpoint{ID: 1, IfIndex: 2}).String(); got != "id 1 dev if2" {
		t.Errorf("String: got %q", got)
	}
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		Flags(0).String():             "",
		StateEstablished.String():     "ESTAB",
		StateClosing.String():         "CLOSING",
		State(77).String():            "UNKNOWN",
		CALoss.String():               "loss",
		CAState(9).String():           "unknown",
		Yes.String():                  "yes",
		No.String():                   "no",
		Support(7).String():           "unknown",
		EventSubflowPriority.String(): "SF_PRIO",
		EventType(4).String():         "EVENT_4",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if set := States(StateListen); !set.Has(StateListen) || set.Has(StateClose) || AllStates.Has(StateListen) {
		t.Errorf("states: %b", set)
	}
}

// TestMeanings: what a kernel says, old ones included, and what that means.
func TestMeanings(t *testing.T) {
	for _, tc := range []struct {
		op   string
		r    kernelReply
		want error
	}{
		{opAdd, kernelReply{unix.EEXIST, "too many addresses or duplicate one: -17", -1}, ErrExist},
		{opAdd, kernelReply{unix.EBUSY, "", -1}, ErrBusy},
		{opAdd, kernelReply{unix.ERANGE, "", -1}, ErrFull},
		{opAdd, kernelReply{unix.EINVAL, "flags mustn't have both signal and fullmesh", 20}, nil},
		{opAdd, kernelReply{unix.EINVAL, "", -1}, nil},
		{opGet, kernelReply{unix.EINVAL, "address not found", 20}, ErrAbsent},
		{opFlags, kernelReply{unix.EINVAL, "", -1}, ErrAbsent},
		{opFlags, kernelReply{unix.EINVAL, "missing family", -1}, ErrUnsupported},
		{opFlags, kernelReply{unix.EINVAL, "invalid addr flags", -1}, nil},
		{opSet, kernelReply{unix.EPERM, "", -1}, ErrPermission},
		{opList, kernelReply{unix.EOPNOTSUPP, "", -1}, ErrUnsupported},
		{"destroy", kernelReply{unix.ENOENT, "", -1}, ErrAbsent},
		{opList, kernelReply{unix.ENOBUFS, "", -1}, nil},
	} {
		err := fail(tc.op, "thing", tc.r)
		for _, sentinel := range []error{ErrExist, ErrBusy, ErrFull, ErrAbsent, ErrUnsupported, ErrPermission} {
			if got, want := errors.Is(err, sentinel), sentinel == tc.want; got != want {
				t.Errorf("%v is %v: got %t, want %t", err, sentinel, got, want)
			}
		}
		if !errors.Is(err, tc.r.errno) {
			t.Errorf("%v does not unwrap to its number", err)
		}
	}
	err := fail(opAdd, "endpoint 10.0.0.1", kernelReply{unix.EPERM, "no", -1})
	if got, want := err.Error(), "add endpoint 10.0.0.1: operation not permitted (no)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !errors.Is(err, fs.ErrPermission) {
		t.Errorf("%v is not fs.ErrPermission", err)
	}
	if err := fail(opList, "endpoints", ErrClosed); err.Error() != "list endpoints: mptcp: closed" || !errors.Is(err, ErrClosed) {
		t.Errorf("other error: %v", err)
	}
}

func TestMaximumFromText(t *testing.T) {
	for text, want := range map[string]uint32{
		"limit greater than maximum (8)":    8,
		"limit greater than maximum ( 64 )": 64,
		"limit greater than maximum":        0,
		"":                                  0,
		"(":                                 0,
		"(8":                                0,
		"()":                                0,
		"(-8)":                              0,
		"(eight) (8)":                       0,
		"(99999999999999999999)":            0,
		"(4294967295)":                      0,
	} {
		if got := maximumFromText(text); got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
}

func TestContains(t *testing.T) {
	long := strings.Repeat("x", 300<<10)
	for _, tc := range []struct {
		text string
		want bool
	}{
		{"", false}, {"needle", true}, {long + "needle" + long, true}, {long + "needl", false},
	} {
		for _, chunked := range []bool{false, true} {
			r := strings.NewReader(tc.text)
			var got bool
			var err error
			if chunked {
				got, err = contains(iotest.HalfReader(r), "needle")
			} else {
				got, err = contains(r, "needle")
			}
			if got != tc.want || err != nil {
				t.Errorf("in %d bytes: got %t, %v, want %t", len(tc.text), got, err, tc.want)
			}
		}
	}
	if _, err := contains(iotest.ErrReader(fs.ErrInvalid), "needle"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

const netstat = `TcpExt: SyncookiesSent SyncookiesRecv
TcpExt: 1 2
MPTcpExt: MPCapableSYNRX MPCapableSYNTX MPCurrEstab
MPTcpExt: 5 7 1
`

func TestParseCounters(t *testing.T) {
	got, err := ParseCounters([]byte(netstat))
	if want := (Counters{"MPCapableSYNRX": 5, "MPCapableSYNTX": 7, "MPCurrEstab": 1}); err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for name, text := range map[string]string{
		"no values":      "MPTcpExt: A B\n",
		"too few values": "MPTcpExt: A B\nMPTcpExt: 1\n",
		"no number":      "MPTcpExt: A\nMPTcpExt: x\n",
		"negative":       "MPTcpExt: A\nMPTcpExt: -1\n",
	} {
		if got, err := ParseCounters([]byte(text)); err == nil || errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
	for _, text := range []string{"", "TcpExt: A\nTcpExt: 1\n"} {
		if _, err := ParseCounters([]byte(text)); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%q: got %v, want ErrUnsupported", text, err)
		}
	}
	diff := Counters{"a": 5, "b": 1, "new": 2}.Sub(Counters{"a": 3, "b": 4})
	if want := (Counters{"a": 2, "b": 0, "new": 2}); !maps.Equal(diff, want) {
		t.Errorf("difference: got %v, want %v", diff, want)
	}
}
