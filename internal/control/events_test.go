package control

import (
	"bufio"
	"encoding/json"
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

// stream opens a stream of events by hand, so that the test decides when it reads.
func stream(t *testing.T, path, query string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "GET %s%s HTTP/1.1\r\nHost: x\r\n\r\n", PathEvents, query)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		t.Fatalf("%d %s", resp.StatusCode, text)
	}
	return c, bufio.NewReader(resp.Body)
}

func next(t *testing.T, r *bufio.Reader) status.Event {
	t.Helper()
	text, err := r.ReadBytes('\n')
	if err != nil {
		t.Fatalf("read an event: %v", err)
	}
	var e status.Event
	if err := json.Unmarshal(text, &e); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return e
}

func TestEvents(t *testing.T) {
	f := newFake()
	path, stop := start(t, f, Options{})
	_, a := stream(t, path, "")
	_, b := stream(t, path, "?recent=3")
	for _, r := range []*bufio.Reader{a, b} {
		if e := next(t, r); e.State != status.Converging {
			t.Errorf("first %+v", e)
		}
	}
	f.set(status.Document{State: status.Converged})
	for _, r := range []*bufio.Reader{a, b} {
		if e := next(t, r); e.State != status.Converged {
			t.Errorf("then %+v", e)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadAll(a); err != nil && err != io.ErrUnexpectedEOF {
		t.Errorf("the stream of a server that stops ends with %v", err)
	}
}

func TestEventsParameters(t *testing.T) {
	path, _ := start(t, newFake(), Options{})
	for _, target := range []string{"?recent=129", "?recent=-1", "?recent=x", "?since=3"} {
		if code, text := do(t, path, "GET", PathEvents+target, ""); code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", target, code, text)
		}
	}
}

// TestReaderThatDoesNotRead leaves a stream alone while thousands of things
// happen: nobody waits for it, other readers see all, and the server stops.
func TestReaderThatDoesNotRead(t *testing.T) {
	f := newFake()
	path, stop := start(t, f, Options{})
	stream(t, path, "")
	_, reads := stream(t, path, "")
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 20000 {
			f.set(status.Document{State: status.Converging})
		}
		f.set(status.Document{State: status.Failing})
	})
	for next(t, reads).State != status.Failing {
	}
	wg.Wait()
	begun := time.Now()
	if err := stop(); err != nil || time.Since(begun) > 20*time.Second {
		t.Errorf("the server stopped after %v: %v", time.Since(begun), err)
	}
}

// TestStreamsLeaveRoom: streams stay open, and must not take every connection.
func TestStreamsLeaveRoom(t *testing.T) {
	const own = 990
	s := New(newFake(), Options{})
	n := 0
	for s.streams.take(1000, false) {
		n++
	}
	if n != maxUserStreams {
		t.Errorf("one user has %d streams, want %d", n, maxUserStreams)
	}
	for uid := uint32(2000); uid < 2200; uid++ {
		if s.streams.take(uid, false) {
			n++
		}
	}
	if n != maxOtherStreams || maxOtherStreams >= maxOtherConns || maxStreams >= maxConns || maxUserStreams >= maxUserConns {
		t.Errorf("users have %d streams", n)
	}
	if !s.streams.take(own, true) {
		t.Error("none is left for the daemon's own user")
	}
}

// TestTooManyStreams is answered at once, and a stream that ends gives its place
// back.
func TestTooManyStreams(t *testing.T) {
	path, _ := start(t, newFake(), Options{})
	var open []net.Conn
	refused := func() bool {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", PathEvents)
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
		return strings.Contains(line, "503")
	}
	for len(open) < maxStreams {
		if refused() {
			t.Fatalf("stream %d is refused", len(open))
		}
	}
	if !refused() {
		t.Error("there is no end to streams")
	}
	for _, c := range open {
		c.Close()
	}
	end := time.Now().Add(20 * time.Second)
	for refused() {
		if time.Now().After(end) {
			t.Fatal("no place comes back")
		}
		time.Sleep(5 * time.Millisecond)
	}
	for _, c := range open {
		c.Close()
	}
}
