package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"github.com/subflowd/subflowd/internal/trigger"
)

// Path is where metrics are served, on the socket and on the port.
const Path = "/metrics"

// The limits of what anyone who reaches the port can make the daemon hold.
const (
	maxConns       = 16
	maxHeaderBytes = 4 << 10
	ioTimeout      = 10 * time.Second
	// Scrapes come every 15 s to 60 s; a connection that stays open saves little.
	idleTimeout = 10 * time.Second
)

// listenBackoff is for a port that is busy, and for an address that the host
// does not have yet.
var listenBackoff = trigger.Backoff{Min: time.Second, Max: 30 * time.Second, Jitter: 0.2}

// Listener serves metrics, and nothing else, on a TCP port that may change.
type Listener struct {
	handler http.Handler
	report  func(addr string, err error)

	mu     sync.Mutex
	addr   string
	open   net.Listener // nil: there is none
	server *http.Server
	timer  *time.Timer // of the next attempt
	tries  int
	closed bool
	wg     sync.WaitGroup
}

// NewListener makes one that listens nowhere. report hears of every attempt:
// err is nil where it listens or need not. It must not call the listener.
func NewListener(h http.Handler, report func(addr string, err error)) *Listener {
	mux := http.NewServeMux()
	mux.Handle("GET "+Path, h)
	return &Listener{handler: mux, report: report}
}

// Set makes it listen on an address such as "127.0.0.1:9477", and no longer on
// the one before; empty: nowhere. Where that fails, which report is told, it is
// tried again with growing pauses.
func (l *Listener) Set(addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || addr == l.addr {
		return
	}
	l.stop()
	l.addr, l.tries = addr, 0
	if addr == "" {
		l.report(addr, nil)
		return
	}
	l.start()
}

// Close ends the listener and requests that are being answered, and returns
// when nothing of it is left.
func (l *Listener) Close() {
	l.mu.Lock()
	l.closed = true
	l.stop()
	l.mu.Unlock()
	l.wg.Wait()
}

func (l *Listener) stop() {
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	if l.open != nil {
		// The server closes it only if it serves already.
		l.open.Close()
		l.server.Close()
		l.open, l.server = nil, nil
	}
}

func (l *Listener) start() {
	var c net.ListenConfig
	// Go listens with Multipath TCP where the kernel has it, and our own sockets
	// would be among those that we count.
	c.SetMultipathTCP(false)
	open, err := c.Listen(context.Background(), "tcp", l.addr)
	if err != nil {
		l.failed(fmt.Errorf("serve metrics: %w", err))
		return
	}
	l.tries, l.open = 0, open
	l.server = &http.Server{
		Handler: l.handler, MaxHeaderBytes: maxHeaderBytes, ReadTimeout: ioTimeout, WriteTimeout: ioTimeout, IdleTimeout: idleTimeout,
		// What strangers send to the port is nothing for the log.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	l.report(l.addr, nil)
	server := l.server
	l.wg.Go(func() { l.serve(server, open) })
}

func (l *Listener) serve(server *http.Server, open net.Listener) {
	err := server.Serve(netutil.LimitListener(open, maxConns))
	if errors.Is(err, http.ErrServerClosed) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.server != server {
		return
	}
	l.stop()
	l.failed(fmt.Errorf("serve metrics on %s: %w", l.addr, err))
}

// failed waits for the next attempt.
func (l *Listener) failed(err error) {
	l.report(l.addr, err)
	l.tries++
	var t *time.Timer
	// The lock is held until t is set.
	t = time.AfterFunc(listenBackoff.Pause(l.tries, rand.Float64()), func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.timer == t {
			l.timer = nil
			l.start()
		}
	})
	l.timer = t
}
