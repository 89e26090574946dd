package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/subflowd/subflowd/internal/unit"
)

// changeTimeout is for systemd to read all of its files again, and for a
// service to stop and start.
const changeTimeout = 3 * time.Minute

func (a *app) enableCommand() *cobra.Command {
	var preview, now bool
	cmd := a.unitCommand("enable UNIT", "have systemd start a service with Multipath TCP",
		`Makes a drop-in by which systemd starts the service's own command by run. For a
socket unit it sets SocketProtocol=mptcp, which systemd knows since version 257.
The unit keeps running as it is until it is restarted.

The drop-in has the command that the unit has now: after an update or an edit
that changes ExecStart=, enable the unit again. Units that run would break are
left as they are, and the message says why.

Exit status: 0 done; 1 the unit is left as it is; 4 no permission.`,
		func(ctx context.Context, bus *unit.Bus, c unit.Changer, name string) error {
			if preview {
				text, err := c.Preview(ctx, name)
				a.out.WriteString(text)
				return err
			}
			file, err := c.Enable(ctx, name)
			if err != nil {
				return err
			}
			fmt.Fprintf(&a.out, "made %s\n", file)
			sockets, err := bus.Sockets(ctx, name)
			if err != nil {
				return err
			}
			for _, s := range sockets {
				fmt.Fprintf(&a.out, "%[1]s listens for it, and stays as it is: subflowctl enable %[1]s, or disable it and enable the service\n", s)
			}
			if err := a.restart(ctx, bus, name, now); err != nil {
				return &exitError{
					code: ExitNo, err: err,
					remedy: fmt.Sprintf("its log: journalctl -u %[1]s; to have it as before: subflowctl disable %[1]s && systemctl restart %[1]s", name),
				}
			}
			return nil
		})
	cmd.Flags().BoolVar(&preview, "dry-run", false, "print the drop-in, and change nothing")
	cmd.Flags().BoolVar(&now, "now", false, "restart the unit if it runs")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if preview && now {
			return errors.New("--dry-run changes nothing that --now could restart for")
		}
		return nil
	}
	return cmd
}

func (a *app) disableCommand() *cobra.Command {
	var now bool
	cmd := a.unitCommand("disable UNIT", "have systemd start a service as before",
		`Removes the drop-in that enable has made. The unit keeps running as it is until
it is restarted.`,
		func(ctx context.Context, bus *unit.Bus, c unit.Changer, name string) error {
			file, err := c.Disable(ctx, name)
			if err != nil {
				return err
			}
			if file == "" {
				fmt.Fprintf(&a.out, "%s was not enabled\n", name)
				return nil
			}
			fmt.Fprintf(&a.out, "removed %s\n", file)
			return a.restart(ctx, bus, name, now)
		})
	cmd.Flags().BoolVar(&now, "now", false, "restart the unit if it runs")
	return cmd
}

func (a *app) restart(ctx context.Context, bus *unit.Bus, name string, now bool) error {
	if now {
		if err := bus.Restart(ctx, name); err != nil {
			return err
		}
		return bus.Stays(ctx, name)
	}
	fmt.Fprintf(&a.out, "it counts from the next start on: systemctl restart %s\n", name)
	return nil
}

// unitCommand makes a command about one unit.
func (a *app) unitCommand(use, short, long string, run func(context.Context, *unit.Bus, unit.Changer, string) error) *cobra.Command {
	cmd := command(use, short, long, nil)
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("%s wants one unit, and there are %d", cmd.Name(), len(args))
		}
		return nil
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		name, err := unit.Name(args[0])
		if err != nil {
			return &exitError{code: ExitUsage, err: err}
		}
		err = a.withBus(func(ctx context.Context, bus *unit.Bus, c unit.Changer) error { return run(ctx, bus, c, name) })
		var known *exitError
		switch {
		case err == nil || errors.As(err, &known):
			return err
		case errors.Is(err, unit.ErrNoSystemd):
			return &exitError{code: ExitNo, err: err, remedy: "have whatever starts the service start it by run: subflowctl help run"}
		case errors.Is(err, fs.ErrPermission):
			return &exitError{code: ExitPermission, err: err, remedy: "try again as root"}
		}
		return &exitError{code: ExitNo, err: err}
	}
	return cmd
}

func (a *app) withBus(f func(context.Context, *unit.Bus, unit.Changer) error) error {
	host, err := unit.ThisHost()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), changeTimeout)
	defer cancel()
	// Whoever interrupts a change finds what was there before.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	bus, err := unit.Dial(ctx)
	if err != nil {
		return err
	}
	defer bus.Close()
	return f(ctx, bus, unit.Changer{Systemd: bus, Host: host, Path: unit.Path})
}
