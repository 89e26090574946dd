package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// aloneMark is set in the process that Alone has started.
const aloneMark = "SUBFLOWD_TEST_NAMESPACE"

// Alone is for TestMain: it has run called in a process like this one, in a network namespace of its own with lo up, so that
// tests of a package that open ports leave those of the host itself alone. Without root it calls run as it is.
func Alone(run func()) {
	if os.Geteuid() != 0 || os.Getenv(aloneMark) != "" {
		run()
		return
	}
	cmd := exec.Command("unshare", append([]string{"--net", "sh", "-c", `ip link set lo up && exec "$0" "$@"`}, os.Args...)...)
	cmd.Env = append(os.Environ(), aloneMark+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		fmt.Fprintf(os.Stderr, "test in a namespace (it takes util-linux and iproute2): %v\n", err)
	}
	if cmd.ProcessState == nil || !cmd.ProcessState.Success() {
		os.Exit(1)
	}
}
