package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os/signal"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/subflowd/subflowd/internal/control"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/probe"
	"github.com/subflowd/subflowd/pkg/status"
)

const (
	defaultProbeTime = 4 * time.Second
	minProbeTime     = 50 * time.Millisecond
	maxProbeTime     = time.Minute
	defaultServeTime = 10 * time.Minute
)

func (a *app) probeCommand() *cobra.Command {
	var serve bool
	var family string
	var timeout, during time.Duration
	cmd := &cobra.Command{
		Use:   "probe {TARGET | --serve [ADDRESS:PORT]}",
		Short: "try Multipath TCP with a server, over every path",
		Long: fmt.Sprintf(`Connects to TARGET, the host:port of a server that speaks Multipath TCP, and
says what works. First one connection that is bound to nothing, with the further
subflows that this host makes for it; then a connection of its own over each
path, but not beside a VPN that carries everything. One byte is sent over each,
and nothing that a server could take for a request. Paths and endpoints are
asked of the daemon, or read here without it.

A firewall or a box on the way that takes the option of Multipath TCP away, that
drops joins, or that drops all that has the option is told apart from a server
that does not speak it, that refuses joins, or does not answer. As root the
reasons of refused joins are known better.

With --serve it is the server for another host's probe instead: it says how
each connection came, and echoes. It ends after %s, has %d connections at a
time, and echoes %d KiB of each. Without an address it listens on all of them at
port %d.

Exit status: 0 Multipath TCP works over every path; 1 it does not, and the text
says where.`, span(defaultServeTime), probe.MaxClients, probe.MaxEcho>>10, probe.DefaultPort),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return errors.New("probe wants one TARGET, the host:port of a server, or --serve")
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			set := cmd.Flags().Changed
			switch {
			case serve && (set("family") || set("timeout")):
				return errors.New("--family and --timeout are for a TARGET, not for --serve")
			case serve && a.format == formatJSON:
				return errors.New("--serve prints text only")
			case serve:
				return a.serve(args, during)
			case set("for"):
				return errors.New("--for goes with --serve; for a TARGET there is --timeout")
			}
			return a.probe(args, status.Family(family), timeout)
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&timeout, "timeout", defaultProbeTime, "how long to wait for each answer")
	flags.StringVar(&family, "family", "", "one only: ipv4 or ipv6")
	_ = cmd.RegisterFlagCompletionFunc("family", cobra.FixedCompletions([]string{string(status.IPv4), string(status.IPv6)}, cobra.ShellCompDirectiveNoFileComp))
	flags.BoolVar(&serve, "serve", false, "be the server for another host's probe")
	flags.DurationVar(&during, "for", defaultServeTime, "with --serve: how long")
	return cmd
}

// span is a duration without zero units: "10m".
func span(d time.Duration) string { return fmt.Sprintf("%dm", d/time.Minute) }

func (a *app) probe(args []string, only status.Family, timeout time.Duration) error {
	switch {
	case only != "" && only != status.IPv4 && only != status.IPv6:
		return errors.New("--family wants ipv4 or ipv6")
	case len(args) == 0:
		return errors.New("probe wants a TARGET, the host:port of a server, or --serve")
	case timeout < minProbeTime || timeout > maxProbeTime:
		return fmt.Errorf("--timeout wants a duration from %s to %s", minProbeTime, span(maxProbeTime))
	}
	host, port, err := splitTarget(args[0])
	if err != nil {
		return err
	}
	servers, err := resolve(host, port, timeout)
	if err != nil {
		return &exitError{code: ExitNo, err: fmt.Errorf("look up %s: %w", host, err), remedy: "the name cannot be looked up: try another name, or an address"}
	}
	servers = slices.DeleteFunc(servers, func(s netip.AddrPort) bool {
		return only == status.IPv4 && s.Addr().Is6() || only == status.IPv6 && s.Addr().Is4()
	})
	if len(servers) == 0 {
		return &exitError{code: ExitNo, err: fmt.Errorf("look up %s: it has no address of family %s", host, only)}
	}
	o := probe.Options{Target: args[0], Servers: servers, Timeout: timeout}
	if err := a.probeFrom(&o); err != nil {
		return err
	}
	r := probe.Run(o)
	if a.format == formatJSON {
		if err := a.printJSON(r); err != nil {
			return err
		}
	} else {
		a.out.WriteString(probeText(&r, a.coloured()))
	}
	if !r.OK {
		return &exitError{code: ExitNo, err: fmt.Errorf("probe %s: not all works", args[0])}
	}
	return nil
}

// splitTarget takes host:port, with names of services for ports.
func splitTarget(target string) (host string, port uint16, err error) {
	host, service, err := net.SplitHostPort(target)
	if err != nil || host == "" {
		return "", 0, fmt.Errorf("TARGET %q is not host:port, such as example.net:443 or [2001:db8::1]:443", target)
	}
	n, err := net.LookupPort("tcp", service)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("TARGET %q has no port: %q is no number from 1 to 65535 and no service", target, service)
	}
	if ip, err := netip.ParseAddr(host); err == nil && (ip.Zone() != "" || ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified()) {
		return "", 0, fmt.Errorf("TARGET %q: no path leads to such an address", target)
	}
	return host, uint16(n), nil
}

// resolve finds one address of each family, IPv4 first.
func resolve(host string, port uint16, timeout time.Duration) ([]netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	all, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		var dns *net.DNSError
		if errors.As(err, &dns) {
			err = errors.New(dns.Err)
		}
		return nil, err
	}
	var out []netip.AddrPort
	for _, f := range netstate.Families {
		i := slices.IndexFunc(all, func(ip netip.Addr) bool { return netstate.FamilyOf(ip) == f })
		if i >= 0 {
			out = append(out, netip.AddrPortFrom(all[i].Unmap(), port))
		}
	}
	return out, nil
}

// probeFrom fills in the host's paths and endpoints.
func (a *app) probeFrom(o *probe.Options) error {
	if addrs, err := net.InterfaceAddrs(); err == nil {
		for _, x := range addrs {
			if p, err := netip.ParsePrefix(x.String()); err == nil {
				o.Own = append(o.Own, p.Addr().Unmap())
			}
		}
	}
	var doc status.Document
	if _, err := a.client().get(control.PathStatus, &doc); err == nil && doc.LastRound.Started != nil && !elsewhere(doc.Daemon.Namespace) {
		documentPaths(o, &doc)
		return nil
	}
	return a.localPaths(o)
}

func documentPaths(o *probe.Options, d *status.Document) {
	for _, c := range d.Conditions {
		if c.Code == "vpn-guard" {
			o.Tunnel = c.Object
		}
	}
	for _, e := range d.Endpoints {
		ip, err := netip.ParseAddr(e.Address)
		if err == nil && e.ID != 0 && slices.Contains(e.Flags, "subflow") {
			o.Endpoints = append(o.Endpoints, probe.Endpoint{Link: e.Link, Addr: ip})
		}
	}
	for _, p := range d.Paths {
		if p.State != status.Live {
			continue
		}
		x := probe.Path{Link: p.Link, Family: netstate.IPv4}
		if p.Family == status.IPv6 {
			x.Family = netstate.IPv6
		}
		rank := 0
		for _, addr := range p.Addresses {
			now := 1
			switch {
			case addr.Endpoint:
				now = 3
			case addr.Rules:
				now = 2
			}
			if ip, err := netip.ParseAddr(addr.Address); err == nil && now > rank {
				x.Source, rank = ip, now
			}
		}
		o.Paths = append(o.Paths, x)
	}
}

// serve is the other end, until the time is over or a signal comes.
func (a *app) serve(args []string, during time.Duration) error {
	address := net.JoinHostPort("", strconv.Itoa(probe.DefaultPort))
	if len(args) > 0 {
		address = args[0]
		if _, _, err := net.SplitHostPort(address); err != nil {
			return fmt.Errorf("--serve: %q is not ADDRESS:PORT, such as :9478 or [2001:db8::1]:443", address)
		}
	}
	if during <= 0 {
		return errors.New("--for wants a duration that is positive")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, during)
	defer cancel()
	l, err := probe.Listen(ctx, address)
	if errors.Is(err, fs.ErrPermission) {
		return &exitError{code: ExitPermission, err: fmt.Errorf("listen on %s: %w", address, rootCause(err)), remedy: "use a port from 1024, or sudo"}
	}
	if err != nil {
		return &exitError{code: ExitNo, err: fmt.Errorf("listen on %s: %w", address, rootCause(err))}
	}
	var mu sync.Mutex
	say := func(s string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(a.stdout, s)
	}
	say(fmt.Sprintf("listening on %s for %s", l.Addr(), during))
	if err := probe.Serve(ctx, l, say); err != nil {
		return &exitError{code: ExitNo, err: err}
	}
	return nil
}
