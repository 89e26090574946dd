package metrics

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/subflowd/subflowd/internal/trigger"
)

// told keeps what a listener reported last.
type told struct {
	mu  sync.Mutex
	err error
}

func (r *told) report(_ string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *told) last() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// port is one of the loopback that is free now.
func port(t *testing.T) (addr string, held net.Listener) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String(), l
}

func free(t *testing.T) string {
	t.Helper()
	addr, held := port(t)
	held.Close()
	return addr
}

func get(method, addr, path string) (int, string, error) {
	req, err := http.NewRequest(method, "http://"+addr+path, nil)
	if err != nil {
		return 0, "", err
	}
	c := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func TestListenerMoves(t *testing.T) {
	var r told
	l := NewListener(New(source(laptop())), r.report)
	defer l.Close()
	first, second := free(t), free(t)
	l.Set(first)
	code, text, err := get("GET", first, "/metrics")
	if err != nil || code != 200 || !strings.Contains(text, "subflowd_state") {
		t.Errorf("%d %v %s", code, err, text)
	}
	for _, x := range []struct {
		method, path string
		code         int
	}{{"GET", "/", 404}, {"GET", "/v1/status", 404}, {"GET", "/metrics/x", 404}, {"POST", "/metrics", 405}, {"POST", "/v1/reload", 404}} {
		if code, _, err := get(x.method, first, x.path); err != nil || code != x.code {
			t.Errorf("%s %s: wanted %d, found %d %v", x.method, x.path, x.code, code, err)
		}
	}
	for range 50 {
		// A server may not serve yet when it has to go.
		l.Set(second)
		l.Set(first)
	}
	l.Set(second)
	if _, _, err := get("GET", second, "/metrics"); err != nil {
		t.Error(err)
	}
	if _, _, err := get("GET", first, "/metrics"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the port before still answers: %v", err)
	}
	l.Set("")
	if _, _, err := get("GET", second, "/metrics"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the port still answers: %v", err)
	}
	if err := r.last(); err != nil {
		t.Error(err)
	}
}

func TestBusyPort(t *testing.T) {
	before := listenBackoff
	listenBackoff = trigger.Backoff{Min: 5 * time.Millisecond, Max: 20 * time.Millisecond}
	defer func() { listenBackoff = before }()
	addr, held := port(t)
	var r told
	l := NewListener(New(source(laptop())), r.report)
	defer l.Close()
	l.Set(addr)
	if err := r.last(); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("a busy port: %v", err)
	}
	held.Close()
	for end := time.Now().Add(20 * time.Second); r.last() != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("a port that became free: %v", r.last())
		}
	}
	if code, _, err := get("GET", addr, "/metrics"); code != 200 || err != nil {
		t.Errorf("%d %v", code, err)
	}
}
