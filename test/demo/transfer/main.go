// Command transfer is the traffic of the demonstration: a Multipath TCP server
// that swallows what it gets, and a client that uploads to it and prints once a
// second how much went out by each link.
//
//	transfer serve ADDRESS:PORT
//	transfer send ADDRESS:PORT SECONDS LINK...
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "transfer:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "serve":
		return serve(args[1])
	case len(args) > 3 && args[0] == "send":
		seconds, err := strconv.Atoi(args[2])
		if err != nil {
			return fmt.Errorf("seconds %q: %w", args[2], err)
		}
		return send(args[1], seconds, args[3:])
	}
	return fmt.Errorf("usage: transfer serve ADDRESS:PORT | send ADDRESS:PORT SECONDS LINK")
}

func serve(addr string) error {
	var lc net.ListenConfig
	lc.SetMultipathTCP(true)
	l, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(io.Discard, c) // the client's end is the only end there is
		}()
	}
}

func send(addr string, seconds int, links []string) error {
	d := net.Dialer{Timeout: 10 * time.Second}
	d.SetMultipathTCP(true)
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if ok, err := c.(*net.TCPConn).MultipathTCP(); err != nil || !ok {
		return fmt.Errorf("the connection is not Multipath TCP (%v)", err)
	}
	go func() {
		for block := make([]byte, 64<<10); ; {
			if _, err := c.Write(block); err != nil {
				return
			}
		}
	}()
	before := make([]uint64, len(links))
	for i, l := range links {
		before[i] = sent(l)
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 1; n <= seconds; n++ {
		<-tick.C
		var sum float64
		line := fmt.Sprintf("%4d s", n)
		for i, l := range links {
			now := sent(l)
			rate := float64(now-before[i]) * 8 / 1e6
			before[i] = now
			sum += rate
			line += fmt.Sprintf("   %s %5.1f Mbit/s %-10s", l, rate, strings.Repeat("#", min(int(rate/2), 10)))
		}
		fmt.Printf("%s   together %5.1f\n", line, sum)
	}
	return nil
}

// sent is how many bytes a link has sent; 0 where it cannot be read.
func sent(link string) uint64 {
	b, err := os.ReadFile("/sys/class/net/" + link + "/statistics/tx_bytes")
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64) // a kernel file: always a number
	return n
}
