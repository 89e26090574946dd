package cli

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/subflowd/subflowd/internal/control"
	"github.com/subflowd/subflowd/pkg/status"
)

// TestFollowStream reads events until the daemon goes.
func TestFollowStream(t *testing.T) {
	d := &daemon{socket: t.TempDir() + "/s"}
	d.set(status.Document{State: status.Converging})
	l, err := control.Listen(d.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel, d.done = cancel, make(chan error, 1)
	go func() { d.done <- control.New(d, control.Options{}).Serve(ctx, l) }()
	t.Cleanup(d.stop)

	events := make(chan status.Event, 16)
	ended := make(chan error, 1)
	go func() {
		ended <- (&client{socket: d.socket}).follow(context.Background(), control.PathEvents, func(line []byte, e status.Event) {
			if len(line) == 0 || line[len(line)-1] == '\n' {
				t.Errorf("line %q", line)
			}
			events <- e
		})
	}()
	for _, want := range []status.State{status.Converging, status.Failing} {
		if e := <-events; e.State != want {
			t.Errorf("%s, want %s", e.State, want)
		}
		d.set(status.Document{State: status.Failing})
	}
	d.stop()
	if err := <-ended; !isUnreachable(err) {
		t.Errorf("the end: %v", err)
	}
	if err := (&client{socket: d.socket}).follow(context.Background(), control.PathEvents, nil); !isUnreachable(err) {
		t.Errorf("afterwards: %v", err)
	}
}

// TestFollowStrangers: what answers may be an older daemon, or something else.
func TestFollowStrangers(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		code         int
		text         string
	}{
		{"an older daemon", "HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n" + `{"schema":1,"error":"no such path: /v1/events"}`, ExitNo, "no such path"},
		{"a full daemon", "HTTP/1.1 503 Busy\r\nConnection: close\r\n\r\n" + `{"schema":1,"error":"too many streams"}`, ExitUnreachable, "too many streams"},
		{"another server", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<html>\n", ExitUnreachable, "another program"},
		{"no HTTP", "220 mail\r\n", ExitUnreachable, "another program"},
		{"an endless line", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + strings.Repeat("x", maxEvent+10), ExitUnreachable, "token too long"},
		{"a newer daemon", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"schema\":2}\n", ExitNo, "its schema is 2"},
		{"silence", "", ExitUnreachable, "reach subflowd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			socket := t.TempDir() + "/s"
			l, err := net.Listen("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
				b := make([]byte, 4096)
				_, _ = conn.Read(b)
				_, _ = io.WriteString(conn, c.answer)
			}()
			err = (&client{socket: socket}).follow(context.Background(), control.PathEvents, func([]byte, status.Event) { t.Error("an event") })
			var e *exitError
			if !errors.As(err, &e) || e.code != c.code || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%+v", err)
			}
		})
	}
}

// TestFollowEnds when its context does.
func TestFollowEnds(t *testing.T) {
	socket := serve(t, "laptop")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- (&client{socket: socket}).follow(ctx, control.PathEvents, func([]byte, status.Event) { cancel() })
	}()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("it goes on")
	}
	if _, _, err := (&client{socket: socket}).begin(ctx, http.MethodGet, control.PathEvents); err == nil {
		t.Error("a request after the end")
	}
}

// TestMonitorWithoutReader: `subflowctl monitor | head -1` ends, though nothing happens any more.
func TestMonitorWithoutReader(t *testing.T) {
	socket := serve(t, "laptop")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	code := make(chan int, 1)
	go func() {
		code <- Main([]string{"--socket", socket, "monitor", "--only", "subflowd"}, nil, w, io.Discard, nil)
	}()
	if _, err := r.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	r.Close()
	select {
	case c := <-code:
		if c != ExitDone {
			t.Errorf("exit %d", c)
		}
	case <-time.After(20 * time.Second):
		t.Error("it goes on")
	}
}
