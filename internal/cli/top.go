package cli

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"strings"
	"syscall"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"
)

const (
	topInterval      = time.Second
	leastTopInterval = 100 * time.Millisecond
	// topFrames bounds how often a second the screen is drawn; keys wait for it.
	topFrames = 20
)

func (a *app) topCommand() *cobra.Command {
	interval := topInterval
	cmd := command("top", "live screen: paths, connections, throughput by path",
		`Shows on one screen, again and again: the links that are paths with what they
carry now and in the last seconds, the Multipath TCP connections with their
programs and the share of each subflow, and events: the daemon's last changes,
then what comes. Keys sort, filter, scroll and pause; ? lists them, q quits.

It asks the kernel, and works without the daemon: paths are then those that it
would use. The kernel tells its events to root only, and some kernels show
subflows to root only. It needs a terminal of 70 columns and 14 lines.`,
		func() error { return a.top(interval) })
	cmd.Example = "  subflowctl top\n  subflowctl top --interval 5s"
	cmd.Flags().DurationVar(&interval, "interval", interval, "look so often, as 500ms or 5s")
	_ = cmd.RegisterFlagCompletionFunc("interval", cobra.FixedCompletions([]string{"500ms", "1s", "2s", "5s", "10s"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *app) top(interval time.Duration) error {
	switch {
	case interval < leastTopInterval:
		return &exitError{code: ExitUsage, err: fmt.Errorf("--interval wants %v at least", leastTopInterval)}
	case a.format != formatText:
		return &exitError{code: ExitUsage, err: errors.New("top is a screen for people"), remedy: "for programs: subflowctl -o json connections, subflowctl -o json monitor"}
	}
	if err := a.canDraw(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer stop()
	source, err := a.openTop(ctx)
	if err != nil {
		return err
	}
	defer source.close()
	m := newTopModel(interval, a.coloured(), a.blocks())
	m.sample, m.ask, m.listen = source.sample, source.ask, source.listen
	// The library's own handling of signals ends without waiting for its reader,
	// which then races with the terminal's restoration.
	program := tea.NewProgram(m, tea.WithInput(a.stdin), tea.WithOutput(a.stdout), tea.WithEnvironment(a.terminalEnv()), tea.WithFPS(topFrames), tea.WithoutSignalHandler())
	defer context.AfterFunc(ctx, program.Quit)()
	if _, err = program.Run(); err != nil && ctx.Err() == nil {
		return &exitError{code: ExitNo, err: fmt.Errorf("draw the screen: %w", err)}
	}
	return nil
}

// canDraw says why there is no screen to draw on.
func (a *app) canDraw() error {
	var why string
	switch {
	case !isTerminal(a.stdin):
		why = "its input is none"
	case !isTerminal(a.stdout):
		why = "its output is none"
	case sizeless(a.stdout):
		why = "this one does not say its size: stty rows 24 columns 80"
	case a.env["TERM"] == "":
		why = "TERM does not say which this one is"
	case a.env["TERM"] == "dumb":
		why = "TERM says that this one is dumb"
	default:
		return nil
	}
	return &exitError{
		code: ExitUsage, err: errors.New("top needs a terminal that can move its cursor, and " + why),
		remedy: "without one: subflowctl connections, subflowctl monitor",
	}
}

// sizeless tells whether a terminal has no size, as serial lines and those of
// some containers.
func sizeless(stream any) bool {
	size := windowSize(stream)
	return size != nil && (size.Row == 0 || size.Col == 0)
}

// blocks tells whether the terminal has the block elements of Unicode. The
// console of Linux has few of them in its fonts.
func (a *app) blocks() bool {
	if a.env["TERM"] == "linux" {
		return false
	}
	for _, key := range []string{"LC_ALL", "LC_CTYPE", "LANG"} { // in the order of locale(7)
		if v := strings.ToUpper(a.env[key]); v != "" {
			return strings.Contains(v, "UTF-8") || strings.Contains(v, "UTF8")
		}
	}
	return false
}

// terminalEnv is what the library may know of the environment. With TMUX in it,
// it would run `tmux info` to find out about colours that are not used here.
func (a *app) terminalEnv() []string {
	var out []string
	for _, key := range []string{"TERM", "TERM_PROGRAM", "SSH_TTY", "WT_SESSION", "NO_COLOR"} {
		if v, ok := a.env[key]; ok {
			out = append(out, key+"="+v)
		}
	}
	return out
}
