package cli

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
)

// TestStranger meets servers that are not subflowd.
func TestStranger(t *testing.T) {
	const another, gone = "another program answers there", "it hung up"
	for _, c := range []struct{ answer, want string }{
		{"SSH-2.0-OpenSSH_9.2\r\n", another},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", another},
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", another},
		{"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{\"schema\": [] }", another},
		{"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", another},
		{"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", gone},
		{"", gone},
	} {
		l, err := net.Listen("unix", t.TempDir()+"/s")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, c.answer)
			conn.Close()
		}()
		var errs bytes.Buffer
		code := Main([]string{"--socket", l.Addr().String(), "status"}, nil, io.Discard, &errs, nil)
		if code != ExitUnreachable || !strings.Contains(errs.String(), c.want) {
			t.Errorf("%q: exit %d: %s", c.answer, code, &errs)
		}
		l.Close()
		<-done
	}
}

// TestNewerDaemon: a document whose fields mean something else is not shown.
func TestNewerDaemon(t *testing.T) {
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if conn, err := l.Accept(); err == nil {
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"schema\":2}")
			conn.Close()
		}
	}()
	var errs bytes.Buffer
	code := Main([]string{"--socket", l.Addr().String(), "status"}, nil, io.Discard, &errs, nil)
	if code != ExitNo || !strings.Contains(errs.String(), "subflowctl: update subflowctl") {
		t.Errorf("exit %d: %s", code, &errs)
	}
}
