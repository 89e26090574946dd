package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/subflowd/subflowd/internal/control"
	"github.com/subflowd/subflowd/pkg/status"
)

func (a *app) reloadCommand() *cobra.Command {
	return command("reload", "make the daemon read its configuration again",
		`Makes the daemon read its configuration again and put it into effect, and prints
what that changed. A configuration with a mistake is not taken: what ran before
goes on, and all mistakes are printed. For root and members of group `+control.Group+`.

Exit status 1 when the configuration was not taken.`, func() error {
			ctx, cancel := context.WithTimeout(context.Background(), reconcileTimeout)
			defer cancel()
			var done status.Reloaded
			raw, err := a.client().ask(ctx, http.MethodPost, control.PathReload, &done)
			if err != nil {
				return err
			}
			if a.format == formatJSON {
				err = a.printJSON(raw)
			} else if done.Taken {
				a.printReloaded(&done)
			}
			if err != nil || done.Taken {
				return err
			}
			if a.format != formatJSON {
				for line := range strings.Lines(done.Report) {
					fmt.Fprintln(a.stderr, clean(strings.TrimRight(line, "\n")))
				}
			}
			return &exitError{
				code: ExitNo, err: errors.New("reload: the configuration was not taken; what ran before goes on"),
				remedy: "correct it, and look at it by: subflowd --check-config",
			}
		})
}

func (a *app) printReloaded(done *status.Reloaded) {
	from := "the built-in defaults"
	if len(done.Config) > 0 {
		from = strings.Join(done.Config, ", ")
	}
	fmt.Fprintln(&a.out, clean("# configuration taken: "+from))
	a.printChanges(done.Changes)
	if done.State != status.Converged {
		fmt.Fprintf(&a.out, "# %s: see subflowctl status\n", done.State)
	}
}
