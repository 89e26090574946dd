package control

import (
	"context"
	"fmt"
	"time"

	"github.com/subflowd/subflowd/internal/probe"
	"github.com/subflowd/subflowd/internal/reconcile"
	"github.com/subflowd/subflowd/pkg/status"
)

// Loop is what the control socket needs of the loop.
type Loop interface {
	// View is the newest view; never nil.
	View() *reconcile.View
	// Changed returns a channel that is closed with the next view.
	Changed() <-chan struct{}
	// Behind tells whether another view follows soon, because of what the kernel
	// has told since.
	Behind() bool
	// Reconcile runs a round with a full read and returns when it is over.
	Reconcile(ctx context.Context) error
}

// Host is what the control socket needs of the process around the loop.
type Host struct {
	// About says what the loop does not know: version, process, files of the
	// configuration that runs.
	About func() status.Daemon
	// Load reads the configuration again and gives it to the loop, unless it is
	// wrong. It returns when the first round with it is over.
	Load func(ctx context.Context) Loaded
	// Traffic adds to paths what they carry; nil: that is not told.
	Traffic func([]status.Path)
	// Lookup asks the kernel for a route; nil: destinations are not explained.
	Lookup LookupFunc
	// Probe is what the tests of the paths found; nil: there are none.
	Probe func() *probe.Status
}

// FromLoop answers from the loop's views.
func FromLoop(l Loop, h Host) Backend {
	return &loopBackend{loop: l, host: h}
}

type loopBackend struct {
	loop Loop
	host Host
}

// Status is that of the newest view. A script that changes the network and then
// waits must not hear that all is well from a view before its change.
func (b *loopBackend) Status() status.Document {
	behind := b.loop.Behind() // before the view, which may be there by then
	v := b.loop.View()
	doc := Document(v, b.host.About(), time.Now())
	if b.host.Probe != nil {
		addProbe(&doc, b.host.Probe())
	}
	if behind && doc.State == status.Converged {
		doc.State = status.Converging
	}
	return doc
}

func (b *loopBackend) Traffic(paths []status.Path) {
	if b.host.Traffic != nil {
		b.host.Traffic(paths)
	}
}

func (b *loopBackend) Plan() status.Plan {
	p := PlanOf(b.loop.View())
	p.Namespace = b.host.About().Namespace
	return p
}

func (b *loopBackend) Changed() <-chan struct{} { return b.loop.Changed() }

func (b *loopBackend) Explain(what string) (status.Explanation, bool) {
	return Explain(b.loop.View(), what, b.host.Lookup)
}

// Reconcile returns the changes of all rounds that ran meanwhile: the events
// that an old view's readers have not seen.
func (b *loopBackend) Reconcile(ctx context.Context) (status.Reconciled, error) {
	before, start := newest(b.loop.View()), time.Now()
	if err := b.loop.Reconcile(ctx); err != nil {
		return status.Reconciled{}, fmt.Errorf("run a full round: %w", err)
	}
	v := b.loop.View()
	return status.Reconciled{Schema: status.Schema, State: State(v), DurationSeconds: time.Since(start).Seconds(), Changes: since(v, before)}, nil
}

// Reload returns the changes of the rounds until the other configuration is in
// effect, as Reconcile does.
func (b *loopBackend) Reload(ctx context.Context) (status.Reloaded, error) {
	before := newest(b.loop.View())
	out := b.host.Load(ctx).document()
	v := b.loop.View()
	out.Config, out.State, out.Changes = b.host.About().Config, State(v), since(v, before)
	return out, ctx.Err()
}

func newest(v *reconcile.View) uint64 {
	if len(v.Recent) == 0 {
		return 0
	}
	return v.Recent[len(v.Recent)-1].Seq
}

// since lists the changes after the one with that number.
func since(v *reconcile.View, before uint64) []status.Change {
	var out []status.Change
	for _, e := range v.Recent {
		if e.Seq > before {
			out = append(out, status.Change{Command: e.Text, Reason: e.Change.Reason, Error: e.Err})
		}
	}
	return out
}
