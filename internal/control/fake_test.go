package control

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/subflowd/subflowd/pkg/status"
)

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) != "" {
		os.Exit(helper())
	}
	goleak.VerifyTestMain(m)
}

// fake is a backend that is told what to answer.
type fake struct {
	mu         sync.Mutex
	doc        status.Document
	changed    chan struct{}
	reconciles int
	reloads    int
	fails      error
	reloaded   status.Reloaded
	asked      atomic.Int64 // for Changed
}

func newFake() *fake {
	return &fake{doc: status.Document{State: status.Converging}, changed: make(chan struct{})}
}

func (f *fake) Status() status.Document {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.doc
}

func (f *fake) Traffic(paths []status.Path) {
	for i := range paths {
		paths[i].Traffic = &status.Traffic{Subflows: i + 1}
	}
}

func (f *fake) Plan() status.Plan {
	return status.Plan{Changes: []status.Change{{Command: "ip -4 rule add from 10.1.1.2 lookup 100002", Reason: "address of eth0"}}}
}

func (f *fake) Reconcile(context.Context) (status.Reconciled, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reconciles++
	return status.Reconciled{State: f.doc.State}, f.fails
}

func (f *fake) Reload(context.Context) (status.Reloaded, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reloads++
	return f.reloaded, f.fails
}

func (f *fake) Explain(what string) (status.Explanation, bool) {
	return status.Explanation{What: what, Kind: "link"}, what == "eth0"
}

// Follow tells of the state at every look.
func (f *fake) Follow(int) Follower { return (*fakeFollower)(f) }

type fakeFollower fake

func (f *fakeFollower) Next() []status.Event {
	return []status.Event{{Schema: status.Schema, Source: status.FromDaemon, Type: status.EventState, State: (*fake)(f).Status().State}}
}

func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reconciles
}

func (f *fake) Changed() <-chan struct{} {
	f.asked.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

func (f *fake) set(d status.Document) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.doc = d
	close(f.changed)
	f.changed = make(chan struct{})
}

// start serves the backend on a new socket until the test ends, and returns the
// socket's path and a function that stops the server and returns what Serve did.
func start(t *testing.T, b Backend, o Options) (path string, stop func() error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "control.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- New(b, o).Serve(ctx, l) }()
	stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(30 * time.Second):
			return errors.New("the server does not stop")
		}
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return path, stop
}

func client(path string) *http.Client {
	return &http.Client{Timeout: 60 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}
}

func do(t *testing.T, path, method, target string, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, "http://x"+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client(path).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}
