package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"go.uber.org/zap"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/control"
	"github.com/subflowd/subflowd/internal/kernel"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/notify"
	"github.com/subflowd/subflowd/internal/plan"
	"github.com/subflowd/subflowd/internal/reconcile"
	"github.com/subflowd/subflowd/internal/version"
	"github.com/subflowd/subflowd/pkg/status"
)

// configuration is what runs, and where it was read from.
type configuration struct {
	reload sync.Mutex // one at a time
	mu     sync.Mutex
	config config.Config
	files  []string
}

func (c *configuration) now() (config.Config, []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.config, slices.Clone(c.files)
}

func (c *configuration) set(cfg config.Config, files []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.config, c.files = cfg, files
}

// conflictsError is a configuration whose numbers others use.
type conflictsError []string

func (e conflictsError) Error() string { return strings.Join(e, "\n") }

// Codes of the conditions about the configuration.
const (
	codeRejected = "config-rejected"
	codeConflict = "numbers-in-use"
)

// about is what the status says of the process.
func (d *daemon) about(l *reconcile.Loop) status.Daemon {
	_, files := d.running.now()
	return status.Daemon{
		Version: version.Version(), Commit: version.Commit(), PID: os.Getpid(), Started: l.View().Started,
		Namespace: d.cookie, Config: files,
	}
}

// reload reads the configuration again; one that is wrong changes nothing.
func (d *daemon) reload(ctx context.Context, l *reconcile.Loop) control.Loaded {
	d.running.reload.Lock()
	defer d.running.reload.Unlock()
	notify.Reloading()
	defer notify.Ready()
	const object = "configuration"
	c, files, err := config.Load(d.flags.config)
	result := control.Loaded{Err: err}
	if err == nil {
		result.Conflicts = d.conflicts(c, l)
	}
	if result.Summary() == "" {
		result.Err = l.SetConfig(ctx, c)
	}
	if text := result.Summary(); text != "" {
		for _, line := range result.Lines() {
			d.log.Error("configuration: " + line)
		}
		l.Report(plan.Finding{
			Code: codeRejected, Severity: plan.Error, Object: object, Text: "was not taken, what ran before goes on: " + text,
			Remedy: "correct it (subflowd --check-config prints all mistakes), then: subflowctl reload",
		})
		return result
	}
	d.running.set(c, files)
	d.port.Set(c.Metrics.Listen)
	d.prober.Configure(c.Probe)
	l.Retract(codeRejected, object)
	d.log.Info("configuration loaded", zap.Strings("config", files))
	// Whoever waits for the reload waits for its effect. It comes all the same
	// where he gives up first.
	_ = l.Reconcile(ctx)
	return result
}

// conflicts tells which numbers of another configuration others use. Numbers
// that are in use already stay: they are reported and hinder nothing else.
func (d *daemon) conflicts(c config.Config, l *reconcile.Loop) []string {
	running, _ := d.running.now()
	owned := l.View().Owned
	snap, err := look(c, owned)
	if err != nil {
		return []string{fmt.Sprintf("whether others use its numbers cannot be found out: %v", err)}
	}
	found := c.Conflicts(snap, append(slices.Clone(owned.Protocols), running.Routing.Protocol)...)
	if len(found) > 0 && numbersOf(c) == numbersOf(running) {
		l.Report(plan.Finding{
			Code: codeConflict, Severity: plan.Warning, Object: "configuration", Text: strings.Join(found, "; "),
			Remedy: "choose others: routing.table_base, routing.protocol",
		})
		return nil
	}
	l.Retract(codeConflict, "configuration")
	return found
}

// numbersOf are what rules and routes of ours are known by.
func numbersOf(c config.Config) [2]uint32 {
	return [2]uint32{c.Routing.TableBase, uint32(c.Routing.Protocol)}
}

// look reads the running kernel as a daemon with this configuration would.
func look(c config.Config, owned netstate.Ownership) (*netstate.Snapshot, error) {
	k, err := kernel.Open(numbers(c, owned))
	if err != nil {
		return nil, err
	}
	defer k.Close()
	return k.Occupied()
}
