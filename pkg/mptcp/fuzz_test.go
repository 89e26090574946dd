package mptcp

import (
	"bytes"
	"io"
	"testing"

	"golang.org/x/sys/unix"
)

// The fuzz tests assert that no input makes a decoder panic or go on for ever, and what always holds of results.

// seeds are whole messages and pieces of them.
func seeds(f *testing.F, whole ...[]byte) {
	for _, b := range whole {
		f.Add(b)
		f.Add(b[:len(b)/2])
		f.Add(b[:max(len(b)-1, 0)])
	}
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0})
}

func FuzzNextMessage(f *testing.F) {
	var m message
	m.begin(unix.NLMSG_ERROR, unix.NLM_F_ACK_TLVS|unix.NLM_F_CAPPED)
	m.b = append(m.b, ack(unix.EINVAL, 16, "no", 20)...)
	one := m.seal(1)
	seeds(f, one, append(one[:len(one):len(one)], one...))
	f.Fuzz(func(t *testing.T, b []byte) {
		for {
			h, payload, rest, ok := nextMessage(b)
			if !ok {
				return
			}
			if len(rest) >= len(b) {
				t.Fatal("no progress")
			}
			if r := parseAck(h, payload); r.errno == 0 && r.msg != "" {
				t.Fatalf("a text without an error: %+v", r)
			}
			b = rest
		}
	})
}

func FuzzParseAck(f *testing.F) {
	for _, b := range [][]byte{ack(unix.EINVAL, 16, "no", 20), ack(unix.EPERM, 40, "no", 0), ack(unix.ENOENT, 0, "gone", 4)} {
		f.Add(b, uint16(unix.NLMSG_ERROR), uint16(unix.NLM_F_ACK_TLVS|unix.NLM_F_CAPPED))
		f.Add(b, uint16(unix.NLMSG_ERROR), uint16(unix.NLM_F_ACK_TLVS))
		f.Add(b, uint16(unix.NLMSG_DONE), uint16(unix.NLM_F_ACK_TLVS))
	}
	f.Fuzz(func(t *testing.T, b []byte, typ, flags uint16) {
		if r := parseAck(header{typ: typ, flags: flags}, b); r.errno > 4095 {
			t.Fatalf("error number %d", r.errno)
		}
	})
}

func FuzzDecodeEndpoint(f *testing.F) {
	seeds(f, wholeEndpoint)
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := decodeEndpoint(b); err == nil && (e.ID == 0 || !e.Addr.IsValid() || e.String() == "") {
			t.Fatalf("taken: %+v", e)
		}
	})
}

func FuzzDecodeLimits(f *testing.F) {
	seeds(f, wholeLimits)
	f.Fuzz(func(_ *testing.T, b []byte) { decodeLimits(b) })
}

func FuzzDecodeSocket(f *testing.F) {
	seeds(f,
		socketBytes(unix.AF_INET, "10.0.0.1", "10.0.0.2", info(96)),
		socketBytes(unix.AF_INET6, "2001:db8::1", "2001:db8::2", func(m *message) { info(232)(m); wholeULP(m) }))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, ok := parseDiag(b)
		if !ok {
			return
		}
		var c Connection
		decodeConnection(&c, &s)
		var sub Subflow
		if decodeSubflow(&sub, &s) && (sub.Token == 0 || sub.Local.Addr().Is4In6()) {
			t.Fatalf("taken: %+v", sub)
		}
	})
}

func FuzzDecodeEvent(f *testing.F) {
	seeds(f, wholeEvent)
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, ok := decodeEvent(b); ok && e.String() == "" {
			t.Fatalf("taken: %+v", e)
		}
	})
}

func FuzzParseCounters(f *testing.F) {
	seeds(f, []byte(netstat))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := ParseCounters(b); (c == nil) == (err == nil) {
			t.Fatalf("got %v, %v", c, err)
		}
		for _, group := range []string{groupTCP, ""} {
			if c, err := parseGroup(b, group); (c == nil) == (err == nil) {
				t.Fatalf("%q: got %v, %v", group, c, err)
			}
		}
	})
}

func FuzzMaximumFromText(f *testing.F) {
	f.Add("limit greater than maximum (8)")
	f.Add("(")
	f.Fuzz(func(t *testing.T, s string) {
		if n := maximumFromText(s); n > 1<<16 {
			t.Fatalf("maximum %d", n)
		}
	})
}

// FuzzAnswers feeds whole datagrams to the reader of answers: a request with an acknowledgement, and a dump.
func FuzzAnswers(f *testing.F) {
	var m message
	m.begin(unix.NLMSG_ERROR, unix.NLM_F_ACK_TLVS|unix.NLM_F_CAPPED)
	m.b = append(m.b, ack(unix.EINVAL, 16, "no", 20)...)
	seeds(f, m.seal(1))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &conn{seq: 1}
		var first error
		var interrupted bool
		given := 0
		done, err := c.answers(b, func(payload []byte) error {
			given += len(payload)
			return nil
		}, &first, &interrupted)
		if given > len(b) || err != nil && !done {
			t.Fatalf("%d bytes of %d, %v %v", given, len(b), done, err)
		}
	})
}

// FuzzContains: a text is found wherever the reader cuts the stream.
func FuzzContains(f *testing.F) {
	f.Add([]byte("abc"+laminarMember+"def"), uint8(3))
	f.Add([]byte(laminarMember[:5]+laminarMember), uint8(1))
	f.Add([]byte{}, uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, size uint8) {
		found, err := contains(pieces{bytes.NewReader(b), int(size) + 1}, laminarMember)
		if err != nil || found != bytes.Contains(b, []byte(laminarMember)) {
			t.Errorf("%v, %v", found, err)
		}
	})
}

// pieces reads little at a time.
type pieces struct {
	io.Reader
	size int
}

func (p pieces) Read(b []byte) (int, error) { return p.Reader.Read(b[:min(len(b), p.size)]) }
