// Command subflowd keeps policy routing and the Multipath TCP path manager in
// step with the host's links.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/logging"
	"github.com/subflowd/subflowd/internal/version"
)

// Exit statuses.
const (
	exitDone       = 0 // stopped as asked, or converged
	exitFailed     = 1
	exitUsage      = 2 // or configuration
	exitUnfinished = 3 // --once could not converge
)

func main() {
	// The loop works on one thing at a time: a second thread would be woken for
	// each of its steps, to find nothing to do.
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1)
	}
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(softMemory)
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// A host at rest has a live heap of 1 MiB. Some rounds of a storm make as much
// garbage, and collecting it after each is a third of their cost.
const (
	gcPercent  = 200
	softMemory = 28 << 20 // bytes; soft: more is taken when it is needed
)

func run(args []string, stdout, stderr io.Writer) int {
	f, err := parseFlags(args)
	switch {
	case errors.Is(err, errHelp):
		fmt.Fprint(stdout, usage)
		return exitDone
	case err != nil:
		fmt.Fprintf(stderr, "subflowd: %v (try --help)\n", err)
		return exitUsage
	case f.version:
		fmt.Fprintln(stdout, "subflowd "+version.String())
		return exitDone
	case f.printReference:
		_, _ = stdout.Write(config.Reference())
		return exitDone
	}
	cfg, files, err := config.Load(f.config)
	if err != nil {
		// Without the program's name before each line: editors find the places.
		fmt.Fprintln(stderr, err)
		return exitUsage
	}
	if f.checkConfig {
		from := "built-in defaults"
		if len(files) > 0 {
			from = strings.Join(files, ", ")
		}
		fmt.Fprintf(stdout, "configuration is valid: %s\n", from)
		return exitDone
	}
	if !capable() {
		fmt.Fprintln(stderr, "subflowd: CAP_NET_ADMIN is missing: run it as root, by its systemd unit, or with AmbientCapabilities=CAP_NET_ADMIN")
		return exitFailed
	}
	d, err := start(f, cfg, files, logging.New(f.format, f.level, stderr))
	var conflicts conflictsError
	if errors.As(err, &conflicts) {
		for _, c := range conflicts {
			fmt.Fprintf(stderr, "subflowd: %s\n", c)
		}
		return exitUsage
	}
	if err != nil {
		fmt.Fprintf(stderr, "subflowd: %v\n", err)
		return exitFailed
	}
	defer d.close()
	switch {
	case f.cleanup:
		return d.cleanup()
	case f.once:
		return d.once()
	}
	return d.serve()
}

// capable tells whether CAP_NET_ADMIN is effective, and holds in the user
// namespace that owns the network namespace: root in a user namespace of its
// own has all capabilities and no power over the host's network.
func capable() bool {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&h, &data[0]); err == nil && data[unix.CAP_NET_ADMIN/32].Effective&(1<<(unix.CAP_NET_ADMIN%32)) == 0 {
		return false
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return true // the kernel's answers to changes will say
	}
	defer unix.Close(fd)
	// Needs the capability even to set what is set (sock_setsockopt, net/core/sock.c).
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, 0) != unix.EPERM
}
