package mptcp

import (
	"encoding/binary"
	"errors"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

// mptcpSocket and tcpSocket are answers of the two dumps, with as much as is needed to sort them.
func mptcpSocket(token uint32) []byte {
	return built(func(m *message) {
		m.b = append(m.b, make([]byte, diagMsgLen)...)
		binary.NativeEndian.PutUint32(m.attr(diagInfo, 16)[12:], token)
	})
}

func tcpSocket(token uint32, id uint8) []byte {
	return built(func(m *message) {
		m.b = append(m.b, make([]byte, diagMsgLen)...)
		outer := m.nest(diagULPInfo)
		inner := m.nest(ulpMPTCP)
		m.u32(ulpTokenLoc, token)
		m.u8(ulpIDLoc, id)
		m.end(inner)
		m.end(outer)
	})
}

// dumps are the answers to the requests of walks in their order.
func dumps(answers ...[][]byte) (replies []func(*message)) {
	for i, list := range answers {
		seq := uint32(i + 1)
		for _, b := range list {
			replies = append(replies, reply(getSockTCP, 0, seq, b))
		}
		replies = append(replies, reply(unix.NLMSG_DONE, 0, seq, ack(0, 0, "", 0)))
	}
	return replies
}

func TestJoin(t *testing.T) {
	v4 := [][]byte{mptcpSocket(1), mptcpSocket(2), mptcpSocket(1)}
	v6 := [][]byte{mptcpSocket(3)}
	tcp := [][]byte{tcpSocket(2, 1), tcpSocket(9, 0), tcpSocket(0, 0), tcpSocket(1, 2), tcpSocket(2, 3)}
	want := []Connection{
		{Token: 1, Subflows: []Subflow{{Token: 1, LocalID: 2}}},
		{Token: 2, Subflows: []Subflow{{Token: 2, LocalID: 1}, {Token: 2, LocalID: 3}}},
		{Token: 3, Subflows: []Subflow{}},
	}
	check := func(what string, replies []func(*message)) {
		t.Helper()
		c := &Client{diag: answering(t, replies...)}
		got, err := c.Connections(ConnectionOptions{})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		for i := range got {
			strip(&got[i])
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", what, got, want)
		}
		// Growing one connection's subflows must not write into the next one's.
		_ = append(got[0].Subflows, Subflow{Token: 77})
		if got[1].Subflows[0].Token != 2 {
			t.Errorf("%s: the connections' subflows share memory", what)
		}
	}
	check("at once", dumps(v4, v6, tcp))

	// What changed while it was read is read again whole, whichever part it was.
	changed := func(seq uint32) func(*message) {
		return reply(unix.NLMSG_DONE, unix.NLM_F_DUMP_INTR, seq, ack(0, 0, "", 0))
	}
	again := dumps(nil, v4, v6, tcp)
	again[0] = changed(1)
	check("the connections changed", again)
	again = dumps(v4, v6, nil, v4, v6, tcp)
	again[len(v4)+len(v6)+2] = changed(3)
	check("the subflows changed", again)

	c := &Client{diag: answering(t, dumps([][]byte{mptcpSocket(1)[:40]})...)}
	if got, err := c.Connections(ConnectionOptions{}); !errors.Is(err, errShort) || got != nil {
		t.Errorf("a cut answer: got %v, %v", got, err)
	}
}

// strip forgets what is not looked at: addresses of no bytes, and the families.
func strip(c *Connection) {
	*c = Connection{Token: c.Token, Subflows: c.Subflows}
	for i, f := range c.Subflows {
		c.Subflows[i] = Subflow{Token: f.Token, LocalID: f.LocalID}
	}
}
