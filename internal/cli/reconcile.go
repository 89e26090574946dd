package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/subflowd/subflowd/internal/control"
	"github.com/subflowd/subflowd/pkg/status"
)

// reconcileTimeout is more than the daemon gives itself.
const reconcileTimeout = 75 * time.Second

func (a *app) reconcileCommand() *cobra.Command {
	return command("reconcile", "make the daemon read everything again and put it right",
		`Makes the daemon read the whole state of the kernel again and put it right, and
prints what it changed. For root and members of group `+control.Group+`.

Exit status 1 when something could not be put right.`, func() error {
			ctx, cancel := context.WithTimeout(context.Background(), reconcileTimeout)
			defer cancel()
			var done status.Reconciled
			raw, err := a.client().ask(ctx, http.MethodPost, control.PathReconcile, &done)
			if err != nil {
				return err
			}
			if a.format == formatJSON {
				err = a.printJSON(raw)
			} else {
				a.printChanges(done.Changes)
			}
			if err == nil && done.State != status.Converged {
				err = &exitError{
					code: ExitNo, err: errors.New("reconcile: the kernel does not match yet: " + string(done.State)),
					remedy: "see subflowctl status",
				}
			}
			return err
		})
}

// printChanges prints a command a line with its reason behind it.
func (a *app) printChanges(changes []status.Change) {
	for _, c := range changes {
		a.printChange("", c)
	}
	if len(changes) == 0 {
		fmt.Fprintln(&a.out, "nothing to do")
	}
}

func (a *app) printChange(prefix string, c status.Change) {
	line := prefix + c.Command
	if c.Reason != "" {
		line += "  # " + c.Reason
	}
	if c.Error != "" {
		line += "  # failed: " + c.Error
	}
	fmt.Fprintln(&a.out, clean(line))
}
