package control

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/subflowd/subflowd/pkg/status"
)

func twoLinks() status.Document {
	return status.Document{State: status.Converged, Paths: []status.Path{
		{Link: "eth0", Ifindex: 2, Family: status.IPv4, State: status.Live},
		{Link: "eth0", Ifindex: 2, Family: status.IPv6, State: status.Live},
		{Link: "wlan0", Ifindex: 3, Family: status.IPv4, State: status.Live},
		{Link: "wwan0", Ifindex: 4, Family: status.IPv4, State: status.Dark},
	}}
}

func TestRequests(t *testing.T) {
	f := newFake()
	f.set(twoLinks())
	path, _ := start(t, f, Options{Group: "no-such-group"})
	for _, c := range []struct {
		method, target, body string
		code                 int
		has                  string
	}{
		{"GET", "/v1/status", "", 200, `"state":"converged"`},
		{"GET", "/v1/plan", "", 200, `"command":"ip -4 rule add from 10.1.1.2 lookup 100002"`},
		{"GET", "/v1/version", "", 200, `"version":`},
		{"POST", "/v1/reconcile", "", 200, `"changes":[]`},
		{"POST", "/v1/reload", "", 200, `"taken":false,"config":[],"problems":[]`},
		{"GET", "/v1/explain?what=eth0", "", 200, `"what":"eth0","kind":"link"`},
		{"GET", "/v1/explain?what=eth%209", "", 404, `there is no link or address \"eth 9\"`},
		{"GET", "/v1/explain", "", 400, "wants a link"},
		{"GET", "/v1/explain?what=" + strings.Repeat("x", 200), "", 400, "wants a link"},
		{"GET", "/v1/reload", "", 405, "takes POST"},
		{"GET", "/metrics", "", 404, "there are no metrics"},
		{"GET", "/v1/wait?paths=2&timeout=0", "", 200, `"done":true`},
		{"GET", "/v1/wait?paths=3&timeout=0.01", "", 200, `"done":false,"state":"converged","links":["eth0","wlan0"],"missing":["links that are paths: 3 wanted, 2 there (eth0, wlan0)"]`},

		{"GET", "/", "", 404, `"error":"no such path: /"`},
		{"GET", "/v1/status/", "", 404, "no such path"},
		{"GET", "//v1/status", "", 404, "no such path"},
		{"GET", "/v1/../v1/status", "", 404, "no such path"},
		{"POST", "/v1/status", "", 405, "takes GET"},
		{"HEAD", "/v1/status", "", 405, ""},
		{"GET", "/v1/reconcile", "", 405, "takes POST"},
		{"GET", "/v1/status?x=1", "", 400, "no parameter x"},
		{"GET", "/v1/wait?paths=-1", "", 400, "parameter paths"},
		{"GET", "/v1/wait?paths=nan", "", 400, "parameter paths"},
		{"GET", "/v1/wait?timeout=1h", "", 400, "parameter timeout"},
		{"GET", "/v1/wait?timeout=1e9", "", 400, "parameter timeout"},
		{"GET", "/v1/status", "{}", 400, "takes no body"},
		{"POST", "/v1/reconcile", strings.Repeat("x", maxBodyBytes+1), 413, "too large"},
	} {
		code, text := do(t, path, c.method, c.target, c.body)
		if code != c.code || !strings.Contains(text, c.has) {
			t.Errorf("%s %s\nwant:  %d %s\nfound: %d %s", c.method, c.target, c.code, c.has, code, text)
		}
		if c.method != "HEAD" && !json.Valid([]byte(text)) {
			t.Errorf("%s %s: no JSON: %s", c.method, c.target, text)
		}
	}
	if n := f.count(); n != 1 {
		t.Errorf("%d requests came through to reconcile, want 1", n)
	}
}

func TestReconcileFails(t *testing.T) {
	f := newFake()
	f.fails = errors.New("cannot read the kernel")
	path, _ := start(t, f, Options{})
	code, text := do(t, path, "POST", "/v1/reconcile", "")
	if code != 500 || !strings.Contains(text, "cannot read the kernel") {
		t.Errorf("found %d %s", code, text)
	}
}

// TestMalformed speaks to the socket by hand: every answer is an error, and the
// server goes on.
func TestMalformed(t *testing.T) {
	path, _ := start(t, newFake(), Options{})
	for _, c := range []struct {
		name, text string
		code       string
	}{
		{"no HTTP", "hello\r\n\r\n", "400"},
		{"a huge header", "GET /v1/status HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 64<<10) + "\r\n\r\n", "431"},
		{"a huge target", "GET /" + strings.Repeat("a", 64<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n", "431"},
		{"two lengths", "POST /v1/reconcile HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "400"},
		{"a huge length", "POST /v1/reconcile HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999\r\n\r\n", "413"},
		{"endless chunks", "POST /v1/reconcile HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("400\r\n"+strings.Repeat("x", 0x400)+"\r\n", 64), "413"},
		{"an unknown method", "BREW /v1/status HTTP/1.1\r\nHost: x\r\n\r\n", "405"},
		{"a bad escape", "GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
		{"nothing", "", ""},
	} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		// The server may answer and close before it has read everything.
		_, _ = io.WriteString(conn, c.text)
		if c.code != "" {
			line, err := bufio.NewReader(conn).ReadString('\n')
			if err != nil || !strings.HasPrefix(line, "HTTP/1.1 "+c.code) {
				t.Errorf("%s: found %q, %v; want %s", c.name, line, err, c.code)
			}
		}
		conn.Close()
	}
	if code, _ := do(t, path, "GET", "/v1/status", ""); code != 200 {
		t.Errorf("afterwards: %d", code)
	}
}

func TestParallelClients(t *testing.T) {
	path, _ := start(t, newFake(), Options{})
	var wg sync.WaitGroup
	// Each asks three times: together they make no more connections than there
	// are places, however late the server gives them back.
	for i := range maxConns / 3 {
		wg.Go(func() {
			target := []string{"/v1/status", "/v1/plan", "/v1/version", "/v1/wait?timeout=0.05"}[i%4]
			for range 3 {
				resp, err := client(path).Get("http://x" + target)
				if err != nil {
					t.Error(err)
					return
				}
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusOK {
					t.Errorf("%s: %d, %v", target, resp.StatusCode, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestWaitSeesTheChange(t *testing.T) {
	f := newFake()
	path, _ := start(t, f, Options{})
	type result struct {
		code int
		text string
	}
	got := make(chan result, 1)
	go func() {
		code, text := do(t, path, "GET", "/v1/wait?paths=2&timeout=30", "")
		got <- result{code, text}
	}()
	f.set(status.Document{State: status.Converged})
	select {
	case r := <-got:
		t.Fatalf("answered too early: %v", r)
	case <-time.After(50 * time.Millisecond):
	}
	f.set(twoLinks())
	if r := <-got; r.code != 200 || !strings.Contains(r.text, `"done":true`) {
		t.Errorf("found %d %s", r.code, r.text)
	}
}

func TestStopEndsWaiters(t *testing.T) {
	f := newFake()
	path, stop := start(t, f, Options{})
	got := make(chan int, 1)
	idle, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	go func() {
		code, _ := do(t, path, "GET", "/v1/wait?timeout=30", "")
		got <- code
	}()
	waitFor(t, "the request to wait", func() bool { return f.asked.Load() > 0 })
	begun := time.Now()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("stopping took %v", took)
	}
	if code := <-got; code != http.StatusServiceUnavailable {
		t.Errorf("the waiting client got %d", code)
	}
	if _, err := net.Dial("unix", path); err == nil {
		t.Error("the socket is still there")
	}
}

// TestBoundLeavesRoomForRoot admits as the listener does, for users that the
// test cannot be.
func TestBoundLeavesRoomForRoot(t *testing.T) {
	const own = 990
	b := newBound(nil, own)
	fill := func(uid uint32, n int) (admitted int) {
		for range n {
			if b.conns.take(uid, uid == 0 || uid == own) {
				admitted++
			}
		}
		return admitted
	}
	if n := fill(1000, 200); n != maxUserConns {
		t.Errorf("one user has %d connections, want %d", n, maxUserConns)
	}
	others := 0
	for uid := range uint32(200) {
		others += fill(2000+uid, 2)
	}
	if others != maxOtherConns-maxUserConns {
		t.Errorf("many users have %d more connections, want %d", others, maxOtherConns-maxUserConns)
	}
	if n := fill(own, 5) + fill(0, 200); n != maxConns-maxOtherConns {
		t.Errorf("root and the daemon have %d connections, want %d", n, maxConns-maxOtherConns)
	}
	b.conns.giveBack(1000)
	if !b.conns.take(0, true) || b.conns.take(0, true) {
		t.Error("a place that was given back is not one place")
	}
}

func TestTooManyConnections(t *testing.T) {
	path, _ := start(t, newFake(), Options{})
	var idle []net.Conn
	defer func() {
		for _, c := range idle {
			c.Close()
		}
	}()
	fill := func(n int) {
		for range n {
			c, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			idle = append(idle, c)
		}
	}
	busy := func(code int, text string) bool {
		return code == http.StatusServiceUnavailable && strings.Contains(text, busyText)
	}
	// Not root: the bound of one user; root or the daemon's user: that of all.
	fill(maxConns)
	for range 4 * maxBusy {
		if code, text := do(t, path, "GET", "/v1/status", ""); !busy(code, text) {
			t.Fatalf("found %d %s", code, text)
		}
	}
	fill(maxBusy)
	if code, text := unheard(t, path); !busy(code, text) {
		t.Errorf("found %d %s", code, text)
	}
	for _, c := range idle {
		c.Close()
	}
	waitFor(t, "a place to be free", func() bool {
		resp, err := client(path).Get("http://x/v1/status")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// unheard reads what the server says to a client that has not asked.
func unheard(t *testing.T, path string) (code int, text string) {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func waitFor(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatal("waited in vain for " + what)
}

func ExampleWaited() {
	d := twoLinks()
	d.State = status.Failing
	fmt.Println(Waited(&d, 3).Missing)
	// Output: [links that are paths: 3 wanted, 2 there (eth0, wlan0) the kernel refuses changes: see subflowctl status]
}
