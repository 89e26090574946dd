package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/pkg/mptcp"
)

// watch prints every event until the program is ended.
func watch(c *mptcp.Client, out io.Writer) error {
	stream, err := c.SubscribeEvents()
	if err != nil {
		return err
	}
	defer stream.Close()
	for {
		e, err := stream.Receive(context.Background())
		if errors.Is(err, mptcp.ErrOverflow) {
			continue
		}
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out, line(e)); err != nil {
			return err
		}
	}
}

// line is one event: "type:1,token:7,family:2,...". The kernel's program writes what it finds in the order in which the
// kernel has put it (net/mptcp/pm_netlink.c), only server_side stands last since Linux 6.18.
func line(e mptcp.Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "type:%d", e.Type)
	switch e.Type {
	case mptcp.EventListenerCreated, mptcp.EventListenerClosed: // of no connection
		fmt.Fprintf(&b, ",family:%d,sport:%d", e.Family, e.Local.Port())
		address(&b, "s", e, e.Local)
		return b.String()
	}
	fmt.Fprintf(&b, ",token:%d", e.Token)
	if e.Flags&mptcp.EventDenyJoinID0 != 0 {
		b.WriteString(",deny_join_id0:1")
	}
	switch e.Type {
	case mptcp.EventClosed:
	case mptcp.EventRemoved:
		fmt.Fprintf(&b, ",rem_id:%d", e.RemoteID)
	case mptcp.EventAnnounced:
		fmt.Fprintf(&b, ",rem_id:%d", e.RemoteID)
		if e.Remote.Port() != 0 {
			fmt.Fprintf(&b, ",dport:%d", e.Remote.Port())
		}
		address(&b, "d", e, e.Remote)
	default:
		fmt.Fprintf(&b, ",family:%d", e.Family)
		address(&b, "s", e, e.Local)
		address(&b, "d", e, e.Remote)
		fmt.Fprintf(&b, ",sport:%d,dport:%d,loc_id:%d,rem_id:%d", e.Local.Port(), e.Remote.Port(), e.LocalID, e.RemoteID)
	}
	switch e.Type {
	case mptcp.EventSubflowEstablished, mptcp.EventSubflowClosed, mptcp.EventSubflowPriority:
		backup := 0
		if e.Backup {
			backup = 1
		}
		fmt.Fprintf(&b, ",backup:%d", backup)
	}
	if e.Errno != 0 {
		fmt.Fprintf(&b, ",error:%d", uint8(e.Errno))
	}
	if e.ServerSide {
		b.WriteString(",server_side:1")
	}
	return b.String()
}

// address writes ",saddr4:10.0.0.1", or with d the other end. On an IPv6 socket an IPv4 address is a mapped one.
func address(b *strings.Builder, letter string, e mptcp.Event, end netip.AddrPort) {
	a := end.Addr()
	version := 4
	switch {
	case !a.IsValid():
		return
	case a.Is6() || e.Family == unix.AF_INET6:
		version = 6
		a = netip.AddrFrom16(a.As16())
	}
	fmt.Fprintf(b, ",%saddr%d:%s", letter, version, a)
}

// listen keeps a listener open until the program is ended, and takes connections if asked to.
func listen(args []string, accept bool) error {
	if len(args) != 2 {
		return errUsage
	}
	var config net.ListenConfig
	config.SetMultipathTCP(true)
	l, err := config.Listen(context.Background(), "tcp", net.JoinHostPort(args[0], args[1]))
	if err != nil {
		return err
	}
	defer l.Close()
	for accept {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		defer c.Close()
	}
	// An empty select would be a deadlock to the runtime, as no other goroutine waits for anything.
	for {
		if _, err := unix.Poll(nil, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
