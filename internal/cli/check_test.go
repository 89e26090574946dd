package cli

import (
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
