package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultPort is where `subflowctl probe --serve` listens.
const DefaultPort = 9478

// Bounds of the server: whoever reaches it can use it no further.
const (
	MaxClients = 64               // connections at one time
	MaxEcho    = 64 << 10         // bytes of one connection that are echoed
	MaxTalk    = 30 * time.Second // how long one connection may last
)

// The server begins with a line that says how the connection came, so that a
// client can tell which way lost the option: after greeting, one of the words.
const (
	greeting    = "subflowctl probe server: you came by "
	cameByMPTCP = "mptcp"
	cameByTCP   = "tcp"
	// servesTCP says that this server cannot speak Multipath TCP.
	servesTCP = "tcp, which is all that this kernel speaks"
)

// Listen opens the server's socket on an address and port, an empty address
// for all; with Multipath TCP where the kernel has it.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(true)
	return lc.Listen(ctx, "tcp", address)
}

// Serve answers connections until ctx ends, and returns nil then. Each is told
// about by say, once.
func Serve(ctx context.Context, l net.Listener, say func(string)) error {
	capable := isMPTCPListener(l)
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	free := make(chan struct{}, MaxClients)
	for {
		c, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				c.Close()
			}
			return nil
		case errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ECONNABORTED):
			time.Sleep(100 * time.Millisecond)
			continue
		case err != nil:
			return fmt.Errorf("accept: %w", err)
		}
		select {
		case free <- struct{}{}:
		default:
			c.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-free }()
			talk(ctx, c, capable, say)
		})
	}
}

// talk greets and echoes, within the bounds.
func talk(ctx context.Context, c net.Conn, capable bool, say func(string)) {
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	_ = c.SetDeadline(time.Now().Add(MaxTalk))
	word := servesTCP
	if capable {
		word = cameByTCP
		if t, ok := c.(*net.TCPConn); ok {
			if is, err := t.MultipathTCP(); err == nil && is {
				word = cameByMPTCP
			}
		}
	}
	say(fmt.Sprintf("%s came by %s", c.RemoteAddr(), word))
	if _, err := c.Write([]byte(greeting + word + "\n")); err != nil {
		return
	}
	b := make([]byte, 4096)
	for left := MaxEcho; left > 0; {
		n, err := c.Read(b[:min(len(b), left)])
		if n > 0 {
			if _, err := c.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
		left -= n
	}
}

func isMPTCPListener(l net.Listener) bool {
	t, ok := l.(*net.TCPListener)
	if !ok {
		return false
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return false
	}
	is := false
	_ = raw.Control(func(fd uintptr) {
		p, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PROTOCOL)
		is = err == nil && p == protocolMPTCP
	})
	return is
}

// heard is the word of a greeting; empty: another server.
func heard(text string) string {
	line, _, whole := strings.Cut(text, "\n")
	word, ok := strings.CutPrefix(line, greeting)
	if !whole || !ok {
		return ""
	}
	return word
}
