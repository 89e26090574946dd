package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/control"
	"github.com/subflowd/subflowd/internal/kernel"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/observe"
	"github.com/subflowd/subflowd/internal/plan"
	"github.com/subflowd/subflowd/internal/reconcile"
	"github.com/subflowd/subflowd/pkg/status"
)

const (
	// topPatience is how long the daemon may take to answer.
	topPatience = 2 * time.Second
	// eventPause puts what happens within it on the screen at once: events come by
	// the thousand.
	eventPause = 100 * time.Millisecond
	// restOfSearch leaves a twentieth of a processor to the search for programs.
	restOfSearch = 20
	// topRecent is how many of the daemon's last changes the screen begins with.
	topRecent = 8
)

// What the source tells the model.
type (
	// topSample is a look at the kernel.
	topSample struct {
		doc   *status.Connections
		mptcp bool
		took  time.Duration
		err   error
	}
	// topPaths are the paths: the daemon's, or without it those that it would use.
	topPaths struct {
		daemon *status.Document // nil: see away
		away   error            // why there is none
		paths  []status.Path
		err    error // why the paths are not known
	}
	// topEvents is what happened, oldest first.
	topEvents []status.Event
)

// topSource gathers what the screen shows. Its methods are commands of the
// model, each of which runs once at a time and beside the others.
type topSource struct {
	app     *app
	ctx     context.Context
	cancel  context.CancelFunc
	monitor *monitor
	foreign bool // the daemon's events are those of another namespace

	mu       sync.Mutex
	observer *observe.Observer // nil: closed
	before   *observe.Sample
	programs programs
}

// openTop opens the network namespace of the process, and begins to listen.
func (a *app) openTop(ctx context.Context) (*topSource, error) {
	o, err := observe.Open()
	if err != nil {
		return nil, observeError(err)
	}
	s := &topSource{app: a, observer: o, programs: programs{rest: restOfSearch}}
	s.ctx, s.cancel = context.WithCancel(ctx)
	// What it would write to the terminal is on the screen, and that there is no
	// daemon is what ask finds: the one error of noDaemon stays where it is.
	quiet := &app{socket: a.socket, format: a.format, env: a.env, stdout: io.Discard, stderr: io.Discard}
	s.monitor = &monitor{app: quiet, o: monitorOptions{recent: topRecent}, events: make(chan line, 256), noDaemon: make(chan error, 1), noKernel: make(chan error, 1)}
	go s.monitor.followDaemon(s.ctx)
	go func() { s.monitor.noKernel <- s.monitor.followKernel(s.ctx) }()
	return s, nil
}

// close waits for a look that is under way.
func (s *topSource) close() {
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.observer.Close()
	s.observer = nil
}

// sample looks at the kernel.
func (s *topSource) sample() tea.Msg {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.observer == nil {
		return nil
	}
	now, err := s.observer.Sample()
	if err != nil {
		return topSample{err: fmt.Errorf("look at the kernel: %w", err)}
	}
	s.programs.find(now.Connections)
	doc := s.programs.into(observe.Document(now, s.before))
	s.before = now
	return topSample{doc: doc, mptcp: now.MPTCP, took: time.Since(now.Time)}
}

// ask asks the daemon for its paths.
func (s *topSource) ask() tea.Msg {
	ctx, cancel := context.WithTimeout(s.ctx, topPatience)
	defer cancel()
	var doc status.Document
	_, err := s.app.client().ask(ctx, http.MethodGet, control.PathStatus, &doc)
	if err == nil && elsewhere(doc.Daemon.Namespace) {
		err = fmt.Errorf("the daemon at %s serves another network namespace", s.app.socket)
	}
	if err == nil {
		return topPaths{daemon: &doc, paths: doc.Paths}
	}
	paths, unknown := pathsHere(s.app.runtimeDir())
	return topPaths{away: err, paths: paths, err: unknown}
}

// pathsHere are the paths that a daemon would use with the configuration that it
// would start with.
func pathsHere(stateDir string) ([]status.Path, error) {
	cfg, _, err := config.Load("")
	if err != nil {
		cfg = config.Default()
	}
	owned, _, err := localRecord(stateDir, namespace())
	if err != nil {
		return nil, err
	}
	var snap *netstate.Snapshot
	err = inNamespace(cfg, owned, func(k *kernel.Kernel) (err error) {
		if snap, err = k.Occupied(); errors.Is(err, fs.ErrPermission) {
			// Some kernels show the path manager to CAP_NET_ADMIN only.
			snap, err = k.Unmanaged()
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look at the kernel: %w", err)
	}
	wish := plan.Desired(plan.Input{Config: cfg, Snapshot: snap, Owned: owned})
	return control.Document(&reconcile.View{Plan: wish}, status.Daemon{}, time.Now()).Paths, nil
}

// listen waits for events.
func (s *topSource) listen() tea.Msg {
	var all topEvents
	select {
	case l := <-s.monitor.events:
		all = s.take(all, l.event)
	case err := <-s.monitor.noKernel:
		all = append(all, status.Event{Time: time.Now(), Source: status.FromMonitor, Type: status.EventAway, Text: err.Error()})
	case <-s.ctx.Done():
		return nil
	}
	select {
	case <-time.After(eventPause):
	case <-s.ctx.Done():
		return nil
	}
	for range cap(s.monitor.events) {
		select {
		case l := <-s.monitor.events:
			all = s.take(all, l.event)
		default:
			return all
		}
	}
	return all
}

// take leaves out what another namespace's daemon says.
func (s *topSource) take(all topEvents, e status.Event) topEvents {
	if e.Type == status.EventHello {
		s.foreign = elsewhere(e.Namespace)
	}
	if s.foreign && e.Source == status.FromDaemon {
		return all
	}
	return append(all, e)
}
