package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/subflowd/subflowd/internal/control"
	"github.com/subflowd/subflowd/internal/observe"
	"github.com/subflowd/subflowd/pkg/mptcp"
	"github.com/subflowd/subflowd/pkg/status"
)

// daemonRetry is the pause before the daemon is looked for again.
const daemonRetry = time.Second

func (a *app) monitorCommand() *cobra.Command {
	var o monitorOptions
	cmd := command("monitor", "events as they come: the daemon's, and the path manager's",
		`Shows what happens, as it happens, until it is interrupted: the daemon's changes
with their reasons, paths and conditions that come and go, and the events of the
kernel's path manager: connections, subflows, announced addresses.

The kernel tells its events to root only (CAP_NET_ADMIN). Without the daemon the
kernel's events are shown, and the daemon's from when it is there. The kernel
sends no event when somebody changes endpoints or limits.`,
		func() error { return a.monitor(o) })
	cmd.Example = "  subflowctl monitor --recent 10\n  subflowctl -o json monitor --only subflowd"
	cmd.Flags().IntVar(&o.recent, "recent", 0, "begin with a `number` of the daemon's last changes")
	cmd.Flags().StringVar(&o.only, "only", "", "a single `source`: subflowd or kernel")
	_ = cmd.RegisterFlagCompletionFunc("only", cobra.FixedCompletions([]string{string(status.FromDaemon), string(status.FromKernel)}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

type monitorOptions struct {
	recent int
	only   string
}

func (o *monitorOptions) wants(s status.EventSource) bool {
	return o.only == "" || o.only == string(s)
}

func (a *app) monitor(o monitorOptions) error {
	if !o.wants(status.FromDaemon) && !o.wants(status.FromKernel) {
		return &exitError{code: ExitUsage, err: fmt.Errorf("--only wants subflowd or kernel, not %q", o.only)}
	}
	if o.recent < 0 || o.recent > control.MaxRecent {
		return &exitError{code: ExitUsage, err: fmt.Errorf("--recent wants a number from 0 to %d", control.MaxRecent)}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := a.whenReaderGone(ctx, cancel); err != nil {
		return err
	}
	m := &monitor{app: a, o: o, events: make(chan line, 256), noDaemon: make(chan error, 1), noKernel: make(chan error, 1)}
	if o.wants(status.FromDaemon) {
		go m.followDaemon(ctx)
	}
	if o.wants(status.FromKernel) {
		go func() { m.noKernel <- m.followKernel(ctx) }()
	}
	return m.print(ctx)
}

// monitor puts the two streams together. A reader that does not read makes them
// wait: the kernel's socket and the daemon then say how much was lost.
type monitor struct {
	app    *app
	o      monitorOptions
	events chan line
	// Why a source does not come: the daemon was not there at first, the kernel
	// tells nothing.
	noDaemon, noKernel chan error
}

// line is an event, as it came if it is the daemon's.
type line struct {
	raw   json.RawMessage
	event status.Event
}

// print prints until ctx ends. With no source there is nothing to wait for.
func (m *monitor) print(ctx context.Context) error {
	var daemon, kernel error
	for {
		select {
		case <-ctx.Done():
			return nil
		case l := <-m.events:
			if l.event.Source == status.FromDaemon {
				daemon = nil // it has come meanwhile
			}
			if err := m.app.printEvent(l); err != nil {
				return err
			}
			continue
		case daemon = <-m.noDaemon:
		case kernel = <-m.noKernel:
		}
		select {
		case <-ctx.Done(): // which is why a source ended
			return nil
		default:
		}
		switch {
		case daemon != nil && (kernel != nil || !m.o.wants(status.FromKernel)):
			return worstOf(daemon, kernel)
		case kernel != nil && !m.o.wants(status.FromDaemon):
			return kernel
		case kernel != nil:
			m.app.say(kernel)
		default:
			if err := m.app.printEvent(away(daemon)); err != nil {
				return err
			}
		}
	}
}

// worstOf is both errors in one. That of a missing permission decides: with it
// there would be something to see.
func worstOf(daemon, kernel error) error {
	if kernel == nil {
		return daemon
	}
	var d, k *exitError
	if !errors.As(daemon, &d) || !errors.As(kernel, &k) {
		return errors.Join(daemon, kernel)
	}
	return &exitError{code: max(d.code, k.code), err: errors.Join(d, k), remedy: d.remedy + "\n" + k.remedy}
}

// say tells on stderr of a source that will not come.
func (a *app) say(err error) {
	var e *exitError
	if errors.As(err, &e) && e.remedy != "" {
		err = fmt.Errorf("%w (%s)", err, e.remedy)
	}
	fmt.Fprintln(a.stderr, "subflowctl: "+clean(err.Error()))
}

func (m *monitor) send(ctx context.Context, l line) {
	select {
	case m.events <- l:
	case <-ctx.Done():
	}
}

// away is the event of a daemon that is not there.
func away(err error) line {
	e := status.Event{Schema: status.Schema, Time: time.Now().UTC().Truncate(time.Millisecond), Source: status.FromMonitor, Type: status.EventAway}
	e.Text = err.Error()
	var x *exitError
	if errors.As(err, &x) {
		e.Remedy = x.remedy
	}
	return line{event: e}
}

// errDaemonWent ends a stream that had begun.
var errDaemonWent = errors.New("subflowd is gone; its events follow when it is back")

// followDaemon reads the daemon's events again and again: it may come and go.
func (m *monitor) followDaemon(ctx context.Context) {
	path := control.PathEvents + "?recent=" + strconv.Itoa(m.o.recent)
	for first, told := true, false; ctx.Err() == nil; first = false {
		greeted := false
		err := m.app.client().follow(ctx, path, func(raw []byte, e status.Event) {
			if !greeted && elsewhere(e.Namespace) {
				fmt.Fprintf(m.app.stderr, "subflowctl: the daemon at %s serves another network namespace than this one\n", clean(m.app.socket))
			}
			greeted, told = true, false
			m.send(ctx, line{append(json.RawMessage(nil), raw...), e})
		})
		switch {
		case ctx.Err() != nil:
			return
		case first && !greeted:
			m.noDaemon <- err
		case greeted:
			m.send(ctx, away(errDaemonWent))
		case !told && !isUnreachable(err):
			m.send(ctx, away(err))
		}
		told = true
		path = control.PathEvents
		select {
		case <-ctx.Done():
		case <-time.After(daemonRetry):
		}
	}
}

// followKernel reads the path manager's events.
func (m *monitor) followKernel(ctx context.Context) error {
	runtime.LockOSThread() // its sockets belong to the thread's namespace
	defer runtime.UnlockOSThread()
	c, err := mptcp.Dial()
	if err != nil {
		return eventsError(err)
	}
	defer c.Close()
	stream, err := c.SubscribeEvents()
	if err != nil {
		return eventsError(err)
	}
	defer stream.Close()
	// After the subscription, so that no connection falls between.
	known, err := c.Connections(mptcp.ConnectionOptions{NoSubflows: true})
	if err != nil {
		return eventsError(err)
	}
	names, err := observe.OpenDirectory(known)
	if err != nil {
		return eventsError(err)
	}
	defer names.Close()
	for {
		e, err := stream.Receive(ctx)
		switch {
		case errors.Is(err, mptcp.ErrOverflow):
			m.send(ctx, line{event: status.Event{
				Schema: status.Schema, Time: time.Now().UTC().Truncate(time.Millisecond), Source: status.FromKernel, Type: status.EventLost,
				Text: "events of the path manager were lost: they came faster than they were read",
			}})
		case err != nil:
			return eventsError(err)
		default:
			m.send(ctx, line{event: names.Event(e, time.Now())})
		}
	}
}

func eventsError(err error) error {
	switch {
	case errors.Is(err, mptcp.ErrPermission) || errors.Is(err, fs.ErrPermission):
		return &exitError{
			code: ExitPermission, err: errors.New("listen to the path manager: the kernel tells its events to CAP_NET_ADMIN only"),
			remedy: "use sudo to see them",
		}
	case errors.Is(err, mptcp.ErrUnsupported):
		return &exitError{code: ExitNo, err: errors.New("listen to the path manager: this kernel has no events of Multipath TCP")}
	}
	return &exitError{code: ExitNo, err: fmt.Errorf("listen to the path manager: %w", err)}
}

// printEvent writes one event at once.
func (a *app) printEvent(l line) error {
	if a.format == formatText {
		return a.writeNow([]byte(eventText(&l.event, time.Local, a.coloured())))
	}
	if l.raw != nil {
		return a.writeNow(l.raw, []byte{'\n'})
	}
	text, err := json.Marshal(l.event)
	if err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return a.writeNow(text, []byte{'\n'})
}

// eventText is one event as text: when, who, what.
func eventText(e *status.Event, zone *time.Location, colours bool) string {
	p := &page{colours: colours}
	front := e.Time.In(zone).Format("15:04:05.000") + "  " + p.paint(eventColour(e), fit(clean(string(e.Source)), len(status.FromDaemon))) + "  "
	const column = len("15:04:05.000") + 2 + len(status.FromDaemon) + 2
	text := e.Text
	if e.Remedy != "" {
		text += "; do: " + e.Remedy
	}
	p.beside(front, column, text)
	return p.b.String()
}

func eventColour(e *status.Event) colour {
	switch {
	case e.Error != "" || e.Type == status.EventLost || e.Type == status.EventAway || e.State == status.Failing || e.Type == status.EventCondition && e.Severity == status.Error:
		return red
	case e.ResetReason != "" || e.Type == status.EventCondition && e.Severity == status.Warning:
		return yellow
	case e.Source == status.FromDaemon:
		return green
	}
	return plain
}
