package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// whenReaderGone calls gone when nobody reads the output any more: who writes
// seldom would not notice for hours, as behind `| head -1`. It looks until ctx
// ends.
func (a *app) whenReaderGone(ctx context.Context, gone func()) error {
	out, ok := a.stdout.(*os.File)
	if !ok {
		return nil
	}
	wake, end, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	context.AfterFunc(ctx, func() { end.Close() })
	// Both are told without being asked for (poll(2)).
	fds := []unix.PollFd{{Fd: int32(out.Fd())}, {Fd: int32(wake.Fd())}}
	go func() {
		defer wake.Close()
		for {
			_, err := unix.Poll(fds, -1)
			switch {
			case err != nil && !errors.Is(err, unix.EINTR):
				return
			case err == nil && fds[1].Revents != 0:
				return
			case err == nil && fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0:
				gone()
				return
			case err == nil: // POLLNVAL: it was closed at the start
				return
			}
		}
	}()
	return nil
}
