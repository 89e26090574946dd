package control

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/reconcile"
	"github.com/subflowd/subflowd/pkg/status"
)

var update = flag.Bool("update", false, "write the documents that are found to testdata")

func TestDocuments(t *testing.T) {
	daemon := status.Daemon{Version: "v0.1.0", PID: 4711, Namespace: 1, Config: []string{"/etc/subflowd/subflowd.toml"}}
	for name, build := range situations {
		t.Run(name, func(t *testing.T) {
			v := build()
			doc := Document(v, daemon, now)
			text, err := json.Marshal(doc)
			if err != nil {
				t.Fatal(err)
			}
			var found bytes.Buffer
			if err := json.Indent(&found, append(text, '\n'), "", "  "); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(file, found.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(readFile(t, file), found.String()); diff != "" {
				t.Errorf("%s (- wanted, + found; -update writes it)\n%s", file, diff)
			}
			if diff := cmp.Diff(build(), v, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
				t.Errorf("the view was changed:\n%s", diff)
			}
		})
	}
}

func TestPlanOf(t *testing.T) {
	p := PlanOf(failing())
	if len(p.Changes) != 2 || p.Changes[0].Error != "operation not permitted" ||
		p.Changes[1].Command != "ip mptcp limits set subflows 2 add_addr_accepted 4" || len(p.Findings) != 2 {
		t.Errorf("found %+v", p)
	}
	p = PlanOf(situations["lingering"]())
	want := status.Change{
		Command: "ip mptcp endpoint delete id 3",
		Reason:  "wlan0 has no carrier; the only subflow of a connection to 192.0.2.80:443",
	}
	if len(p.Changes) != 0 || len(p.Kept) != 1 || p.Kept[0] != want {
		t.Errorf("found %+v", p)
	}
}

// loop is a loop that makes two changes when it is asked to.
type loop struct {
	v      *reconcile.View
	behind bool
}

func (l *loop) View() *reconcile.View    { return l.v }
func (l *loop) Behind() bool             { return l.behind }
func (l *loop) Changed() <-chan struct{} { return nil }
func (l *loop) Reconcile(ctx context.Context) error {
	v := *l.v
	v.Recent = append(v.Recent[:len(v.Recent):len(v.Recent)],
		reconcile.Event{Seq: 17, Text: "ip -4 rule add a", Change: netstate.Change{Reason: "gone"}},
		reconcile.Event{Seq: 18, Text: "ip -4 rule add b", Err: "refused"})
	l.v = &v
	return ctx.Err()
}

func TestStatusBeforeTheNextView(t *testing.T) {
	about := func() status.Daemon { return status.Daemon{} }
	for name, want := range map[string]status.State{"laptop": status.Converging, "failing": status.Failing} {
		b := FromLoop(&loop{v: situations[name](), behind: true}, Host{About: about})
		if got := b.Status().State; got != want {
			t.Errorf("%s: %s, wanted %s", name, got, want)
		}
	}
}

func TestReconcileTellsWhatChanged(t *testing.T) {
	b := FromLoop(&loop{v: situations["laptop"]()}, Host{})
	got, err := b.Reconcile(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	want := []status.Change{{Command: "ip -4 rule add a", Reason: "gone"}, {Command: "ip -4 rule add b", Error: "refused"}}
	if diff := cmp.Diff(want, got.Changes); diff != "" || got.State != status.Converged {
		t.Errorf("%s: %s", got.State, diff)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := b.Reconcile(ended); err == nil {
		t.Error("a round that did not end is no error")
	}
}
