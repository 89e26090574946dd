package kernel

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/subflowd/subflowd/pkg/mptcp"
)

// WatchConnections calls emit when a connection or a subflow came or went, and
// when such events were lost, until ctx ends; then it returns its error. The
// thread must be in the namespace that was opened. It needs CAP_NET_ADMIN. A
// kernel without such events (before 5.12) is waited with in silence.
func (w *Watcher) WatchConnections(ctx context.Context, emit func()) error {
	for pause := firstPause; ; pause = min(2*pause, longPause) {
		started := time.Now()
		err := w.connections(ctx, emit)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, mptcp.ErrUnsupported):
			<-ctx.Done()
			return ctx.Err()
		case errors.Is(err, mptcp.ErrPermission), errors.Is(err, mptcp.ErrNamespace), errors.Is(err, mptcp.ErrClosed):
			return fmt.Errorf("watch connections: %w", err)
		}
		emit()
		if time.Since(started) > longPause {
			pause = firstPause
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// connections follows one stream until it fails.
func (w *Watcher) connections(ctx context.Context, emit func()) error {
	if w.kernel.pm.client == nil {
		return mptcp.ErrUnsupported
	}
	s, err := w.kernel.pm.client.SubscribeEvents()
	if err != nil {
		return err
	}
	defer s.Close()
	for {
		e, err := s.Receive(ctx)
		switch {
		case errors.Is(err, mptcp.ErrOverflow):
			emit()
			continue
		case err != nil:
			return err
		}
		switch e.Type {
		case mptcp.EventEstablished, mptcp.EventClosed, mptcp.EventSubflowEstablished, mptcp.EventSubflowClosed:
			emit()
		}
	}
}
