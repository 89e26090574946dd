package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/control"
	"github.com/subflowd/subflowd/internal/kernel"
	"github.com/subflowd/subflowd/internal/lease"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/notify"
	"github.com/subflowd/subflowd/internal/plan"
	"github.com/subflowd/subflowd/internal/reconcile"
	"github.com/subflowd/subflowd/internal/record"
	"github.com/subflowd/subflowd/internal/version"
	"github.com/subflowd/subflowd/pkg/status"
)

// daemon is what all ways to run have in common.
type daemon struct {
	flags  flags
	config config.Config
	files  []string
	log    *zap.Logger
	lock   *record.Held
	kernel *kernel.Kernel
	leases lease.Reader
	store  *record.Store
	cookie uint64
	hup    chan os.Signal
	// notes are findings of the start, for the status.
	notes []plan.Finding
}

// start takes the lock and opens the kernel and the record.
func start(f flags, c config.Config, files []string, log *zap.Logger) (*daemon, error) {
	d := &daemon{flags: f, config: c, files: files, log: log, hup: make(chan os.Signal, 1)}
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
	if d.kernel, err = kernel.Open(numbers(c)); err != nil {
		d.close()
		return nil, err
	}
	d.kernel.Leases = d.leases.Find
	boot, err := kernel.BootID()
	if err != nil {
		d.close()
		return nil, err
	}
	if d.cookie, err = kernel.NamespaceCookie(); err != nil && !errors.Is(err, syscall.ENOPROTOOPT) {
		d.close()
		return nil, err
	}
	if d.store, _, err = record.Open(f.stateDir, boot, d.cookie); err != nil {
		d.note("record-unreadable", "state record", err.Error())
	}
	return d, nil
}

func (d *daemon) note(code, object, text string) {
	d.notes = append(d.notes, plan.Finding{Code: code, Severity: plan.Warning, Object: object, Text: text})
}

func (d *daemon) close() {
	if d.kernel != nil {
		_ = d.kernel.Close()
	}
	d.lock.Release()
	_ = d.log.Sync()
}

func numbers(c config.Config) kernel.Options {
	return kernel.Options{Protocol: c.Routing.Protocol, TableBase: c.Routing.TableBase}
}

func (d *daemon) options() reconcile.Options {
	return reconcile.Options{Kernel: d.kernel, Watcher: d.kernel.Watcher(), Record: d.store, Config: d.config, Log: d.log}
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
	o.OnConfig = func(c config.Config) { d.kernel.Configure(numbers(c)) }
	l := d.loop(o)
	d.leases.Again = func() { l.Hint(netstate.Hints{Kinds: netstate.KindAddrs, Reason: "DHCP lease may be there"}) }
	d.log.Info("subflowd "+version.String()+" starts", zap.Strings("config", d.files))

	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { d.control(ctx, l) })
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
func (d *daemon) control(ctx context.Context, l *reconcile.Loop) {
	listener, err := control.Listen(d.flags.socket)
	if err == nil {
		about := status.Daemon{
			Version: version.Version(), Commit: version.Commit(), PID: os.Getpid(), Started: l.View().Started,
			Namespace: d.cookie, Config: d.files,
		}
		err = control.New(control.FromLoop(l, about), control.Options{Log: d.log}).Serve(ctx, listener)
	}
	if err != nil {
		l.Report(plan.Finding{Code: "no-socket", Severity: plan.Error, Object: "control socket", Text: "subflowctl cannot ask the daemon: " + err.Error()})
	}
}

// reload reads the configuration again; one that is wrong changes nothing.
func (d *daemon) reload(ctx context.Context, l *reconcile.Loop) {
	notify.Reloading()
	defer notify.Ready()
	const code, object = "config-invalid", "configuration"
	c, files, err := config.Load(d.flags.config)
	if err == nil {
		err = l.SetConfig(ctx, c)
	}
	if err != nil {
		l.Report(plan.Finding{Code: code, Severity: plan.Error, Object: object, Text: "was not taken, the one before stays: " + err.Error()})
		return
	}
	l.Retract(code, object)
	d.log.Info("configuration loaded", zap.Strings("config", files))
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
	links := map[int]bool{}
	for _, p := range v.Plan.Paths {
		if p.State == plan.Live {
			links[p.Link] = true
		}
	}
	s := fmt.Sprintf("links that are paths: %d, endpoints: %d", len(links), len(v.Plan.Endpoints))
	if n := len(v.Lingering); n > 0 {
		s += fmt.Sprintf(", lingering: %d", n)
	}
	if n := len(v.Left); n > 0 {
		s += fmt.Sprintf(", changes left: %d", n)
	}
	return s
}
