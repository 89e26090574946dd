package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/control"
	"github.com/subflowd/subflowd/internal/diff"
	"github.com/subflowd/subflowd/internal/kernel"
	"github.com/subflowd/subflowd/internal/lease"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
	"github.com/subflowd/subflowd/internal/record"
	"github.com/subflowd/subflowd/pkg/status"
)

// localPlan decides as the daemon would at its start, with this configuration
// (empty: the default one) and the record of what is ours in the directory.
func localPlan(configFile, stateDir string) (*status.Plan, error) {
	cfg, _, err := config.Load(configFile)
	if err != nil {
		return nil, &exitError{code: ExitUsage, err: err}
	}
	cookie := namespace()
	owned, unusable, err := localRecord(stateDir, cookie)
	if err != nil {
		return nil, err
	}
	var notes []status.Finding
	if unusable != nil {
		notes = append(notes, status.Finding{Code: "record-unusable", Severity: status.Warning, Object: stateDir, Text: unusable.Error()})
	}
	var snap *netstate.Snapshot
	var conns []netstate.Connection
	if err := inNamespace(cfg, owned, func(k *kernel.Kernel) (err error) {
		if snap, err = k.Occupied(); err == nil {
			conns, err = k.Connections()
		}
		return err
	}); err != nil {
		return nil, localError(err)
	}
	wish := plan.Desired(plan.Input{Config: cfg, Snapshot: snap, Owned: owned})
	changes := diff.Diff(diff.Input{Snapshot: snap, Plan: wish, Owned: owned, Routing: cfg.Routing, Foreign: cfg.ForeignEndpoints})
	out := planDocument(snap.Names(), wish, changes, conns)
	for _, c := range cfg.Conflicts(snap, owned.Protocols...) {
		notes = append(notes, status.Finding{
			Code: "numbers-in-use", Severity: status.Error, Object: "configuration", Text: c,
			Remedy: "choose others: with these the daemon does not start, and a reload is refused",
		})
	}
	out.Namespace, out.Findings = cookie, append(notes, out.Findings...)
	return out, nil
}

func planDocument(n netstate.Names, wish *plan.Plan, c diff.Changes, conns []netstate.Connection) *status.Plan {
	out := &status.Plan{Schema: status.Schema}
	list := func(changes []netstate.Change) {
		for _, c := range changes {
			out.Changes = append(out.Changes, status.Change{Command: c.Text(n), Reason: c.Reason})
		}
	}
	list(c.Up)
	uses := diff.IndexConnections(conns)
	for _, u := range c.Unwanted {
		del := netstate.Change{Op: netstate.EndpointDelete, Endpoint: u.Endpoint}
		change := status.Change{Command: del.Text(n), Reason: u.Reason}
		if v := uses.Vacancy(u.Endpoint, wish.LiveAddrs, 0); v.Vacant {
			out.Changes = append(out.Changes, change)
		} else {
			change.Reason += "; " + v.Why
			out.Kept = append(out.Kept, change)
		}
	}
	list(c.Down)
	for _, f := range append(append([]plan.Finding(nil), wish.Findings...), c.Findings...) {
		out.Findings = append(out.Findings, control.FindingOf(f))
	}
	return out
}

// localRecord reads what is ours. A record that cannot be used is as none, and
// the first error says why.
func localRecord(stateDir string, cookie uint64) (owned netstate.Ownership, unusable, err error) {
	boot, err := kernel.BootID()
	if err != nil {
		return netstate.Ownership{}, nil, err
	}
	_, owned, unusable = record.Open(stateDir, boot, cookie)
	return owned, unusable, nil
}

// namespace is the cookie of this process's network namespace, and 0 before
// Linux 5.14, which has none.
func namespace() uint64 {
	cookie, err := kernel.NamespaceCookie()
	if err != nil {
		return 0
	}
	return cookie
}

// elsewhere tells whether what the daemon says is about another network
// namespace: its socket is a file, which all namespaces see.
func elsewhere(daemon uint64) bool {
	mine := namespace()
	return daemon != 0 && mine != 0 && daemon != mine
}

// inNamespace opens the network namespace of this process: the thread is
// locked while its sockets are made.
func inNamespace(cfg config.Config, owned netstate.Ownership, f func(*kernel.Kernel) error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	k, err := kernel.Open(kernel.Options{Protocol: cfg.Routing.Protocol, TableBase: cfg.Routing.TableBase, Former: owned.Protocols})
	if err != nil {
		return err
	}
	defer k.Close()
	k.Leases = new(lease.Reader).Find
	return f(k)
}

func localError(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return &exitError{code: ExitPermission, err: err, remedy: "this kernel shows endpoints to root only: use sudo"}
	}
	return &exitError{code: ExitNo, err: fmt.Errorf("look at the kernel: %w", err)}
}
