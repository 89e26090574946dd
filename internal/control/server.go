package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"

	"go.uber.org/zap"
)

// Options of a server.
type Options struct {
	Group string      // whose members may write; empty: Group
	Log   *zap.Logger // for failures that no client learns of; nil: none
	// Metrics answers on PathMetrics; nil: there are none.
	Metrics http.Handler
}

// Server answers requests on the control socket.
type Server struct {
	backend Backend
	opts    Options
	own     uint32
	streams places
}

// New makes a server that answers from the backend.
func New(b Backend, o Options) *Server {
	if o.Group == "" {
		o.Group = Group
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return &Server{
		backend: b, opts: o, own: uint32(os.Geteuid()),
		streams: places{all: maxStreams, others: maxOtherStreams, each: maxUserStreams},
	}
}

type connKey struct{}

// Serve answers on the listener until ctx ends, then closes it, lets requests
// that are being answered end for half a second, and returns nil once no
// goroutine of it is left. Another end of the listener is an error.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	errorLog, err := zap.NewStdLogAt(s.opts.Log, zap.WarnLevel)
	if err != nil {
		return fmt.Errorf("serve control socket: %w", err)
	}
	hs := &http.Server{
		Handler:           http.HandlerFunc(s.route),
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          errorLog,
		// Requests that wait end with ctx.
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
	}
	served := make(chan error, 1)
	go func() { served <- hs.Serve(newBound(l, s.own)) }()

	select {
	case err := <-served:
		hs.Close()
		return fmt.Errorf("serve control socket: %w", err)
	case <-ctx.Done():
	}
	// The contexts of requests are done already; this bounds what is left.
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := hs.Shutdown(grace); err != nil {
		hs.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve control socket: %w", err)
	}
	return nil
}
