package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/spf13/cobra"

	"github.com/subflowd/subflowd/internal/run"
)

// Exit codes of run, as those of env(1).
const (
	exitRunFailed  = 125 // run itself
	exitCannotExec = 126
	exitNotFound   = 127
)

func (a *app) runCommand() *cobra.Command {
	var quiet bool
	var name string
	cmd := &cobra.Command{
		Use:   "run [OPTION]... [--] COMMAND [ARGUMENT]...",
		Short: "start a program with Multipath TCP instead of TCP",
		Long: `Executes COMMAND. Every TCP socket that it or a child of it makes is an MPTCP one;
the program need not know, and may be static. It takes over the process, with
its number, terminal, signals, environment and open files.

A seccomp filter hands each socket(2) call for TCP to a supervisor, a process
that ends with the last one that carries the filter. Calls go on as plain TCP
where Multipath TCP is off, and in a process that has changed to another
control group, or to a network namespace that the supervisor may not enter. A
socket has the caller's user, and the control group and security label of the
supervisor, which are those that run was started with. Should somebody kill the
supervisor, new TCP sockets fail with ENOSYS until the program is started again.

Without CAP_SYS_ADMIN the program gets no_new_privs: set-user-ID programs that
it starts, as sudo, run without their privileges. 32-bit programs that use
socketcall(2) keep plain TCP.

Exit status: the program's own; 125 run itself failed; 126 COMMAND cannot be
executed; 127 it is not there.`,
		Example: `  subflowctl run -- curl -O https://example.org/file
  subflowctl run iperf3 -s`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var argv0 *string
			if cmd.Flags().Changed("argv0") {
				argv0 = &name // which may be empty
			}
			return a.run(args, argv0, quiet)
		},
	}
	cmd.Flags().SetInterspersed(false) // what follows COMMAND is its own
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "no warning when the program will use plain TCP")
	cmd.Flags().StringVarP(&name, "argv0", "a", "", "the `name` that the program finds as its own")
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return &exitError{code: exitRunFailed, err: err, remedy: "see subflowctl help run"}
	})
	return cmd
}

func (a *app) run(args []string, argv0 *string, quiet bool) error {
	if len(args) == 0 {
		return &exitError{code: exitRunFailed, err: errors.New("run wants a command"), remedy: "see subflowctl help run"}
	}
	p := run.Program{Args: slices.Clone(args), Env: a.environ}
	if argv0 != nil {
		p.Args[0] = *argv0
	}
	if !quiet {
		p.Warn = func(err error) { fmt.Fprintf(a.stderr, "subflowctl: %s\n", clean(err.Error())) }
	}
	var err error
	if p.Path, err = run.Look(args[0], p.Env); err == nil {
		err = run.Exec(p)
	}
	var lost *run.SupervisorError
	switch {
	case errors.As(err, &lost):
		return &exitError{code: exitRunFailed, err: err}
	case errors.Is(err, fs.ErrNotExist):
		return &exitError{code: exitNotFound, err: err}
	}
	return &exitError{code: exitCannotExec, err: err}
}
