package mptcp

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// built gives the bytes of a message without its header.
func built(build func(m *message)) []byte {
	var m message
	m.begin(0, 0)
	build(&m)
	return m.b[unix.NLMSG_HDRLEN:]
}

// ack is an NLMSG_ERROR or NLMSG_DONE as the kernel makes it.
func ack(errno unix.Errno, echo int, text string, offset uint32) []byte {
	return built(func(m *message) {
		m.b = binary.NativeEndian.AppendUint32(m.b, uint32(-int32(errno)))
		if echo > 0 {
			request := make([]byte, align4(echo))
			binary.NativeEndian.PutUint32(request, uint32(echo))
			m.b = append(m.b, request...)
		}
		if text != "" {
			m.str(unix.NLMSGERR_ATTR_MSG, text)
		}
		if offset != 0 {
			m.u32(unix.NLMSGERR_ATTR_OFFS, offset)
		}
	})
}

func TestParseAck(t *testing.T) {
	const tlvs, capped = unix.NLM_F_ACK_TLVS, unix.NLM_F_CAPPED
	for _, tc := range []struct {
		name string
		h    header
		b    []byte
		want kernelReply
	}{
		{"good", header{typ: unix.NLMSG_ERROR}, ack(0, 16, "", 0), kernelReply{offset: -1}},
		{"bare errno", header{typ: unix.NLMSG_ERROR}, ack(unix.EPERM, 16, "", 0), kernelReply{unix.EPERM, "", -1}},
		{"capped", header{typ: unix.NLMSG_ERROR, flags: tlvs | capped}, ack(unix.EINVAL, 16, "no", 20), kernelReply{unix.EINVAL, "no", 20}},
		{"whole request echoed", header{typ: unix.NLMSG_ERROR, flags: tlvs}, ack(unix.EINVAL, 37, "no", 20), kernelReply{unix.EINVAL, "no", 20}},
		{"end of a dump", header{typ: unix.NLMSG_DONE, flags: tlvs}, ack(unix.ENOENT, 0, "gone", 0), kernelReply{unix.ENOENT, "gone", -1}},
		{"no attributes announced", header{typ: unix.NLMSG_ERROR, flags: capped}, ack(unix.EINVAL, 16, "no", 20), kernelReply{unix.EINVAL, "", -1}},
		{"echo longer than the message", header{typ: unix.NLMSG_ERROR, flags: tlvs}, ack(unix.EINVAL, 16, "", 0)[:8], kernelReply{unix.EINVAL, "", -1}},
		{"cut", header{typ: unix.NLMSG_ERROR, flags: tlvs | capped}, ack(unix.EINVAL, 16, "", 0)[:6], kernelReply{unix.EINVAL, "", -1}},
		{"empty", header{typ: unix.NLMSG_ERROR}, nil, kernelReply{unix.EPROTO, "", -1}},
		{"positive number", header{typ: unix.NLMSG_ERROR}, []byte{1, 1, 0, 0}, kernelReply{unix.EPROTO, "", -1}},
	} {
		if got := parseAck(tc.h, tc.b); got != tc.want {
			t.Errorf("%s: got %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

func TestAttributes(t *testing.T) {
	b := built(func(m *message) {
		m.u8(1, 7)
		at := m.nest(2)
		m.u16(3, 0x1234)
		m.str(4, "abc")
		m.end(at)
		m.u32(5, 9)
	})
	type seen struct {
		typ uint16
		n   int
	}
	var got []seen
	a := attrs(b)
	for typ, v, ok := a.next(); ok; typ, v, ok = a.next() {
		got = append(got, seen{typ, len(v)})
		if typ == 2 {
			nested := attrs(v)
			_, first, _ := nested.next()
			_, second, _ := nested.next()
			if u16At(first, 0) != 0x1234 || cString(second) != "abc" {
				t.Errorf("nested: % x", v)
			}
		}
	}
	if want := []seen{{1, 1}, {2, 16}, {5, 4}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}

	for name, bad := range map[string][]byte{
		"length below the header": {3, 0, 1, 0, 0, 0, 0, 0},
		"length beyond the end":   built(func(m *message) { m.u32(1, 1) })[:6],
		"cut header":              {8, 0, 1},
	} {
		a := attrs(bad)
		if _, _, ok := a.next(); ok {
			t.Errorf("%s: taken", name)
		}
	}
	// The last attribute may come without its padding.
	a = attrs(b[:5])
	a[0] = 5
	if _, v, ok := a.next(); !ok || len(v) != 1 || len(a) != 0 {
		t.Errorf("no padding: got % x, %t, rest % x", v, ok, []byte(a))
	}
}

func TestNextMessage(t *testing.T) {
	var m message
	m.begin(77, unix.NLM_F_DUMP)
	m.u8(1, 5)
	first := bytes.Clone(m.seal(3))
	two := append(bytes.Clone(first), first...)
	n := 0
	for rest := two; ; n++ {
		h, payload, next, ok := nextMessage(rest)
		if !ok {
			break
		}
		if h.typ != 77 || h.seq != 3 || h.flags != unix.NLM_F_DUMP|unix.NLM_F_REQUEST || len(payload) != 8 {
			t.Errorf("message %d: %+v, % x", n, h, payload)
		}
		rest = next
	}
	if n != 2 {
		t.Errorf("got %d messages, want 2", n)
	}
	if _, _, _, ok := nextMessage(first[:len(first)-1]); ok {
		t.Error("cut message: taken")
	}
	first[0] = 15
	if _, _, _, ok := nextMessage(first); ok {
		t.Error("length below the header: taken")
	}
}

// answering gives a conn on which the replies, sealed with the number of the first request, wait to be read.
func answering(t *testing.T, replies ...func(m *message)) *conn {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		closeOnCleanup(t, fd)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		t.Fatal(err)
	}
	for _, reply := range replies {
		var m message
		reply(&m)
		if _, err := unix.Write(fds[1], m.b); err != nil {
			t.Fatal(err)
		}
	}
	return &conn{fd: fds[0], in: make([]byte, receiveSize), timeout: 50 * time.Millisecond}
}

func reply(typ, flags uint16, seq uint32, payload []byte) func(*message) {
	return func(m *message) {
		m.begin(typ, flags)
		m.b = append(m.b, payload...)
		m.seal(seq)
	}
}

func TestRun(t *testing.T) {
	const family = 30
	data, done := []byte{1, 2, 3, 4}, ack(0, 0, "", 0)
	collect := func(c *conn) (n int, err error) {
		err = c.dump(nl.NewNetlinkRequest(family, unix.NLM_F_DUMP), func() { n = 0 }, func([]byte) error { n++; return nil })
		return n, err
	}

	// Answers to an earlier request, which was given up, are passed over.
	c := answering(t, reply(family, 0, 99, data), reply(family, 0, 1, data), reply(unix.NLMSG_DONE, 0, 1, done))
	if n, err := collect(c); n != 1 || err != nil {
		t.Errorf("stale answers: got %d, %v", n, err)
	}

	// A dump that changed is read again, from the start.
	c = answering(t,
		reply(family, 0, 1, data), reply(family, unix.NLM_F_DUMP_INTR, 1, data), reply(unix.NLMSG_DONE, 0, 1, done),
		reply(family, 0, 2, data), reply(unix.NLMSG_DONE, 0, 2, done))
	if n, err := collect(c); n != 1 || err != nil {
		t.Errorf("interrupted once: got %d, %v", n, err)
	}
	var restless []func(*message)
	for seq := range uint32(dumpTries + 1) {
		restless = append(restless, reply(unix.NLMSG_DONE, unix.NLM_F_DUMP_INTR, seq+1, done))
	}
	c = answering(t, restless...)
	if _, err := collect(c); err != ErrInterrupted || c.seq != dumpTries {
		t.Errorf("always interrupted: got %v after %d tries", err, c.seq)
	}

	// Silence ends in an error, and the next request starts afresh.
	c = answering(t, reply(family, 0, 1, data))
	if n, err := collect(c); n != 1 || !c.stale || err == nil {
		t.Errorf("silence: got %d, %v", n, err)
	}

	// An error of the reader comes back once the dump has ended.
	c = answering(t, reply(family, 0, 1, data), reply(family, 0, 1, data), reply(unix.NLMSG_DONE, 0, 1, done))
	calls := 0
	err := c.run(nl.NewNetlinkRequest(family, unix.NLM_F_DUMP), func([]byte) error { calls++; return errShort })
	if err != errShort || calls != 1 || c.stale {
		t.Errorf("reader's error: got %v after %d calls", err, calls)
	}
}

// TestCutOff: what did not fit into the buffer, and an answer without its number, are errors, and the next request is
// none the worse for it.
func TestCutOff(t *testing.T) {
	const family = 30
	for name, first := range map[string]func(*message){
		"the buffer is full":         reply(family, 0, 1, make([]byte, 1024)),
		"an answer without a number": reply(unix.NLMSG_ERROR, 0, 1, nil),
	} {
		c := answering(t, first, reply(unix.NLMSG_ERROR, 0, 2, ack(0, 0, "", 0)))
		c.in = make([]byte, 512)
		if err := c.run(nl.NewNetlinkRequest(family, 0), nil); err == nil {
			t.Errorf("%s: %v", name, err)
		}
		// The answer to the second request is here already, which only a test can bring about: it must not be thrown away.
		c.stale = false
		if err := c.run(nl.NewNetlinkRequest(family, 0), nil); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
	}
}
