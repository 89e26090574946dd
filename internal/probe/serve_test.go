package probe

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// server starts a server on the loopback and returns its address.
func server(t *testing.T) (addr string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l, err := Listen(ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, func(string) {}) }()
	return l.Addr().String(), sync.OnceValue(func() error {
		cancel()
		return <-done
	})
}

func TestServerEchoes(t *testing.T) {
	defer goleak.VerifyNone(t)
	addr, stop := server(t)
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	sent := strings.Repeat("x", MaxEcho+1)
	go func() { _, _ = io.WriteString(c, sent) }()
	all, _ := io.ReadAll(c) // what is over the bound is not read, so the end may be a reset
	word := heard(string(all))
	if word != cameByTCP && word != servesTCP {
		t.Errorf("greeting %q", word)
	}
	if n := strings.Count(string(all), "x"); n > MaxEcho {
		t.Errorf("%d bytes echoed", n)
	}
}

func TestServerIsFull(t *testing.T) {
	defer goleak.VerifyNone(t)
	addr, stop := server(t)
	defer func() { _ = stop() }()
	for i := range MaxClients + 1 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		n, err := c.Read(make([]byte, 200))
		if greeted := err == nil && n > 0; greeted != (i < MaxClients) {
			t.Errorf("connection %d: %d bytes, %v", i+1, n, err)
		}
	}
}

func TestHeard(t *testing.T) {
	for text, want := range map[string]string{
		greeting + cameByMPTCP + "\n\r": cameByMPTCP, greeting + cameByTCP + "\n": cameByTCP,
		greeting + cameByTCP: "", "": "", "SSH-2.0-OpenSSH_9.2\r\n": "", "\n": "",
	} {
		if found := heard(text); found != want {
			t.Errorf("%q: %q, wanted %q", text, found, want)
		}
	}
}
