package trigger

import (
	"testing"
	"time"
)

func TestFightSlowsDown(t *testing.T) {
	var f Fights[string]
	const key = "rules of 10.1.1.2"
	now := t0
	for i, want := range []int{0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60} {
		wait := f.Undone(key, now)
		if wait != time.Duration(want)*time.Second {
			t.Fatalf("undone %d times: want a pause of %ds, got %v", i+1, want, wait)
		}
		if again := f.Undone(key, now.Add(wait/2)); again != wait-wait/2 {
			t.Fatalf("undone %d times: asked again after %v: got %v", i+1, wait/2, again)
		}
		if wait > 0 && !f.Waiting(now).Equal(now.Add(wait)) {
			t.Fatalf("the next repair is due at %v, not at %v", now.Add(wait), f.Waiting(now))
		}
		now = now.Add(wait)
		f.Repaired(key)
		if !f.Waiting(now).IsZero() {
			t.Fatal("a repair waits though it was made")
		}
		now = now.Add(10 * time.Millisecond)
	}
	if x, ok := f.Get(key); !ok || x.Count != 11 || !x.Since.Equal(t0) {
		t.Errorf("got %+v", x)
	}
}

func TestFightIsForgottenAfterQuiet(t *testing.T) {
	for _, c := range []struct {
		name  string
		quiet time.Duration
		want  int
	}{
		{"still fighting", FightQuiet, 6},
		{"over", FightQuiet + time.Second, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var f Fights[string]
			now := t0
			for range 5 {
				now = now.Add(f.Undone("x", now))
				f.Repaired("x")
			}
			x, _ := f.Get("x")
			now = x.Last.Add(c.quiet)
			f.Expire(now)
			f.Undone("x", now)
			if x, _ = f.Get("x"); x.Count != c.want {
				t.Errorf("want %d, got %d", c.want, x.Count)
			}
		})
	}
}

func TestUnrepairedFightIsNotForgotten(t *testing.T) {
	var f Fights[string]
	f.Undone("x", t0)
	f.Expire(t0.Add(time.Hour))
	f.Undone("x", t0.Add(time.Hour))
	if x, ok := f.Get("x"); !ok || x.Count != 1 {
		t.Errorf("got %+v, %v", x, ok)
	}
}

func TestWorstFightsFirst(t *testing.T) {
	var f Fights[string]
	for key, n := range map[string]int{"a": 3, "b": 4, "c": 9} {
		for range n {
			f.Undone(key, t0)
			f.Repaired(key)
		}
	}
	w := f.Worst()
	if len(w) != 2 || w[0] != "c" || w[1] != "b" {
		t.Errorf("got %v", w)
	}
}

func TestFightThatIsOverByItself(t *testing.T) {
	var f Fights[string]
	for range 5 {
		f.Undone("x", t0)
		f.Repaired("x")
	}
	f.Undone("x", t0)
	f.Settle(func(string) bool { return true })
	if f.Waiting(t0).IsZero() {
		t.Error("the repair that waits was forgotten")
	}
	f.Settle(func(string) bool { return false })
	if !f.Waiting(t0).IsZero() {
		t.Error("a repair waits for nothing")
	}
	f.Expire(t0.Add(FightQuiet + time.Second))
	if _, ok := f.Get("x"); ok {
		t.Error("it is not forgotten")
	}
}

// TestFlickeringFight: somebody does and undoes the same thing a hundred times a
// second. That is one fight with one pause, not a hundred.
func TestFlickeringFight(t *testing.T) {
	var f Fights[string]
	now := t0
	for range FreeRepairs {
		f.Undone("x", now)
		f.Repaired("x")
	}
	for range 99 {
		now = now.Add(10 * time.Millisecond)
		if f.Undone("x", now) == 0 {
			t.Fatal("it is repaired during the pause")
		}
		f.Settle(func(string) bool { return false })
		if !f.On(now) || !f.Waiting(now).IsZero() {
			t.Fatal("the pause runs, and nothing waits to be repaired")
		}
	}
	if x, _ := f.Get("x"); x.Count != FreeRepairs+1 || x.Pause != time.Second {
		t.Errorf("got %+v", x)
	}
	f.Undone("x", now)
	if wait := f.Undone("x", now.Add(20*time.Millisecond)); wait != 0 {
		t.Errorf("after the pause the repair waits %v more", wait)
	}
	if f.On(now.Add(20 * time.Millisecond)) {
		t.Error("a pause that is over goes on")
	}
}
