package control

import (
	"context"
	"fmt"
	"time"

	"github.com/subflowd/subflowd/internal/reconcile"
	"github.com/subflowd/subflowd/pkg/status"
)

// Loop is what the control socket needs of the loop.
type Loop interface {
	// View is the newest view; never nil.
	View() *reconcile.View
	// Changed returns a channel that is closed with the next view.
	Changed() <-chan struct{}
	// Reconcile runs a round with a full read and returns when it is over.
	Reconcile(ctx context.Context) error
}

// FromLoop answers from the loop's views. daemon is what the loop does not
// know: version, process, configuration files.
func FromLoop(l Loop, daemon status.Daemon) Backend {
	return &loopBackend{loop: l, daemon: daemon}
}

type loopBackend struct {
	loop   Loop
	daemon status.Daemon
}

func (b *loopBackend) Status() status.Document {
	return Document(b.loop.View(), b.daemon, time.Now())
}

func (b *loopBackend) Plan() status.Plan {
	p := PlanOf(b.loop.View())
	p.Namespace = b.daemon.Namespace
	return p
}

func (b *loopBackend) Changed() <-chan struct{} { return b.loop.Changed() }

// Reconcile returns the changes of all rounds that ran meanwhile: the events
// that an old view's readers have not seen.
func (b *loopBackend) Reconcile(ctx context.Context) (status.Reconciled, error) {
	before, start := newest(b.loop.View()), time.Now()
	if err := b.loop.Reconcile(ctx); err != nil {
		return status.Reconciled{}, fmt.Errorf("run a full round: %w", err)
	}
	v := b.loop.View()
	out := status.Reconciled{Schema: status.Schema, State: state(v), DurationSeconds: time.Since(start).Seconds()}
	for _, e := range v.Recent {
		if e.Seq > before {
			out.Changes = append(out.Changes, status.Change{Command: e.Text, Reason: e.Change.Reason, Error: e.Err})
		}
	}
	return out, nil
}

func newest(v *reconcile.View) uint64 {
	if len(v.Recent) == 0 {
		return 0
	}
	return v.Recent[len(v.Recent)-1].Seq
}
