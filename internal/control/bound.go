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
type bound struct {
	net.Listener
	own   uint32 // the daemon's own uid
	conns places
}

func newBound(l net.Listener, own uint32) *bound {
	return &bound{Listener: l, own: own, conns: places{all: maxConns, others: maxOtherConns, each: maxUserConns}}
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
		if !b.conns.take(p.uid, privileged) {
			refuse(c)
			continue
		}
		release := sync.OnceFunc(func() { b.conns.giveBack(p.uid) })
		return &conn{Conn: c, peer: p, privileged: privileged, release: release}, nil
	}
}

const busyBody = `{"schema":1,"error":"too many connections to the control socket","remedy":"try again in a moment"}` + "\n"

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
