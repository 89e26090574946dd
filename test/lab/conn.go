package lab

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Conn is a connection to a Server of the same test process: MPTCP, unless dialled with TCP().
type Conn struct {
	net.Conn
	Host *Host

	mptcp bool
	id    [8]byte

	wmu     sync.Mutex // one frame is written at a time
	hello   bool
	rmu     sync.Mutex
	answers map[[8]byte]bool // read by an Echo that they were not meant for
}

// The frames that a client sends: a letter and what follows it.
const (
	frameHello    = 'H' // 8 bytes: the connection's id in this process
	frameEcho     = 'E' // 8 bytes, sent back with the letter
	frameChunk    = 'C' // 4 bytes of length, then as many that are only counted
	frameDownload = 'D' // 8 bytes: how many to send back
)

// Dial connects from the host by MPTCP to an address such as "10.9.0.2:5001", and ends the test when it fails.
func (h *Host) Dial(remote string, opts ...DialOption) *Conn {
	h.Lab.T.Helper()
	c, err := h.TryDial(remote, opts...)
	if err != nil {
		h.Lab.Dump()
		h.Lab.T.Fatal(err)
	}
	return c
}

// TryDial is Dial with an error, which wraps the errno.
func (h *Host) TryDial(remote string, opts ...DialOption) (*Conn, error) {
	h.Lab.T.Helper()
	o := dialOpts(opts)
	a, err := netip.ParseAddrPort(remote)
	if err != nil {
		return nil, err
	}
	var nc net.Conn
	h.Do(func() { nc, err = o.connect(a) })
	if err != nil {
		return nil, fmt.Errorf("[%s] %w", h.Name, err)
	}
	c := &Conn{Conn: nc, Host: h, mptcp: o.proto == unix.IPPROTO_MPTCP}
	_, _ = rand.Read(c.id[:])
	h.Lab.onClose(func() { _ = c.Close() })
	return c, nil
}

// write sends one frame, preceded by the hello the first time: nothing is sent on a connection that nobody uses.
func (c *Conn) write(deadline time.Time, parts ...[]byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if !c.hello {
		parts = append([][]byte{{frameHello}, c.id[:]}, parts...)
		c.hello = true
	}
	_ = c.SetWriteDeadline(deadline)
	b := net.Buffers(parts)
	_, err := b.WriteTo(c.Conn)
	return err
}

// Echo sends eight bytes and waits for them to come back: whether the connection is alive in both directions. It fails
// after the timeout, and may be tried again.
func (c *Conn) Echo(timeout time.Duration) error {
	late := time.Now().Add(timeout)
	var nonce [8]byte
	_, _ = rand.Read(nonce[:])
	if err := c.write(late, []byte{frameEcho}, nonce[:]); err != nil {
		return fmt.Errorf("[%s] echo: %w", c.Host.Name, err)
	}
	c.rmu.Lock()
	defer c.rmu.Unlock()
	_ = c.SetReadDeadline(late)
	b := make([]byte, 9)
	for !c.answers[nonce] {
		// Answers of earlier tries, and of another goroutine's, may come first. Nine bytes arrive together.
		if _, err := io.ReadFull(c.Conn, b); err != nil {
			return fmt.Errorf("[%s] echo: %w", c.Host.Name, err)
		}
		if c.answers == nil {
			c.answers = map[[8]byte]bool{}
		}
		c.answers[[8]byte(b[1:])] = true
	}
	delete(c.answers, nonce)
	return nil
}

// WantEcho is Echo that ends the test.
func (c *Conn) WantEcho(timeout time.Duration) {
	c.Host.Lab.T.Helper()
	c.Host.must(c.Echo(Patient(timeout)))
}

// Server answers Conns on one address: echoes, counts what is uploaded, and sends downloads.
type Server struct {
	Host *Host
	Addr string

	l     net.Listener
	mptcp bool
	mu    sync.Mutex
	conns []*ServerConn
}

// ServerConn is the server's end of a connection.
type ServerConn struct {
	net.Conn
	meter meter
	mptcp bool
}

// Listen serves on an address of the host, such as "10.9.0.2:5001", until the test ends. With TCP() it refuses MPTCP, so
// that connections fall back.
func (h *Host) Listen(addr string, opts ...DialOption) *Server {
	h.Lab.T.Helper()
	o := dialOpts(opts)
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		h.Lab.T.Fatal(err)
	}
	s := &Server{Host: h, Addr: addr, mptcp: o.proto == unix.IPPROTO_MPTCP}
	h.Do(func() { s.l, err = o.listen(a) })
	if err != nil {
		h.Lab.T.Fatalf("[%s] %v", h.Name, err)
	}
	h.Lab.onClose(s.Close)
	go s.accept()
	return s
}

// Close ends the server and its connections.
func (s *Server) Close() {
	_ = s.l.Close()
	for _, c := range s.Conns() {
		_ = c.Close()
	}
}

// Conns returns the connections that the server has accepted, in that order, those that ended too.
func (s *Server) Conns() []*ServerConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*ServerConn(nil), s.conns...)
}

// Info reads MPTCP_INFO of the server's end.
func (c *ServerConn) Info() Info { return infoOf(c.Conn, c.mptcp) }

// Subflows lists the subflows of the server's end.
func (c *ServerConn) Subflows() []Subflow {
	s, _ := subflowsOf(c.Conn)
	return s
}

func (s *Server) accept() {
	for {
		nc, err := s.l.Accept()
		if err != nil {
			return
		}
		if t, ok := nc.(*net.TCPConn); ok {
			_ = t.SetKeepAlive(false)
		}
		c := &ServerConn{Conn: nc, mptcp: s.mptcp}
		s.mu.Lock()
		s.conns = append(s.conns, c)
		s.mu.Unlock()
		go c.serve()
	}
}

// byID finds the server's end of a connection: both ends live in this process.
var byID sync.Map

func (c *ServerConn) serve() {
	defer c.Conn.Close()
	r := &countingReader{c: c}
	b := make([]byte, 64<<10)
	for {
		if _, err := io.ReadFull(r, b[:1]); err != nil {
			return
		}
		kind, n := b[0], 8
		if kind == frameChunk {
			n = 4
		}
		if _, err := io.ReadFull(r, b[1:1+n]); err != nil {
			return
		}
		var err error
		switch kind {
		case frameHello:
			byID.Store([8]byte(b[1:9]), c)
		case frameEcho:
			_, err = c.Write(b[:9])
		case frameChunk:
			_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(r, int64(binary.BigEndian.Uint32(b[1:]))), b)
		case frameDownload:
			err = c.send(binary.BigEndian.Uint64(b[1:]))
		default:
			return
		}
		if err != nil {
			return
		}
	}
}

func (c *ServerConn) send(n uint64) error {
	b := make([]byte, 64<<10)
	for n > 0 {
		m, err := c.Write(b[:min(n, uint64(len(b)))])
		if err != nil {
			return err
		}
		n -= uint64(m)
	}
	return nil
}

type countingReader struct{ c *ServerConn }

func (r *countingReader) Read(b []byte) (int, error) {
	n, err := r.c.Conn.Read(b)
	r.c.meter.add(n)
	return n, err
}

// Talk keeps the connection in use until the returned function is called or the test ends. It must not break meanwhile,
// and no answer may take longer than patience.
func (c *Conn) Talk(t testing.TB, patience time.Duration) (stop func()) {
	t.Helper()
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-quit:
				return
			case <-time.After(50 * time.Millisecond):
			}
			if err := c.Echo(patience); err != nil {
				t.Errorf("the connection that was in use broke: %v", err)
				return
			}
		}
	}()
	var once sync.Once
	stop = func() { once.Do(func() { close(quit) }); <-done }
	t.Cleanup(func() {
		if t.Failed() {
			_ = c.Close() // it may be waiting for an answer
		}
		stop()
	})
	return stop
}

// Ends are the two addresses of every established subflow, sorted: "10.1.1.2:40000 > 10.9.0.2:5001".
func (c *Conn) Ends() []string {
	var all []string
	for _, s := range c.Subflows() {
		if s.Established {
			all = append(all, s.Local.String()+" > "+s.Remote.String())
		}
	}
	slices.Sort(all)
	return all
}
