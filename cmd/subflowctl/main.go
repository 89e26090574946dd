// Command subflowctl shows what subflowd did for Multipath TCP, and why.
package main

import (
	"os"
	"runtime"

	"github.com/subflowd/subflowd/internal/cli"
)

// `run` executes a program on this thread, the first of the process: what
// belongs to it, the signal for the parent's death (prctl(2)), goes on.
func init() { runtime.LockOSThread() }

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Environ()))
}
