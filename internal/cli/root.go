package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/subflowd/subflowd/internal/version"
)

const (
	defaultRuntimeDir = "/run/subflowd"
	socketName        = "control.sock"
)

// runtimeDir is the daemon's directory as both programs find it: systemd may
// list several in $RUNTIME_DIRECTORY (systemd.exec(5)), and the first counts.
func (a *app) runtimeDir() string {
	if first, _, _ := strings.Cut(a.env["RUNTIME_DIRECTORY"], ":"); first != "" {
		return first
	}
	return defaultRuntimeDir
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "subflowctl",
		Short: "shows what subflowd did for Multipath TCP, and why",
		Long: `subflowctl shows what subflowd did for Multipath TCP, and why.

Exit status: 0 yes or done; 1 no (a finding, a timeout); 2 usage;
3 the daemon cannot be reached; 4 no permission.`,
		Version:       version.String(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			fmt.Fprint(a.stderr, cmd.UsageString())
			return errors.New("a command is needed")
		},
	}
	root.SetIn(a.stdin)
	root.SetOut(&a.out)
	root.SetErr(a.stderr)
	root.SetUsageTemplate(strings.NewReplacer(
		"Flags.FlagUsages", fmt.Sprintf("Flags.FlagUsagesWrapped %d", fullWidth),
		"for more information about a command", "for more",
	).Replace(root.UsageTemplate()))
	root.SetVersionTemplate("subflowctl {{.Version}}\n")
	flags := root.PersistentFlags()
	flags.StringVar(&a.socket, "socket", filepath.Join(a.runtimeDir(), socketName), "the daemon's control `socket`")
	flags.VarP(&a.format, "output", "o", "how to print: text or json")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	root.AddCommand(
		a.statusCommand(), a.planCommand(), a.waitCommand(), a.explainCommand(),
		a.connectionsCommand(), a.countersCommand(), a.monitorCommand(), a.topCommand(),
		a.probeCommand(),
		a.checkCommand(),
		a.reloadCommand(), a.reconcileCommand(), a.runCommand(), a.enableCommand(), a.disableCommand(), a.versionCommand(),
	)
	root.SetHelpCommand(helpCommand())
	root.InitDefaultCompletionCmd()
	// cobra's own shows the help for a shell that it does not know, and exits 0.
	if completion, _, err := root.Find([]string{"completion"}); err == nil {
		completion.Short = "the script that completes commands in a shell"
		completion.RunE = func(*cobra.Command, []string) error {
			return errors.New("completion wants a shell: bash, zsh, fish or powershell")
		}
	}
	return root
}

// helpCommand is cobra's, but for a topic that does not exist, which is an
// error here.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "explain a command",
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err != nil || found == nil || found == cmd.Root() && len(rest) > 0 {
				return unknownCommand(cmd.Root(), args[0])
			}
			found.InitDefaultHelpFlag()
			return found.Help()
		},
	}
}

func unknownCommand(root *cobra.Command, name string) error {
	text := fmt.Sprintf("unknown command %q", name)
	// Two letters of three make another word.
	root.SuggestionsMinimumDistance = min(2, len(name)/3)
	if like := root.SuggestionsFor(name); len(like) > 0 {
		text += ", did you mean " + strings.Join(like, " or ") + "?"
	}
	return errors.New(text)
}

// command makes a command that takes no arguments, or those of use. Errors
// that run does not mark otherwise mean "no".
func command(use, short, long string, run func() error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			err := run()
			var e *exitError
			if err != nil && !errors.As(err, &e) {
				err = &exitError{code: ExitNo, err: err}
			}
			return err
		},
	}
}

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s takes no argument, and %q is one", cmd.Name(), args[0])
	}
	return nil
}

// printJSON prints a document, or the daemon's own bytes: what it says and
// this program does not know yet stays in.
func (a *app) printJSON(document any) error {
	raw, ok := document.(json.RawMessage)
	if !ok {
		var err error
		if raw, err = json.Marshal(document); err != nil {
			return fmt.Errorf("write JSON: %w", err)
		}
	}
	var b bytes.Buffer
	if err := json.Indent(&b, bytes.TrimSpace(raw), "", "  "); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	b.WriteByte('\n')
	_, err := a.out.Write(b.Bytes())
	return err
}

// format is the value of -o.
type format string

const (
	formatText format = "text"
	formatJSON format = "json"
)

func (f *format) String() string { return string(*f) }

// Type is what the help shows for the value.
func (f *format) Type() string { return "format" }

func (f *format) Set(s string) error {
	switch format(s) {
	case formatText, formatJSON:
		*f = format(s)
		return nil
	}
	return errors.New("want text or json")
}
