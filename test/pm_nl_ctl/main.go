// Command pm_nl_ctl takes the arguments of the program of that name in the Linux kernel's selftests
// (tools/testing/selftests/net/mptcp) and gives the same output, by way of package mptcp. So the kernel's own
// pm_netlink.sh, and those parts of mptcp_join.sh that use the path manager of the kernel, judge the library.
//
// What belongs to a path manager in user space (ann, rem, csf, dsf, and token) is refused.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/subflowd/subflowd/pkg/mptcp"
)

const usage = `pm_nl_ctl add|get|set|del|flush|dump|limits|events|listen|accept [ARGUMENTS]
	add [flags signal|subflow|backup|fullmesh|laminar,...] [id ID] [dev LINK] [port PORT] ADDRESS
	get ID
	set ADDRESS|id ID flags [no]backup|[no]fullmesh,... [port PORT]
	del ID [ADDRESS]
	flush
	dump
	limits [ACCEPTED SUBFLOWS]
	events
	listen|accept ADDRESS PORT
`

// errUsage: the arguments make no sense.
var errUsage = errors.New("wrong arguments")

// errUserspace: package mptcp speaks to the path manager of the kernel.
var errUserspace = errors.New("only the path manager of the kernel is spoken to")

func main() {
	err := run(os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case err == nil:
	case errors.Is(err, errUsage):
		fmt.Fprintf(os.Stderr, "%v\n%s", err, usage)
		os.Exit(1)
	default:
		complain(os.Stderr, err)
		os.Exit(1)
	}
}

// complain words a refusal as the kernel's program does.
func complain(w io.Writer, err error) {
	var refused *mptcp.Error
	if !errors.As(err, &refused) {
		fmt.Fprintln(w, err)
		return
	}
	fmt.Fprintf(w, "netlink error %d (%v)\n", -int(refused.Errno), refused.Errno)
	if refused.Msg != "" {
		fmt.Fprintf(w, "netlink ext ack msg: %s\n", refused.Msg)
	}
	if refused.Offset >= 0 {
		fmt.Fprintf(w, "netlink err off %d\n", refused.Offset)
	}
}

func run(args []string, out, events io.Writer) error {
	if len(args) == 0 {
		return errUsage
	}
	c, err := mptcp.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	verb, args := args[0], args[1:]
	switch verb {
	case "add":
		return add(c, args)
	case "get":
		return get(c, args, out)
	case "set":
		return set(c, args)
	case "del":
		return del(c, args)
	case "flush":
		return c.FlushEndpoints()
	case "dump":
		return dump(c, args, out)
	case "limits":
		return limits(c, args, out)
	case "events":
		return watch(c, events)
	case "listen", "accept":
		return listen(args, verb == "accept")
	case "ann", "rem", "csf", "dsf":
		return fmt.Errorf("%s: %w", verb, errUserspace)
	}
	return fmt.Errorf("%w: unknown sub-command: %s", errUsage, verb)
}
