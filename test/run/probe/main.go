// Command probe is a static program that knows nothing of Multipath TCP, and tells the tests how `subflowctl run` has left
// it: what its process is like, what sockets it gets, how many in a second.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: probe report | protocol | sockets THREADS EACH | send ADDRESS BYTES | serve ADDRESS | deny COMMAND... | listen COMMAND...")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func run(command string, args []string) error {
	switch {
	case command == "report":
		return json.NewEncoder(os.Stdout).Encode(report())
	case command == "protocol":
		fmt.Println(report().Sockets["inet"])
		return nil
	case command == "sockets" && len(args) == 2:
		threads, err := strconv.Atoi(args[0])
		each, err2 := strconv.Atoi(args[1])
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(count(threads, each))
	case command == "send" && len(args) == 2:
		n, err := strconv.ParseInt(args[1], 10, 64)
		if err != nil {
			return err
		}
		return send(args[0], n)
	case command == "serve" && len(args) == 1:
		return serve(args[0])
	case command == "deny" && len(args) > 0:
		return sandboxed(denyIPv6, 0, args)
	case command == "listen" && len(args) > 0:
		return sandboxed(watchNothing, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, args)
	}
	return fmt.Errorf("%s %q: no such use", command, args)
}

// Report is what a process can say of itself.
type Report struct {
	Pid     int
	Wait    string         // what waiting for any child gives
	Session int            // sid
	Sockets map[string]int // protocol of each kind of socket, or the negative errno
	Wrong   []string       // sockets with flags that were not asked for, or without those that were
	Owner   uint32         // of a socket
}

func report() Report {
	r := Report{Pid: os.Getpid(), Sockets: map[string]int{}}
	for _, c := range []struct {
		name                 string
		family, kind, number int
	}{
		{"inet", unix.AF_INET, unix.SOCK_STREAM, 0},
		{"inet tcp", unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_TCP},
		{"inet6", unix.AF_INET6, unix.SOCK_STREAM, 0},
		{"inet6 cloexec", unix.AF_INET6, unix.SOCK_STREAM | unix.SOCK_CLOEXEC, unix.IPPROTO_TCP},
		{"inet nonblock", unix.AF_INET, unix.SOCK_STREAM | unix.SOCK_NONBLOCK, 0},
		{"inet both", unix.AF_INET, unix.SOCK_STREAM | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC, 0},
		{"inet unknown flag", unix.AF_INET, unix.SOCK_STREAM | 0x100, 0},
		{"inet sctp", unix.AF_INET, unix.SOCK_STREAM, 132},
		{"udp", unix.AF_INET, unix.SOCK_DGRAM, 0},
		{"unix", unix.AF_UNIX, unix.SOCK_STREAM, 0},
	} {
		r.Sockets[c.name] = r.look(c.name, c.family, c.kind, c.number)
	}
	r.Session, _ = unix.Getsid(0)
	_, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
	r.Wait = fmt.Sprint(err)
	return r
}

func (r *Report) look(name string, family, kind, number int) int {
	fd, err := unix.Socket(family, kind, number)
	if err != nil {
		var errno unix.Errno
		errors.As(err, &errno)
		return -int(errno)
	}
	defer unix.Close(fd)
	file, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	state, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if file&unix.FD_CLOEXEC != 0 != (kind&unix.SOCK_CLOEXEC != 0) || state&unix.O_NONBLOCK != 0 != (kind&unix.SOCK_NONBLOCK != 0) {
		r.Wrong = append(r.Wrong, fmt.Sprintf("%s: F_GETFD %#x, F_GETFL %#x", name, file, state))
	}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) == nil {
		r.Owner = st.Uid
	}
	protocol, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	return protocol
}

// Count is what many sockets were.
type Count struct {
	MPTCP, TCP, Failed int
	Left               int // descriptors that are open and should not
	Seconds            float64
	Last               string // error
}

// count makes sockets on threads of their own and closes each.
func count(threads, each int) Count {
	var c Count
	var mu sync.Mutex
	var all sync.WaitGroup
	before := open()
	begun := time.Now()
	for range threads {
		all.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			var mine Count
			for range each {
				mine.one()
			}
			mu.Lock()
			defer mu.Unlock()
			c.MPTCP, c.TCP, c.Failed = c.MPTCP+mine.MPTCP, c.TCP+mine.TCP, c.Failed+mine.Failed
			if mine.Last != "" {
				c.Last = mine.Last
			}
		})
	}
	all.Wait()
	c.Seconds = time.Since(begun).Seconds()
	c.Left = open() - before
	return c
}

func (c *Count) one() {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		c.Failed++
		c.Last = err.Error()
		return
	}
	if p, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); p == unix.IPPROTO_MPTCP {
		c.MPTCP++
	} else {
		c.TCP++
	}
	unix.Close(fd)
}

func open() int {
	files, _ := os.ReadDir("/proc/self/fd")
	return len(files)
}

// send uploads bytes by what package net takes for plain TCP.
func send(address string, n int64) error {
	var d net.Dialer
	d.SetMultipathTCP(false)
	c, err := d.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.CopyN(c, zeroes{}, n); err != nil {
		return err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	var answer int64
	if _, err := fmt.Fscan(c, &answer); err != nil || answer != n {
		return fmt.Errorf("the server got %d of %d bytes: %w", answer, n, err)
	}
	return nil
}

type zeroes struct{}

func (zeroes) Read(b []byte) (int, error) { return len(b), nil }

// serve answers each connection with the number of its bytes. package net would listen with MPTCP of its own accord.
func serve(address string) error {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(context.Background(), "tcp", address)
	if err != nil {
		return err
	}
	fmt.Println("listening")
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			n, _ := io.Copy(io.Discard, c)
			fmt.Fprintln(c, n)
		}()
	}
}
