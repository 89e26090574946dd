package kerneltest

import (
	"context"
	"sync"

	"github.com/subflowd/subflowd/internal/netstate"
)

// queue holds hints until a watcher has taken them; none is ever lost.
type queue struct {
	mu    sync.Mutex
	list  []netstate.Hints
	awake chan struct{} // one slot
}

func newQueue() *queue { return &queue{awake: make(chan struct{}, 1)} }

func (q *queue) put(h netstate.Hints) {
	q.mu.Lock()
	q.list = append(q.list, h)
	q.mu.Unlock()
	select {
	case q.awake <- struct{}{}:
	default:
	}
}

func (q *queue) take() []netstate.Hints {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := q.list
	q.list = nil
	return list
}

func (f *Fake) subscribe(to map[int]*queue) (*queue, func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := f.nextWatcher
	f.nextWatcher++
	q := newQueue()
	to[id] = q
	return q, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(to, id)
	}
}

// Watch calls emit for every hint from now on until ctx ends.
func (f *Fake) Watch(ctx context.Context, ready func(), emit func(netstate.Hints)) error {
	q, stop := f.subscribe(f.watchers)
	defer stop()
	if ready != nil {
		ready()
	}
	return q.run(ctx, emit)
}

// WatchConnections calls emit when the connections changed, until ctx ends.
func (f *Fake) WatchConnections(ctx context.Context, emit func()) error {
	q, stop := f.subscribe(f.connWatchers)
	defer stop()
	return q.run(ctx, func(netstate.Hints) { emit() })
}

func (q *queue) run(ctx context.Context, emit func(netstate.Hints)) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-q.awake:
		}
		for _, h := range q.take() {
			emit(h)
		}
	}
}

// Emit sends a hint to all watchers.
func (f *Fake) Emit(h netstate.Hints) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.emit(h)
}

// Overflow is what a watcher emits after events were lost.
func (f *Fake) Overflow() {
	f.Emit(netstate.Hints{Full: true, Kinds: netstate.KindAll, Reason: "overflow: events were lost"})
}

// hold keeps events back until they are let go together.
func (f *Fake) hold(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.holding = on
	for _, h := range f.held {
		f.emit(h)
	}
	f.held = nil
}

func (f *Fake) emit(h netstate.Hints) {
	if f.holding {
		f.held = append(f.held, h)
		return
	}
	for _, q := range f.watchers {
		q.put(h)
	}
}

func (f *Fake) emitConnections() {
	for _, q := range f.connWatchers {
		q.put(netstate.Hints{})
	}
}
