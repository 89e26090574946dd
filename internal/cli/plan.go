package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/subflowd/subflowd/internal/control"
	"github.com/subflowd/subflowd/pkg/status"
)

func (a *app) planCommand() *cobra.Command {
	var configFile, stateDir string
	cmd := command("plan", "what would change now, as commands of ip(8)",
		`Prints what would change now, one command of ip(8) a line with its reason.

Asks the daemon of this network namespace. With --config or --state-dir, or when
there is none, reads the kernel and decides by itself, so that a candidate
configuration can be tried before it is installed. Nothing is changed.`, func() error {
			return a.plan(configFile, stateDir)
		})
	cmd.Flags().StringVar(&configFile, "config", "", "decide with this configuration `file`")
	cmd.Flags().StringVar(&stateDir, "state-dir", "", "the `directory` of the record of what is ours (default "+defaultRuntimeDir+")")
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	return cmd
}

func (a *app) plan(configFile, stateDir string) error {
	if configFile == "" && stateDir == "" {
		var p status.Plan
		raw, err := a.client().get(control.PathPlan, &p)
		switch {
		case err == nil && elsewhere(p.Namespace):
		case err == nil && a.format == formatJSON:
			return a.printJSON(raw)
		case err == nil:
			a.printPlan(&p)
			return nil
		case err != nil && !isUnreachable(err):
			return err
		}
	}
	if stateDir == "" {
		stateDir = a.runtimeDir()
	}
	p, err := localPlan(configFile, stateDir)
	if err != nil {
		return err
	}
	if a.format == formatJSON {
		return a.printJSON(p)
	}
	a.printPlan(p)
	return nil
}

// printPlan prints a script: all but the commands is comments.
func (a *app) printPlan(p *status.Plan) {
	a.printChanges(p.Changes)
	for _, c := range p.Kept {
		a.printChange("# once no connection needs it: ", c)
	}
	for _, f := range p.Findings {
		line := fmt.Sprintf("# %s: %s: %s", f.Severity, f.Object, f.Text)
		if f.Remedy != "" {
			line += " (" + f.Remedy + ")"
		}
		fmt.Fprintln(&a.out, clean(line))
	}
}
