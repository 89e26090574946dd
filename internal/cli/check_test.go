package cli

import (
	"strings"
	"testing"

	"github.com/subflowd/subflowd/pkg/status"
)

// TestWhatTheDaemonSays: without its state every rule that others put before
// its own would be answered with "subflowctl reconcile", which changes nothing.
func TestWhatTheDaemonSays(t *testing.T) {
	for state, want := range map[status.State]bool{status.Converged: true, status.Converging: false, status.Failing: false} {
		if got := daemonFacts(&status.Document{State: state}).Converged; got != want {
			t.Errorf("%s: converged %t", state, got)
		}
	}
	if daemonFacts(nil) != nil {
		t.Error("no daemon has no word")
	}
}

// TestNoDaemonIsSaid: all may be in place while nobody keeps it.
func TestNoDaemonIsSaid(t *testing.T) {
	const note = "no subflowd runs here"
	for _, c := range []struct {
		doc  status.Checked
		want bool
	}{
		{status.Checked{Daemon: true}, false},
		{status.Checked{}, true},
		{status.Checked{Unseen: []status.Unseen{{What: daemonUnseen, Reason: "it does not answer"}}}, false},
		{status.Checked{Findings: []status.CheckFinding{{Code: "daemon-absent", Object: "subflowd"}}}, false},
	} {
		if text := checkText(&c.doc, false); strings.Contains(text, note) != c.want {
			t.Errorf("wanted %v: %s", c.want, text)
		}
	}
}
