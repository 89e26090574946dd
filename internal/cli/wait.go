package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/subflowd/subflowd/internal/control"
	"github.com/subflowd/subflowd/pkg/status"
)

const (
	defaultWait = 30 * time.Second
	retryWait   = 100 * time.Millisecond // between looks for the daemon
	answerSlack = 3 * time.Second        // for an answer at the end of the time
)

func (a *app) waitCommand() *cobra.Command {
	var timeout time.Duration
	var paths uint16
	cmd := command("wait", "wait until the kernel matches, for scripts",
		`Waits until the kernel holds all that it should, and until at least N distinct
links are live paths. Waits for the daemon too, if it is not there yet.

Exit status: 0 it is so; 1 the time was over first, and the message says what
is missing; 3 the time was over and the daemon cannot be reached.`, func() error {
			if timeout < 0 {
				return &exitError{code: ExitUsage, err: errors.New("--timeout wants a duration that is not negative")}
			}
			return a.wait(timeout, int(paths))
		})
	cmd.Flags().DurationVar(&timeout, "timeout", defaultWait, "how long at most, as 500ms or 2m; 0 looks once")
	cmd.Flags().Uint16Var(&paths, "paths", 0, "how many distinct `links` must be paths")
	return cmd
}

func (a *app) wait(timeout time.Duration, paths int) error {
	c := a.client()
	end := time.Now().Add(timeout)
	for {
		var waited status.Waited
		raw, err := c.waitOnce(time.Until(end), paths, &waited)
		left := time.Until(end)
		switch {
		case err == nil && (waited.Done || left <= 0):
			return a.waited(raw, waited, timeout)
		case err == nil:
			continue
		case !isUnreachable(err) || left <= 0:
			return err
		}
		time.Sleep(min(left, retryWait))
	}
}

// waitOnce lets the daemon wait, for as long as it does in one request.
func (c *client) waitOnce(left time.Duration, paths int, waited *status.Waited) (json.RawMessage, error) {
	left = min(max(left, 0), control.MaxWait)
	ctx, cancel := context.WithTimeout(context.Background(), left+answerSlack)
	defer cancel()
	path := control.PathWait + "?paths=" + strconv.Itoa(paths) + "&timeout=" + strconv.FormatFloat(left.Seconds(), 'f', 3, 64)
	return c.ask(ctx, http.MethodGet, path, waited)
}

func (a *app) waited(raw json.RawMessage, w status.Waited, timeout time.Duration) error {
	if a.format == formatJSON {
		if err := a.printJSON(raw); err != nil {
			return err
		}
	}
	if !w.Done {
		return &exitError{code: ExitNo, err: fmt.Errorf("not so after %v: %s", timeout, strings.Join(w.Missing, "; "))}
	}
	if a.format == formatText {
		fmt.Fprintln(&a.out, clean(string(w.State)+"; links that are paths: "+orNone(w.Links)))
	}
	return nil
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
