package control

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// conn is a connection whose other end is known.
type conn struct {
	net.Conn
	peer       peer
	privileged bool // root or the daemon's own user
	busy       bool // one too many: it is told so and nothing else
	release    func()
}

// Close gives the connection's place back.
func (c *conn) Close() error {
	c.release()
	return c.Conn.Close()
}

// bound is a listener that lets no user have all connections. One that is too
// many is told so and closed instead of being left in the backlog, where it
// would stand before root's.
//
// Whoever asks and only then reads must be heard first: to curl and to Go's own
// client, an answer that comes with the end of the connection is a broken pipe.
// So a few more are let in to be told; those for whom there is not even that
// place are told unheard.
type bound struct {
	net.Listener
	own   uint32 // the daemon's own uid
	conns places
	busy  places // of those that are one too many
}

func newBound(l net.Listener, own uint32) *bound {
	return &bound{
		Listener: l, own: own,
		conns: places{all: maxConns, others: maxOtherConns, each: maxUserConns},
		busy:  places{all: maxBusy, others: maxOtherBusy, each: maxUserBusy},
	}
}

// Accept waits for the next connection that there is a place for.
func (b *bound) Accept() (net.Conn, error) {
	for {
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		p, err := peerOf(c)
		if err != nil {
			c.Close()
			continue
		}
		privileged := p.uid == 0 || p.uid == b.own
		in, busy := &b.conns, false
		if !in.take(p.uid, privileged) {
			in, busy = &b.busy, true
			if !in.take(p.uid, privileged) {
				refuse(c)
				continue
			}
		}
		release := sync.OnceFunc(func() { in.giveBack(p.uid) })
		return &conn{Conn: c, peer: p, privileged: privileged, busy: busy, release: release}, nil
	}
}

const (
	busyText   = "too many connections to the control socket"
	busyRemedy = "try again in a moment"
	busyBody   = `{"schema":1,"error":"` + busyText + `","remedy":"` + busyRemedy + `"}` + "\n"
)

var busyAnswer = strings.ReplaceAll(fmt.Sprintf("HTTP/1.1 503 Service Unavailable\nContent-Type: application/json\nRetry-After: 1\nConnection: close\nContent-Length: %d\n\n",
	len(busyBody)), "\n", "\r\n") + busyBody

// refuse answers without reading: the answer fits the socket's empty buffer, so
// nobody can make the accepting goroutine wait.
func refuse(c net.Conn) {
	if err := c.SetWriteDeadline(time.Now().Add(time.Second)); err == nil {
		_, _ = c.Write([]byte(busyAnswer))
	}
	c.Close()
}
