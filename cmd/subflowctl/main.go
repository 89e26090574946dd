// Command subflowctl shows what subflowd did for Multipath TCP, and why.
package main

import (
	"os"

	"github.com/subflowd/subflowd/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Environ()))
}
