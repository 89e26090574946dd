package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"

	"github.com/subflowd/subflowd/pkg/mptcp"
)

// denyJoinID0 is MPTCP_PM_EV_FLAG_DENY_JOIN_ID0 (include/uapi/linux/mptcp.h).
const denyJoinID0 = 1 << 0

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

// line is one event: "type:1,token:7,family:2,...".
func line(e mptcp.Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "type:%d,token:%d", e.Type, e.Token)
	family := 2
	if e.Local.Addr().Is6() || e.Remote.Addr().Is6() {
		family = 10
	}
	fmt.Fprintf(&b, ",family:%d,loc_id:%d,rem_id:%d", family, e.LocalID, e.RemoteID)
	side(&b, "s", e.Local)
	side(&b, "d", e.Remote)
	if e.Backup {
		b.WriteString(",backup:1")
	}
	if e.Errno != 0 {
		fmt.Fprintf(&b, ",error:%d", uint8(e.Errno))
	}
	if e.Flags&denyJoinID0 != 0 {
		b.WriteString(",deny_join_id0:1")
	}
	if e.ServerSide {
		b.WriteString(",server_side:1")
	}
	return b.String()
}

// side writes ",saddr4:10.0.0.1,sport:5001", or with d the other end.
func side(b *strings.Builder, letter string, a netip.AddrPort) {
	if a.Addr().IsValid() {
		version := 4
		if a.Addr().Is6() {
			version = 6
		}
		fmt.Fprintf(b, ",%saddr%d:%s", letter, version, a.Addr())
	}
	if a.Port() != 0 {
		fmt.Fprintf(b, ",%sport:%d", letter, a.Port())
	}
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
	select {}
}
