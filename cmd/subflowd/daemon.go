package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/control"
	"github.com/subflowd/subflowd/internal/kernel"
	"github.com/subflowd/subflowd/internal/lease"
	"github.com/subflowd/subflowd/internal/metrics"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/notify"
	"github.com/subflowd/subflowd/internal/observe"
	"github.com/subflowd/subflowd/internal/plan"
	"github.com/subflowd/subflowd/internal/probe"
	"github.com/subflowd/subflowd/internal/reconcile"
	"github.com/subflowd/subflowd/internal/record"
	"github.com/subflowd/subflowd/internal/version"
	"github.com/subflowd/subflowd/pkg/mptcp"
	"github.com/subflowd/subflowd/pkg/status"
)

// daemon is what all ways to run have in common.
type daemon struct {
	flags   flags
	running configuration
	log     *zap.Logger
	lock    *record.Held
	kernel  *kernel.Kernel
	leases  lease.Reader
	store   *record.Store
	cookie  uint64
	hup     chan os.Signal
	// notes are findings of the start, for the status.
	notes  []plan.Finding
	port   *metrics.Listener // while serving
	prober *probe.Prober     // while serving
}

// start takes the lock and opens the kernel and the record. A conflictsError
// says that others use the configuration's numbers; a cleanup starts all the
// same.
func start(f flags, c config.Config, files []string, log *zap.Logger) (*daemon, error) {
	d := &daemon{flags: f, log: log, hup: make(chan os.Signal, 1)}
	d.running.set(c, files)
	// From here on a reload that comes early waits instead of ending the process.
	signal.Notify(d.hup, syscall.SIGHUP)
	lock, warning, err := record.Lock(f.stateDir)
	if err != nil {
		return nil, err
	}
	d.lock = lock
	if warning != "" {
		d.note("lock-weak", "daemon", warning)
	}
	if err := d.open(c); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// open opens the record and then the kernel, which is read by the numbers that
// the record knows as well.
func (d *daemon) open(c config.Config) error {
	boot, err := kernel.BootID()
	if err != nil {
		return err
	}
	if d.cookie, err = kernel.NamespaceCookie(); err != nil && !errors.Is(err, syscall.ENOPROTOOPT) {
		return err
	}
	var owned netstate.Ownership
	if d.store, owned, err = record.Open(d.flags.stateDir, boot, d.cookie); err != nil {
		d.note("record-unreadable", "state record", err.Error())
	}
	if d.kernel, err = kernel.Open(numbers(c, owned)); err != nil {
		return err
	}
	d.kernel.Leases = d.leases.Find
	if d.flags.cleanup {
		return nil
	}
	// A kernel that cannot be read is the loop's to report and to try again.
	if snap, err := d.kernel.Occupied(); err == nil {
		found := c.Conflicts(snap, owned.Protocols...)
		switch {
		case len(found) == 0:
		case slices.Contains(owned.Protocols, c.Routing.Protocol):
			// They came after us. Refusing would leave what is ours without a keeper, for good under systemd.
			d.note(codeConflict, "configuration", strings.Join(found, "; "))
		default:
			return conflictsError(found)
		}
	}
	return nil
}

func (d *daemon) note(code, object, text string) {
	d.notes = append(d.notes, plan.Finding{Code: code, Severity: plan.Warning, Object: object, Text: text})
}

func (d *daemon) close() {
	if d.kernel != nil {
		_ = d.kernel.Close()
	}
	if d.store != nil {
		d.store.Close()
	}
	d.lock.Release()
	_ = d.log.Sync()
}

func numbers(c config.Config, owned netstate.Ownership) kernel.Options {
	return kernel.Options{Protocol: c.Routing.Protocol, TableBase: c.Routing.TableBase, Former: owned.Protocols}
}

func (d *daemon) options() reconcile.Options {
	c, _ := d.running.now()
	return reconcile.Options{Kernel: d.kernel, Watcher: d.kernel.Watcher(), Record: d.store, Config: c, Log: d.log}
}

// loop makes a loop that knows what the start found.
func (d *daemon) loop(o reconcile.Options) *reconcile.Loop {
	l := reconcile.New(o)
	for _, f := range d.notes {
		l.Report(f)
	}
	return l
}

// once makes the kernel match and stops.
func (d *daemon) once() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	v := d.loop(d.options()).Once(ctx)
	if !v.Converged {
		d.log.Error("the kernel does not match", zap.Int("left", len(v.Left)))
		return exitUnfinished
	}
	return exitDone
}

// cleanup removes all that is ours.
func (d *daemon) cleanup() int {
	begun := time.Now()
	done, err := reconcile.Cleanup(d.options())
	if err != nil {
		d.log.Error("cleanup is incomplete", zap.Error(err))
		return exitFailed
	}
	reconcile.LogCleaned(d.log, done, time.Since(begun))
	return exitDone
}

// serve runs until a signal says otherwise.
func (d *daemon) serve() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	defer signal.Stop(d.hup)

	service := &service{log: d.log}
	o := d.options()
	o.Tick = notify.WatchdogPeriod()
	o.OnTick, o.OnRound = notify.Watchdog, service.round
	o.OnConfig = func(c config.Config, owned netstate.Ownership) { d.kernel.Configure(numbers(c, owned)) }
	l := d.loop(o)
	d.leases.Again = func() { l.Hint(netstate.Hints{Kinds: netstate.KindAddrs, Reason: "DHCP lease may be there"}) }
	d.prober = newProber(l)
	scrape := metrics.New(metrics.Source{
		View: l.View, State: control.State, Counters: mptcp.ReadCounters, Traffic: metrics.ReadTraffic, Probe: d.prober.Status,
	})
	d.port = metrics.NewListener(scrape, func(addr string, err error) { metricsReport(l, addr, err) })
	defer d.port.Close()
	c, files := d.running.now()
	d.log.Info("subflowd "+version.String()+" starts", zap.Strings("config", files))

	var wg sync.WaitGroup
	defer wg.Wait()
	d.port.Set(c.Metrics.Listen)
	d.prober.Configure(c.Probe)
	wg.Go(func() { d.prober.Run(ctx) })
	// Before the loop says that the daemon is ready: who waits for that may ask at once.
	socket, err := control.Listen(d.flags.socket)
	wg.Go(func() { d.control(ctx, l, scrape, socket, err) })
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-d.hup:
				d.reload(ctx, l)
			}
		}
	})
	l.Run(ctx)
	notify.Stopping()
	d.log.Info("subflowd stops; routes, rules and endpoints stay")
	return exitDone
}

// control answers on the socket. Without it the network is kept all the same.
func (d *daemon) control(ctx context.Context, l *reconcile.Loop, scrape http.Handler, socket net.Listener, err error) {
	if err == nil {
		host := control.Host{
			About:   func() status.Daemon { return d.about(l) },
			Load:    func(ctx context.Context) control.Loaded { return d.reload(ctx, l) },
			Lookup:  kernel.Lookup,
			Probe:   d.prober.Status,
			Traffic: new(observe.Traffic).Fill,
		}
		err = control.New(control.FromLoop(l, host), control.Options{Log: d.log, Metrics: scrape}).Serve(ctx, socket)
	}
	if err != nil {
		l.Report(plan.Finding{Code: "no-socket", Severity: plan.Error, Object: "control socket", Text: "subflowctl cannot ask the daemon: " + err.Error()})
	}
}

// metricsReport puts into the status whether metrics are served.
func metricsReport(l *reconcile.Loop, addr string, err error) {
	tell(l, err, plan.Finding{
		Code: "no-metrics", Severity: plan.Warning, Object: "metrics.listen", Text: "is not served, and tried again",
		Remedy: "see what has the port (ss -ltnp), or choose another address than " + addr,
	})
}

// tell puts a failure into the status, with what the error says at its end, or
// takes it back.
func tell(l *reconcile.Loop, err error, f plan.Finding) {
	if err == nil {
		l.Retract(f.Code, f.Object)
		return
	}
	f.Text += ": " + err.Error()
	l.Report(f)
}

// service tells the service manager how things are.
type service struct {
	log    *zap.Logger
	ready  bool
	status string
}

func (s *service) round(v *reconcile.View) {
	if text := summary(v); text != s.status {
		s.status = text
		notify.Status(text)
	}
	if !s.ready && v.Plan != nil {
		s.ready = true
		notify.Ready()
		s.log.Info("ready: " + s.status)
	}
}

// summary is the state in a line.
func summary(v *reconcile.View) string {
	if v.Plan == nil {
		return "the kernel cannot be read"
	}
	var links []string
	for _, p := range v.Plan.Paths {
		if p.State == plan.Live && !slices.Contains(links, p.Name) {
			links = append(links, p.Name)
		}
	}
	slices.Sort(links)
	s := fmt.Sprintf("links that are paths: %d (%s), endpoints: %d", len(links), strings.Join(links, ", "), len(v.Plan.Endpoints))
	if len(links) == 0 {
		s = "no link is a path"
	}
	if v.Plan.Guard.Withdraws() {
		s += ", stepped aside for the VPN by " + v.Plan.Guard.Name
	}
	if n := len(v.Lingering); n > 0 {
		s += fmt.Sprintf(", lingering: %d", n)
	}
	if n := len(v.Left); n > 0 {
		s += fmt.Sprintf(", changes left: %d", n)
	}
	return s
}
