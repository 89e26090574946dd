package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/subflowd/subflowd/internal/observe"
	"github.com/subflowd/subflowd/pkg/mptcp"
	"github.com/subflowd/subflowd/pkg/status"
)

func (a *app) countersCommand() *cobra.Command {
	o := counterOptions{interval: time.Second}
	cmd := &cobra.Command{
		Use:   "counters [NAME...]",
		Short: "the kernel's MPTCP counters, and what they mean",
		Long: `Shows the counters of Multipath TCP, and those of TCP that tell of paths, of
this network namespace since it was made: those that are not zero, the worst
first, with what each means and what to do about it. NAME asks for single ones.

It asks the kernel, needs no privilege and works without the daemon.`,
		Example: "  subflowctl counters\n  subflowctl counters --watch\n  subflowctl counters MPJoinRejected MPJoinNoTokenFound",
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return counterNames(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if o.interval <= 0 {
				return &exitError{code: ExitUsage, err: errors.New("--interval wants a duration that is more than nothing")}
			}
			o.names = args
			return a.counters(o)
		},
	}
	cmd.Flags().BoolVar(&o.all, "all", false, "those that are zero too")
	cmd.Flags().BoolVar(&o.watch, "watch", false, "go on, and show what is added and how fast")
	cmd.Flags().DurationVar(&o.interval, "interval", o.interval, "the pause of --watch")
	_ = cmd.RegisterFlagCompletionFunc("interval", cobra.FixedCompletions([]string{"1s", "10s", "1m"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

type counterOptions struct {
	all, watch bool
	interval   time.Duration
	names      []string
}

// wanted leaves the counters that were asked for.
func (o *counterOptions) wanted(list []status.KernelCounter) []status.KernelCounter {
	return slices.DeleteFunc(list, func(c status.KernelCounter) bool {
		if len(o.names) > 0 {
			return !slices.ContainsFunc(o.names, func(n string) bool { return strings.EqualFold(n, c.Name) })
		}
		return !o.all && c.Value == 0
	})
}

func (a *app) counters(o counterOptions) error {
	now, err := readCounters()
	if err != nil {
		return err
	}
	d := observe.Counters(now, nil)
	for _, n := range o.names {
		if !slices.ContainsFunc(d.Counters, func(c status.KernelCounter) bool { return strings.EqualFold(n, c.Name) }) {
			return &exitError{code: ExitNo, err: fmt.Errorf("there is no counter %q", n), remedy: "see what there is: subflowctl counters --all"}
		}
	}
	if o.watch {
		return a.watchCounters(o, now)
	}
	d.Counters = o.wanted(d.Counters)
	if a.format == formatJSON {
		return a.printJSON(d)
	}
	a.out.WriteString(countersText(d, a.coloured()))
	return nil
}

func readCounters() (*observe.CounterSample, error) {
	now, err := observe.ReadCounters()
	if errors.Is(err, mptcp.ErrUnsupported) {
		return nil, &exitError{code: ExitNo, err: errors.New("read counters: this kernel has no Multipath TCP"), remedy: "boot a kernel with CONFIG_MPTCP; see subflowctl check"}
	}
	if err != nil {
		return nil, &exitError{code: ExitNo, err: err}
	}
	return now, nil
}

// watchCounters prints what is added until it is told to stop.
func (a *app) watchCounters(o counterOptions, before *observe.CounterSample) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	tick := time.NewTicker(o.interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now, err := readCounters()
		if err != nil {
			return err
		}
		d := observe.Counters(now, before)
		before = now
		d.Counters = slices.DeleteFunc(o.wanted(d.Counters), func(c status.KernelCounter) bool { return c.Added == 0 && !o.all })
		if err := a.printCounters(d); err != nil {
			return err
		}
	}
}

// printCounters writes one look at once.
func (a *app) printCounters(d *status.KernelCounters) error {
	if a.format == formatText {
		return a.writeNow([]byte(addedText(d, a.coloured())))
	}
	text, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return a.writeNow(text, []byte{'\n'})
}

// writeNow writes what must not wait for the end of the command.
func (a *app) writeNow(parts ...[]byte) error {
	if _, err := a.stdout.Write(slices.Concat(parts...)); err != nil {
		return &exitError{code: ExitNo, err: fmt.Errorf("write the output: %w", err)}
	}
	return nil
}

var levelColours = map[status.CounterLevel]colour{status.CounterTrouble: red, status.CounterNotable: yellow}

var levelHeads = []struct {
	level status.CounterLevel
	head  string
}{
	{status.CounterTrouble, "Trouble, if it grows"},
	{status.CounterNotable, "Worth a look, if it grows"},
	{status.CounterUnknown, "Not known here"},
	{status.CounterUsual, "Usual"},
}

// The columns of counters.
const (
	nameColumn  = 23 // MPCapableFallbackSYNACK
	valueColumn = 10
)

// countersText is the text of `subflowctl counters`.
func countersText(d *status.KernelCounters, colours bool) string {
	p := &page{colours: colours}
	for _, l := range levelHeads {
		first := true
		for _, c := range d.Counters {
			if c.Level != l.level {
				continue
			}
			if first {
				if p.b.Len() > 0 {
					p.line("")
				}
				p.line(p.paint(bold, l.head))
				first = false
			}
			p.counter(c)
		}
	}
	if p.b.Len() == 0 {
		p.line("all counters are zero")
	}
	return p.b.String()
}

func (p *page) counter(c status.KernelCounter) {
	value := left(strconv.FormatUint(c.Value, 10), valueColumn)
	column := 2 + nameColumn + 1 + len(value) + 2
	front := "  " + p.paint(levelColours[c.Level], fit(clean(c.Name), nameColumn)) + " " + value + "  "
	text := c.Text
	if c.Remedy != "" && c.Value > 0 && c.Level != status.CounterUsual {
		text += ". Do: " + c.Remedy
	}
	p.beside(front, column, text)
}

// addedText is one look of --watch.
func addedText(d *status.KernelCounters, colours bool) string {
	p := &page{colours: colours}
	for _, c := range d.Counters {
		added := fmt.Sprintf("+%d (%.1f/s)", c.Added, float64(c.Added)/d.IntervalSeconds)
		if c.Value < c.Added || c.Name == "MPCurrEstab" {
			added = strconv.FormatUint(c.Value, 10) + " now"
		}
		p.line(d.Time.Local().Format(time.TimeOnly) + "  " + p.paint(levelColours[c.Level], fit(clean(c.Name), nameColumn)) + "  " + added)
	}
	return p.b.String()
}

// counterNames are the names for shells.
func counterNames() []string {
	now, err := observe.ReadCounters()
	if err != nil {
		return nil
	}
	var out []string
	for _, c := range observe.Counters(now, nil).Counters {
		out = append(out, c.Name)
	}
	return out
}
