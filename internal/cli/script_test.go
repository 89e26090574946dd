package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/subflowd/subflowd/internal/control"
	"github.com/subflowd/subflowd/pkg/status"
)

func TestMain(m *testing.M) {
	testscript.Main(leakless{m}, map[string]func(){
		"subflowctl": func() { os.Exit(Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Environ())) },
	})
}

// leakless has the tests fail when goroutines are left.
type leakless struct{ *testing.M }

func (l leakless) Run() int {
	code := l.M.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// TestScripts runs the program as users do. Beside testscript's own commands:
//
//	daemon SITUATION    a daemon on $WORK/control.sock that answers with a document
//	                    of internal/control/testdata; again: it changes its mind
//	daemon stop
//	listen              somebody else on that socket, who never answers
//	code N COMMAND...   runs the command, which must exit with N
//	nobody N COMMAND... the same as another user, in an empty network namespace; what
//	                    it prints is in the files out and err
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("RUNTIME_DIRECTORY", e.WorkDir)
			d := &daemon{socket: filepath.Join(e.WorkDir, "control.sock")}
			e.Values[daemonKey{}] = d
			e.Defer(d.stop)
			// Another user has to come by.
			return errors.Join(os.Chmod(e.WorkDir, 0o777), os.Chmod(filepath.Dir(e.WorkDir), 0o755))
		},
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, errors.New("unknown condition")
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"daemon": func(ts *testscript.TestScript, _ bool, args []string) { theDaemon(ts).command(ts, args[0]) },
			"listen": func(ts *testscript.TestScript, _ bool, _ []string) {
				l, err := net.Listen("unix", theDaemon(ts).socket)
				ts.Check(err)
				ts.Defer(func() { l.Close() })
			},
			"code":   code,
			"nobody": nobody,
		},
	})
}

type daemonKey struct{}

func theDaemon(ts *testscript.TestScript) *daemon { return ts.Value(daemonKey{}).(*daemon) }

func code(ts *testscript.TestScript, _ bool, args []string) {
	found := exitCode(ts, ts.Exec(args[1], args[2:]...))
	if found != args[0] {
		ts.Fatalf("exit code %s, want %s", found, args[0])
	}
}

func exitCode(ts *testscript.TestScript, err error) string {
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		ts.Fatalf("%v", err)
	}
	if exit == nil {
		return "0"
	}
	return strconv.Itoa(exit.ExitCode())
}

func nobody(ts *testscript.TestScript, _ bool, args []string) {
	var out, err bytes.Buffer
	// The binary lies where only root can read it.
	cmd := exec.Cmd{
		Path: "/proc/self/exe", Args: args[1:], Stdout: &out, Stderr: &err, Dir: "/",
		Env:         []string{"RUNTIME_DIRECTORY=" + ts.Getenv("WORK")},
		SysProcAttr: &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Credential: &syscall.Credential{Uid: 4711, Gid: 4711}},
	}
	found := exitCode(ts, cmd.Run())
	ts.Check(os.WriteFile(ts.MkAbs("out"), out.Bytes(), 0o644))
	ts.Check(os.WriteFile(ts.MkAbs("err"), err.Bytes(), 0o644))
	if found != args[0] {
		ts.Fatalf("exit code %s, want %s: %s%s", found, args[0], &out, &err)
	}
}

// daemon is a real control server with a backend that answers by heart.
type daemon struct {
	socket string
	cancel context.CancelFunc
	done   chan error

	mu      sync.Mutex
	doc     status.Document
	changed chan struct{}
}

func (d *daemon) command(ts *testscript.TestScript, situation string) {
	if situation == "stop" {
		d.stop()
		return
	}
	text, err := os.ReadFile(filepath.Join(startDir, "../control/testdata", situation+".json"))
	ts.Check(err)
	var doc status.Document
	ts.Check(json.Unmarshal(text, &doc))
	// The document is of some other host.
	doc.Daemon.Namespace = 0
	d.set(doc)
	if d.cancel != nil {
		return
	}
	l, err := control.Listen(d.socket)
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel, d.done = cancel, make(chan error, 1)
	go func() { d.done <- control.New(d, control.Options{}).Serve(ctx, l) }()
}

// startDir is where the tests start: scripts change their own directory only.
var startDir, _ = os.Getwd()

func (d *daemon) stop() {
	if d.cancel != nil {
		d.cancel()
		<-d.done
		d.cancel = nil
	}
}

func (d *daemon) set(doc status.Document) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.doc = doc
	if d.changed != nil {
		close(d.changed)
	}
	d.changed = make(chan struct{})
}

func (d *daemon) Status() status.Document {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.doc
}

func (d *daemon) Changed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

func (d *daemon) Traffic([]status.Path) {}

func (d *daemon) Plan() status.Plan {
	var p status.Plan
	for _, c := range d.Status().Pending {
		p.Changes = append(p.Changes, status.Change{Command: c.Command, Reason: c.Reason, Error: c.Error})
	}
	return p
}

func (d *daemon) Reconcile(context.Context) (status.Reconciled, error) {
	doc := d.Status()
	r := status.Reconciled{State: doc.State}
	if c := doc.LastChange; c != nil {
		r.Changes = []status.Change{{Command: c.Command, Reason: c.Reason}}
	}
	return r, nil
}

func (d *daemon) Reload(context.Context) (status.Reloaded, error) {
	doc := d.Status()
	r := status.Reloaded{Taken: doc.State != status.Failing, Config: doc.Daemon.Config, State: doc.State}
	if c := doc.LastChange; c != nil && r.Taken {
		r.Changes = []status.Change{{Command: c.Command, Reason: c.Reason}}
	}
	if !r.Taken {
		r.Problems = []status.Problem{{File: "/etc/subflowd/subflowd.toml", Line: 2, Column: 1, Text: `unknown key "rolle"`, Meant: "role", Excerpt: "rolle = 1"}}
		r.Report = "/etc/subflowd/subflowd.toml:2:1: unknown key \"rolle\"\n   2 | rolle = 1\n     | ^^^^^\n       did you mean role?"
	}
	return r, nil
}

// Follow tells of the state at every look, and of the last change first.
func (d *daemon) Follow(recent int) control.Follower { return &follower{d: d, recent: recent} }

type follower struct {
	d      *daemon
	recent int
}

func (f *follower) Next() []status.Event {
	doc := f.d.Status()
	e := status.Event{Schema: status.Schema, Time: doc.Time, Source: status.FromDaemon}
	var out []status.Event
	if c := doc.LastChange; c != nil && f.recent > 0 {
		change := e
		change.Type, change.Text, change.Command, change.Reason = status.EventChange, c.Command+": "+c.Reason, c.Command, c.Reason
		out, f.recent = append(out, change), 0
	}
	e.Type, e.State, e.Text = status.EventState, doc.State, "the state is "+string(doc.State)
	return append(out, e)
}

// Explain answers with a document of internal/control/testdata/explain.
func (d *daemon) Explain(what string) (status.Explanation, bool) {
	var e status.Explanation
	text, err := os.ReadFile(filepath.Join(startDir, "../control/testdata/explain", what+".json"))
	return e, err == nil && json.Unmarshal(text, &e) == nil
}
