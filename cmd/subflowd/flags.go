package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"go.uber.org/zap/zapcore"

	"github.com/subflowd/subflowd/internal/logging"
)

const usage = `Usage: subflowd [OPTION]...
Keeps every path of this host ready for Multipath TCP: policy routing for each
source address, and the endpoints of the kernel's path manager. Runs in the
foreground until SIGTERM or SIGINT, and then leaves everything in place.

  --config FILE         configuration (default /etc/subflowd/subflowd.toml, which may be missing)
  --state-dir DIR       state record (default $RUNTIME_DIRECTORY or /run/subflowd)
  --socket PATH         control socket (default control.sock in the state directory)
  --log-level LEVEL     debug, info (default), warn, error
  --log-format FORMAT   auto (default: the journal under systemd, else console), console, json, journal
  --once                make the kernel match and exit; 3 if that takes more than 10 s
  --check-config        read the configuration, print every mistake in it, and exit
  --print-reference     print a configuration file with every setting and its default, explained
  --cleanup             remove all that subflowd made, restore the limits, and exit;
                        with the endpoints MPTCP connections lose their subflows
  --version             print the version and exit

Exit status: 0 done or stopped, 1 failed, 2 usage or configuration, 3 not converged.
`

// runtimeDir is where the state is kept if nothing else is said: on a tmpfs, for
// it must not outlive the boot.
const runtimeDir = "/run/subflowd"

type flags struct {
	config   string
	stateDir string
	socket   string
	level    zapcore.Level
	format   logging.Format

	once, checkConfig, cleanup, version, printReference bool
}

var errHelp = errors.New("help")

func parseFlags(args []string) (flags, error) {
	var f flags
	var level, format string
	s := flag.NewFlagSet("subflowd", flag.ContinueOnError)
	s.SetOutput(io.Discard)
	s.StringVar(&f.config, "config", "", "")
	s.StringVar(&f.stateDir, "state-dir", "", "")
	s.StringVar(&f.socket, "socket", "", "")
	s.StringVar(&level, "log-level", "info", "")
	s.StringVar(&format, "log-format", "auto", "")
	s.BoolVar(&f.once, "once", false, "")
	s.BoolVar(&f.checkConfig, "check-config", false, "")
	s.BoolVar(&f.cleanup, "cleanup", false, "")
	s.BoolVar(&f.version, "version", false, "")
	s.BoolVar(&f.printReference, "print-reference", false, "")
	err := s.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return f, errHelp
	case err != nil:
		return f, err
	case s.NArg() > 0:
		return f, fmt.Errorf("unexpected argument %q", s.Arg(0))
	}
	modes := 0
	for _, m := range []bool{f.once, f.checkConfig, f.cleanup} {
		if m {
			modes++
		}
	}
	if modes > 1 {
		return f, errors.New("only one of --once, --check-config and --cleanup can be given")
	}
	s.Visit(func(x *flag.Flag) {
		if x.Value.String() == "" && err == nil {
			err = fmt.Errorf("--%s is empty", x.Name)
		}
	})
	if err == nil {
		f.level, err = logging.ParseLevel(level)
	}
	if err == nil {
		f.format, err = logging.ParseFormat(format)
	}
	if f.stateDir == "" {
		f.stateDir = defaultStateDir()
	}
	if f.socket == "" {
		f.socket = filepath.Join(f.stateDir, "control.sock")
	}
	return f, err
}

// defaultStateDir is the first directory that systemd made for the unit; the
// variable lists all, with colons between (systemd.exec(5)).
func defaultStateDir() string {
	if dir, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":"); dir != "" {
		return dir
	}
	return runtimeDir
}
