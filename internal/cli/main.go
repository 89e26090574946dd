// Package cli is subflowctl: a client of the daemon's control socket, and what
// works without the daemon.
//
// The files: main (exit codes), root (the command tree), client (the control
// socket), one file for each command (top has several), and text (columns,
// colours, wrapping).
// A command is a constructor that root lists.
package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/subflowd/subflowd/internal/run"
)

// Exit codes of every command.
const (
	ExitDone        = 0 // yes, or done
	ExitNo          = 1 // no: a finding, a timeout, a refusal
	ExitUsage       = 2
	ExitUnreachable = 3 // the daemon cannot be reached
	ExitPermission  = 4
)

// exitError is an error with its exit code and with what to do.
type exitError struct {
	code   int
	err    error
	remedy string
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// app is one run of the program.
type app struct {
	stdin   io.Reader
	stdout  io.Writer
	stderr  io.Writer
	env     map[string]string
	environ []string // env as it came

	socket string
	format format
	out    bytes.Buffer // what goes to stdout at the end of a command
}

// Main runs subflowctl with the arguments behind the program's name and an
// environment of KEY=VALUE entries. It returns the exit code.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer, env []string) int {
	if len(args) > 0 && args[0] == run.Command {
		return run.Supervisor(args[1:])
	}
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, env: map[string]string{}, environ: env, format: formatText}
	for _, e := range env {
		if k, v, ok := strings.Cut(e, "="); ok {
			a.env[k] = v
		}
	}
	if w := narrowed(stdout); w != width {
		width = w
	}
	root := a.root()
	root.SetArgs(args)
	command, err := root.ExecuteC()
	// A command that fails may have an answer all the same.
	if _, werr := stdout.Write(a.out.Bytes()); werr != nil && err == nil {
		err = &exitError{code: ExitNo, err: fmt.Errorf("write the output: %w", werr)}
	}
	return a.report(command, err)
}

// report writes the error of a command, if any, and returns the exit code. An
// error that no command made is cobra's own: a mistake in the arguments.
func (a *app) report(command *cobra.Command, err error) int {
	if err == nil {
		return ExitDone
	}
	var e *exitError
	if !errors.As(err, &e) {
		e = &exitError{code: ExitUsage, err: err}
	}
	if e.code == ExitUsage && e.remedy == "" {
		name := strings.TrimPrefix(command.CommandPath(), command.Root().Name())
		e.remedy = "see subflowctl help" + name
	}
	for line := range strings.Lines(strings.TrimSpace(e.err.Error()) + "\n" + e.remedy) {
		if line = strings.TrimSpace(line); line != "" {
			fmt.Fprintf(a.stderr, "subflowctl: %s\n", clean(line))
		}
	}
	return e.code
}
