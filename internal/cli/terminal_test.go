package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"go.uber.org/goleak"

	"github.com/subflowd/subflowd/internal/control"
)

// terminal opens a pseudoterminal (pty(7)).
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// serve starts a daemon with a document and returns its socket.
func serve(t *testing.T, situation string) string {
	t.Helper()
	d := &daemon{socket: t.TempDir() + "/s"}
	d.set(*documents(t)[situation])
	d.doc.Daemon.Namespace = 0
	l, err := control.Listen(d.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel, d.done = cancel, make(chan error, 1)
	go func() { d.done <- control.New(d, control.Options{}).Serve(ctx, l) }()
	t.Cleanup(d.stop)
	return d.socket
}

func TestColourOnTerminalsOnly(t *testing.T) {
	socket := serve(t, "laptop")
	for _, c := range []struct {
		name     string
		env      []string
		terminal bool
		want     bool
	}{
		{"terminal", []string{"TERM=xterm"}, true, true},
		{"terminal with an empty NO_COLOR", []string{"TERM=xterm", "NO_COLOR="}, true, true},
		{"terminal with NO_COLOR", []string{"TERM=xterm", "NO_COLOR=1"}, true, false},
		{"dumb terminal", []string{"TERM=dumb"}, true, false},
		{"pipe", []string{"TERM=xterm"}, false, false},
	} {
		var text string
		var errs bytes.Buffer
		if c.terminal {
			master, slave := terminal(t)
			if code := Main([]string{"--socket", socket, "status"}, nil, slave, &errs, c.env); code != ExitDone {
				t.Fatalf("%s: exit %d: %s", c.name, code, &errs)
			}
			b := make([]byte, 64<<10)
			n, err := master.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			text = string(b[:n])
		} else {
			var out bytes.Buffer
			Main([]string{"--socket", socket, "status"}, nil, &out, &errs, c.env)
			text = out.String()
		}
		if found := strings.Contains(text, "\x1b["); found != c.want || !strings.Contains(text, "converged") {
			t.Errorf("%s: colours %v, want %v: %q", c.name, found, c.want, text)
		}
	}
}

// TestTerminalWithoutSize: there is nothing to draw on, and the reason is said.
func TestTerminalWithoutSize(t *testing.T) {
	_, slave := terminal(t) // which begins with 0x0
	var errs bytes.Buffer
	code := Main([]string{"top"}, slave, slave, &errs, []string{"TERM=xterm"})
	if code != ExitUsage || !strings.Contains(errs.String(), "this one does not say its size: stty rows 24 columns 80") {
		t.Errorf("exit %d: %s", code, &errs)
	}
}

// TestNarrowTerminal: text keeps to the terminal, and not below forty columns.
func TestNarrowTerminal(t *testing.T) {
	defer func(w int) { width = w }(width)
	socket := serve(t, "failing")
	for columns, most := range map[uint16]int{200: 80, 50: 50, 10: 40} {
		width = 80
		master, slave := terminal(t)
		if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
			t.Fatal(err)
		}
		if code := Main([]string{"--socket", socket, "explain", "eth0"}, nil, slave, io.Discard, nil); code != ExitDone {
			t.Fatalf("exit %d", code)
		}
		b := make([]byte, 64<<10)
		n, err := master.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		longest := 0
		for line := range strings.Lines(string(b[:n])) {
			longest = max(longest, displayed(strings.TrimRight(line, "\r\n")))
		}
		if width != most || longest > most || longest < most-25 {
			t.Errorf("%d columns: a width of %d, and the longest line has %d:\n%s", columns, width, longest, b[:n])
		}
	}
}

// TestBusySocket: all places of the socket are taken for a while.
func TestBusySocket(t *testing.T) {
	socket := serve(t, "laptop")
	var taken []net.Conn
	for range 128 {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, c)
	}
	timer := time.AfterFunc(300*time.Millisecond, func() {
		for _, c := range taken {
			c.Close()
		}
	})
	defer timer.Stop()
	var out, errs bytes.Buffer
	if code := Main([]string{"--socket", socket, "status"}, nil, &out, &errs, nil); code != ExitDone {
		t.Errorf("exit %d: %s", code, &errs)
	}
}

type fullDisk struct{ io.Writer }

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestOutputThatCannotBeWritten(t *testing.T) {
	var errs bytes.Buffer
	code := Main([]string{"--socket", serve(t, "laptop"), "status"}, nil, fullDisk{}, &errs, nil)
	if code != ExitNo || !strings.Contains(errs.String(), "subflowctl: write the output: no space left on device") {
		t.Errorf("exit %d: %s", code, &errs)
	}
}

// TestNothingIsLeft: Main may be called many times in one process.
func TestNothingIsLeft(t *testing.T) {
	socket := serve(t, "laptop")
	Main([]string{"--socket", socket, "status"}, nil, io.Discard, io.Discard, nil) // the daemon is there
	ignore := goleak.IgnoreCurrent()
	for _, args := range [][]string{{"status"}, {"wait", "--timeout", "10ms", "--paths", "9"}, {"version"}, {"plan"}, {"nonsense"}} {
		Main(append([]string{"--socket", socket}, args...), nil, io.Discard, io.Discard, nil)
	}
	if err := goleak.Find(ignore); err != nil {
		t.Error(err)
	}
}

func TestHelpFits(t *testing.T) {
	for _, c := range []string{"help", "status", "plan", "wait", "reconcile", "top", "version", "completion"} {
		var out bytes.Buffer
		if code := Main([]string{c, "--help"}, nil, &out, io.Discard, nil); code != ExitDone {
			t.Errorf("%s: exit %d", c, code)
		}
		for line := range strings.Lines(out.String()) {
			if len(strings.TrimSuffix(line, "\n")) > width {
				t.Errorf("%s: %d columns: %s", c, len(line)-1, line)
			}
		}
	}
}

func TestSocketPath(t *testing.T) {
	for _, c := range []struct{ env, want string }{
		{"", "/run/subflowd"}, {"RUNTIME_DIRECTORY=/run/a", "/run/a"}, {"RUNTIME_DIRECTORY=/run/a:/run/b", "/run/a"},
	} {
		a := app{env: map[string]string{}}
		if k, v, ok := strings.Cut(c.env, "="); ok {
			a.env[k] = v
		}
		if got := a.runtimeDir(); got != c.want {
			t.Errorf("%q: %s, want %s", c.env, got, c.want)
		}
	}
}
