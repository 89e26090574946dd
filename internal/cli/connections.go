package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/subflowd/subflowd/internal/observe"
	"github.com/subflowd/subflowd/pkg/status"
)

// quickInterval is the time between two looks unless another is asked for. It
// keeps the answer to a thousand connections within a tenth of a second.
const quickInterval = 40 * time.Millisecond

func (a *app) connectionsCommand() *cobra.Command {
	interval := quickInterval
	cmd := &cobra.Command{
		Use:   "connections [WHAT]",
		Short: "MPTCP connections and their subflows",
		Long: `Lists the Multipath TCP connections of this network namespace with their
subflows: the link that carries each, addresses, round-trip time, congestion
window, packets sent again, bytes, and the rate between two looks. WHAT leaves
those that have to do with a link, an address, an address:port or a token.

Before a connection's state is the program that has it open, as curl[1234];
without root, only for programs of one's own. "by run" marks those that
subflowctl run started, and their descendants. One that its parents have left
behind is recognised only in a session or process group that the program of
run began: without the mark a program may still be under run.

It asks the kernel, and works without the daemon. Some kernels show subflows to
root only.`,
		Example: "  subflowctl connections\n  subflowctl connections wlan0 --interval 1s\n  subflowctl connections 192.0.2.1:443",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return errors.New("connections wants one link, address or token, or nothing")
			}
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return endsOfConnections(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if interval < 0 {
				return &exitError{code: ExitUsage, err: errors.New("--interval wants a duration that is not negative")}
			}
			doc, err := look(interval, &programs{})
			if err != nil {
				return err
			}
			if len(args) > 0 {
				doc.Connections = slices.DeleteFunc(doc.Connections, func(c status.Connection) bool { return !about(&c, args[0]) })
			}
			return a.showConnections(doc, args)
		},
	}
	cmd.Flags().DurationVar(&interval, "interval", interval, "measure rates for so long, as 1s; 0: no rates")
	_ = cmd.RegisterFlagCompletionFunc("interval", cobra.FixedCompletions([]string{"0", "40ms", "1s", "10s"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// look looks at the connections twice, or once where that is all there is to see.
// Their programs are found while it waits, unless p is nil.
func look(interval time.Duration, p *programs) (*status.Connections, error) {
	// What is read of thousands of connections is needed until the end: to collect
	// garbage meanwhile costs a quarter of the time and finds little.
	debug.SetGCPercent(400)
	o, err := observe.Open()
	if err != nil {
		return nil, observeError(err)
	}
	defer o.Close()
	if o.Client() == nil {
		return nil, &exitError{
			code: ExitNo, err: errors.New("list connections: this kernel has no Multipath TCP"),
			remedy: "boot a kernel with CONFIG_MPTCP; see subflowctl check",
		}
	}
	first, err := o.Sample()
	if err != nil {
		return nil, observeError(err)
	}
	p.find(first.Connections)
	if interval == 0 || len(first.Connections) == 0 {
		return p.into(observe.Document(first, nil)), nil
	}
	time.Sleep(time.Until(first.Time.Add(interval)))
	second, err := o.Sample()
	if err != nil {
		return nil, observeError(err)
	}
	p.find(second.Connections)
	return p.into(observe.Document(second, first)), nil
}

func observeError(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return &exitError{code: ExitPermission, err: err, remedy: "this kernel shows connections to root only: use sudo"}
	}
	return &exitError{code: ExitNo, err: fmt.Errorf("look at the kernel: %w", err)}
}

func (a *app) showConnections(doc *status.Connections, what []string) error {
	if doc.SubflowsHidden {
		fmt.Fprintln(a.stderr, "subflowctl: this kernel shows subflows to CAP_NET_ADMIN only: use sudo to see them")
	}
	if a.format == formatJSON {
		return a.connectionsJSON(doc)
	}
	if len(what) > 0 && len(doc.Connections) == 0 {
		return &exitError{code: ExitNo, err: fmt.Errorf("no connection has to do with %q", what[0]), remedy: "see what there is: subflowctl connections"}
	}
	a.out.WriteString(connectionsText(doc, a.coloured()))
	return nil
}

// manyConnections is from how many on the JSON is no longer made for reading:
// to break three megabytes into lines takes five times as long as to write them.
const manyConnections = 100

func (a *app) connectionsJSON(doc *status.Connections) error {
	if len(doc.Connections) < manyConnections {
		return a.printJSON(doc)
	}
	type plain status.Connections // without the method, whose result would be read again
	raw, err := json.Marshal((*plain)(doc))
	if err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	a.out.Write(append(raw, '\n'))
	return nil
}

// about tells whether a connection has to do with a link, an address, an
// address:port or a token.
func about(c *status.Connection, what string) bool {
	if strings.EqualFold(strings.TrimPrefix(what, "0x"), c.Token) {
		return true
	}
	ends := []string{c.Local, c.Remote}
	for i := range c.Subflows {
		f := &c.Subflows[i]
		if what != "" && (f.Link == what || f.AddressLink == what) {
			return true
		}
		ends = append(ends, f.Local, f.Remote)
	}
	if ap, err := netip.ParseAddrPort(what); err == nil {
		return slices.Contains(ends, netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()).String())
	}
	ip, err := netip.ParseAddr(what)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(ends, func(e string) bool {
		end, err := netip.ParseAddrPort(e)
		return err == nil && end.Addr() == ip.Unmap()
	})
}

// endsOfConnections are the links and addresses that connections use now, for
// shells.
func endsOfConnections() []string {
	doc, err := look(0, nil)
	if err != nil {
		return nil
	}
	var links, addrs []string
	for i := range doc.Connections {
		for _, f := range doc.Connections[i].Subflows {
			links = append(links, f.Link)
			for _, e := range []string{f.Local, f.Remote} {
				if end, err := netip.ParseAddrPort(e); err == nil {
					addrs = append(addrs, end.Addr().String())
				}
			}
		}
	}
	slices.Sort(links)
	slices.Sort(addrs)
	all := append(slices.Compact(links), slices.Compact(addrs)...)
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}
