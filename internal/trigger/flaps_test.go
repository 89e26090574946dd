package trigger

import (
	"testing"
	"time"
)

// held tells for how long link 2 is held back at the time.
func held(f *Flaps, now time.Time) time.Duration {
	h, next := f.Held(now)
	if h[2] == "" {
		return 0
	}
	return next.Sub(now)
}

func TestFlapsHoldTheEndpointBack(t *testing.T) {
	var f Flaps
	now := t0
	for i, want := range []int{0, 0, 1, 2, 4, 8, 16, 32, 60, 60} {
		f.Down(2, now)
		now = now.Add(time.Second)
		f.Up(2, now)
		if got := held(&f, now); got != time.Duration(want)*time.Second {
			t.Fatalf("flap %d: want %ds, got %v", i+1, want, got)
		}
		now = now.Add(time.Second)
	}
}

func TestFewFlapsAreBorne(t *testing.T) {
	var f Flaps
	now := t0
	for range 20 { // two in each window
		f.Down(2, now)
		f.Up(2, now.Add(time.Second))
		if got := held(&f, now.Add(time.Second)); got != 0 {
			t.Fatalf("held back for %v after %v", got, now.Sub(t0))
		}
		now = now.Add(31 * time.Second)
	}
}

func TestFlapsDecay(t *testing.T) {
	var f Flaps
	now := t0
	for range 6 { // levels 1 to 4
		f.Down(2, now)
		f.Up(2, now)
	}
	if got := held(&f, now); got != 8*time.Second {
		t.Fatalf("want 8s, got %v", got)
	}
	if h, _ := f.Held(now); h[2] != "flapping: its carrier keeps going, held back for 8s" {
		t.Errorf("reason: %q", h[2])
	}
	now = now.Add(2 * FlapWindow) // levels 3 and 2
	f.Down(2, now)
	f.Up(2, now)
	if got := held(&f, now); got != 2*time.Second {
		t.Errorf("after two quiet windows: want 2s, got %v", got)
	}
	now = now.Add(10 * FlapWindow)
	if f.Held(now); len(f.m) != 0 {
		t.Error("a quiet link is not forgotten")
	}
}

func TestFlapsOfLinksAreApart(t *testing.T) {
	var f Flaps
	for range 5 {
		f.Down(2, t0)
		f.Up(2, t0)
	}
	f.Down(3, t0)
	f.Up(3, t0)
	if h, _ := f.Held(t0); len(h) != 1 || h[2] == "" {
		t.Errorf("got %v", h)
	}
	f.Gone(2)
	if h, _ := f.Held(t0); len(h) != 0 {
		t.Errorf("a link that is gone is held back: %v", h)
	}
}

func TestFlapsByTheThousandAreForgottenToo(t *testing.T) {
	var f Flaps
	now := t0
	for range 1000 {
		f.Down(2, now)
		now = now.Add(50 * time.Millisecond)
		f.Up(2, now)
		now = now.Add(50 * time.Millisecond)
	}
	if _, next := f.Held(now); next.Sub(now) > MaxFlapPause {
		t.Errorf("held for %v", next.Sub(now))
	}
	now = now.Add((maxFlapLevel + 1) * FlapWindow)
	f.Down(2, now)
	f.Up(2, now.Add(time.Second))
	if held, _ := f.Held(now.Add(time.Second)); len(held) != 0 {
		t.Errorf("after minutes of quiet a single loss holds the endpoint back: %v", held)
	}
}
