package mptcp

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func subscribe(t *testing.T, c *Client) *EventStream {
	t.Helper()
	s, err := c.SubscribeEvents()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// expect reads events up to the first that the condition holds for.
func expect(t *testing.T, s *EventStream, what string, cond func(Event) bool) Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		e, err := s.Receive(ctx)
		if err != nil {
			t.Fatalf("waiting for %s: %v", what, err)
		}
		if cond(e) {
			return e
		}
	}
}

func ofType(typ EventType) func(Event) bool { return func(e Event) bool { return e.Type == typ } }

func TestEvents(t *testing.T) {
	newNamespace(t)
	c := dial(t)
	s := subscribe(t, c)
	p := twoPaths(t)
	x := withSubflows(t, c, p.client, 2)
	join := subflowFrom(t, x, "10.0.0.1")
	client := func(typ EventType) func(Event) bool {
		return func(e Event) bool { return e.Type == typ && e.Token == x.Token }
	}

	e := expect(t, s, "CREATED", client(EventCreated))
	if e.Local != x.Local || e.Remote != x.Remote || e.ServerSide {
		t.Errorf("%v of %v -> %v", e, x.Local, x.Remote)
	}
	e = expect(t, s, "ESTABLISHED", ofType(EventEstablished))
	if e.ServerSide && e.Local != x.Remote {
		t.Errorf("server's %v of %v -> %v", e, x.Local, x.Remote)
	}
	e = expect(t, s, "SF_ESTABLISHED", client(EventSubflowEstablished))
	if e.Local != join.Local || e.Remote != join.Remote || e.LocalID != 1 || e.Backup || e.Errno != 0 {
		t.Errorf("%v of %+v", e, join)
	}
	if err := c.SetFlags(Endpoint{ID: 1, Addr: addr("10.0.0.1")}, FlagBackup); err != nil {
		t.Fatal(err)
	}
	e = expect(t, s, "SF_PRIO", ofType(EventSubflowPriority))
	if e.Token == x.Token || !e.Backup || e.RemoteID != 1 {
		t.Errorf("the server's %v", e)
	}
	if err := c.DestroySubflow(join); err != nil {
		t.Fatal(err)
	}
	e = expect(t, s, "SF_CLOSED", client(EventSubflowClosed))
	if e.Local != join.Local || e.Errno == 0 {
		t.Errorf("%v of %+v", e, join)
	}
	if err := c.AddEndpoint(Endpoint{Addr: addr("127.0.0.1"), Port: 4711, Flags: FlagSignal}); err != nil {
		t.Fatal(err)
	}
	if kernelAtLeast(t, 6, 2) {
		e = expect(t, s, "LISTENER_CREATED", ofType(EventListenerCreated))
		if e.Local.Port() != 4711 || e.Token != 0 {
			t.Errorf("%v of port 4711", e)
		}
	}
	e = expect(t, s, "ANNOUNCED", ofType(EventAnnounced))
	if e.Remote.Addr() != addr("127.0.0.1") || e.Remote.Port() != 4711 || e.RemoteID == 0 {
		t.Errorf("%v of 127.0.0.1:4711", e)
	}
	if err := c.DeleteEndpoint(Endpoint{ID: e.RemoteID}); err != nil {
		t.Fatal(err)
	}
	announced := e.RemoteID
	expect(t, s, "REMOVED", func(e Event) bool { return e.Type == EventRemoved && e.RemoteID == announced })
	p.close()
	expect(t, s, "CLOSED", ofType(EventClosed))
}

func TestEventStreamOverflow(t *testing.T) {
	newNamespace(t)
	c := dial(t)
	s := subscribe(t, c)
	receiveBuffer(t, s, 1)
	l, at := listen(t, "127.0.0.1:0")
	for range 20 {
		connect(t, l, at, "")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var err error
	for err == nil {
		_, err = s.Receive(ctx)
	}
	if !errors.Is(err, ErrOverflow) {
		t.Fatalf("got %v, want ErrOverflow", err)
	}
	receiveBuffer(t, s, eventBuffer)
	p := connect(t, l, at, "")
	token := connectionOf(t, c, p.client).Token
	expect(t, s, "CREATED after the overflow", func(e Event) bool {
		return e.Type == EventCreated && e.Token == token
	})
}

func receiveBuffer(t *testing.T, s *EventStream, size int) {
	t.Helper()
	err := s.raw.Control(func(fd uintptr) {
		if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestEventStreamEnds(t *testing.T) {
	newNamespace(t)
	c := dial(t)
	s := subscribe(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	for _, tc := range []struct {
		name string
		end  func()
		want error
	}{
		{"cancelled", cancel, context.Canceled},
		{"closed", func() { s.Close() }, ErrClosed},
	} {
		done := make(chan error, 1)
		go func() {
			_, err := s.Receive(ctx)
			done <- err
		}()
		tc.end()
		select {
		case err := <-done:
			if !errors.Is(err, tc.want) {
				t.Errorf("%s: got %v, want %v", tc.name, err, tc.want)
			}
		case <-time.After(patience):
			t.Fatalf("%s: Receive does not return", tc.name)
		}
		ctx = context.Background()
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// TestContextDoesNotOutlive: a context that ends after its Receive leaves later ones alone.
func TestContextDoesNotOutlive(t *testing.T) {
	newNamespace(t)
	c := dial(t)
	s := subscribe(t, c)
	l, at := listen(t, "127.0.0.1:0")
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		connect(t, l, at, "")
		if _, err := s.Receive(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := s.Receive(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("ended context: got %v", err)
		}
	}
	expect(t, s, "an event", func(Event) bool { return true })
}

func TestSubscribeFromAnotherNamespace(t *testing.T) {
	newNamespace(t)
	c := dial(t)
	errs := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			errs <- err
			return
		}
		_, err := c.SubscribeEvents()
		errs <- err
	}()
	if err := <-errs; !errors.Is(err, ErrNamespace) {
		t.Errorf("got %v, want ErrNamespace", err)
	}
	// Other calls do not depend on the thread.
	if _, err := c.Endpoints(); err != nil {
		t.Error(err)
	}
}
