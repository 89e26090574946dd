package health

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/subflowd/subflowd/internal/netstate"
)

var begin = time.Date(2026, 3, 1, 11, 0, 0, 0, time.UTC)

func onLink(index int) Path {
	return Path{
		LinkFamily: netstate.LinkFamily{Link: index, Family: netstate.IPv4},
		Source:     netip.AddrFrom4([4]byte{10, 1, byte(index), 2}), Via: []netip.Addr{netip.AddrFrom4([4]byte{10, 1, byte(index), 1})},
	}
}

func paths(n int) (out []Path) {
	for i := range n {
		out = append(out, onLink(i+1))
	}
	return out
}

const failureTakes = 3 * time.Second

// live runs a tracker over a time; answers tells whether the target answers over a link after a time. The states'
// changes are the result, each as "31s: 2 silent", and how many tests of a path there were.
func live(t *Tracker, of []Path, during time.Duration, answers func(link int, at time.Duration) bool) (changes []string, tests int) {
	was := t.States()
	for at := time.Duration(0); at < during; {
		now := begin.Add(at)
		t.Set(of, now)
		due := t.Due(now)
		if len(due) == 0 {
			next := t.Next()
			if next.IsZero() {
				return changes, tests
			}
			at = next.Sub(begin)
			continue
		}
		results := map[netstate.LinkFamily]Result{}
		for _, p := range due {
			tests++
			ok := answers(p.Link, at)
			results[p.LinkFamily] = Result{OK: ok, RTT: time.Millisecond}
			if !ok {
				at = max(at, now.Add(failureTakes).Sub(begin))
			}
		}
		t.Round(netstate.IPv4, results, begin.Add(at))
		is := t.States()
		for _, p := range of {
			if is[p.LinkFamily] != was[p.LinkFamily] {
				changes = append(changes, fmt.Sprintf("%s: %d %s", at.Round(time.Second), p.Link, word(is[p.LinkFamily])))
			}
		}
		was = is
	}
	return changes, tests
}

func word(s State) string {
	if s == Unknown {
		return "unknown"
	}
	return string(s)
}

func between(at, from, to time.Duration) bool { return from <= at && at < to }

func TestStories(t *testing.T) {
	always := func(int, time.Duration) bool { return true }
	for _, c := range []struct {
		name    string
		paths   int
		during  time.Duration
		answers func(link int, at time.Duration) bool
		want    string
	}{
		{"all well", 2, 10 * time.Minute, always, "0s: 1 answers, 0s: 2 answers"},
		{"one path is not tested", 1, 10 * time.Minute, always, ""},
		{"one lost packet", 2, 10 * time.Minute, func(l int, at time.Duration) bool { return l != 2 || !between(at, 29*time.Second, 31*time.Second) }, "0s: 1 answers, 0s: 2 answers"},
		{
			"a path dies and comes back", 2, 10 * time.Minute, func(l int, at time.Duration) bool { return l != 2 || !between(at, 15*time.Second, 200*time.Second) },
			"0s: 1 answers, 0s: 2 answers, 41s: 2 silent, 3m30s: 2 answers",
		},
		{"dead from the start", 3, time.Minute, func(l int, _ time.Duration) bool { return l != 2 }, "3s: 1 answers, 3s: 3 answers, 11s: 2 silent"},
		{
			"the target is gone for a while", 2, 10 * time.Minute, func(_ int, at time.Duration) bool { return !between(at, 15*time.Second, 100*time.Second) },
			"0s: 1 answers, 0s: 2 answers, 41s: 1 down, 41s: 2 down, 2m14s: 1 answers, 2m14s: 2 answers",
		},
		{"the target blinks", 2, 10 * time.Minute, func(_ int, at time.Duration) bool { return !between(at, 29*time.Second, 31*time.Second) }, "0s: 1 answers, 0s: 2 answers"},
		{
			"the target goes beside a dead path", 2, 10 * time.Minute,
			func(l int, at time.Duration) bool { return l == 1 && !between(at, 100*time.Second, 200*time.Second) },
			"3s: 1 answers, 11s: 2 silent, 1m58s: 1 down, 1m58s: 2 down, 3m34s: 1 answers, 3m34s: 2 unknown, 3m42s: 2 silent",
		},
		{"no path answers ever", 2, time.Minute, func(int, time.Duration) bool { return false }, "11s: 1 down, 11s: 2 down"},
	} {
		changes, _ := live(New(30*time.Second), paths(c.paths), c.during, c.answers)
		if found := strings.Join(changes, ", "); found != c.want {
			t.Errorf("%s:\nfound  %s\nwanted %s", c.name, found, c.want)
		}
	}
}

// TestFlappingPath: the path comes back after longer and longer times, until it is well for long.
func TestFlappingPath(t *testing.T) {
	tracker := New(30 * time.Second)
	flaps := func(at time.Duration) bool { return at < 6*time.Hour && at/(4*time.Minute)%2 != 0 }
	changes, _ := live(tracker, paths(2), 6*time.Hour, func(l int, at time.Duration) bool { return l == 1 || !flaps(at) })
	if n := len(changes); n > 20 {
		t.Errorf("%d changes in six hours of flaps of four minutes: %v", n, changes)
	}
	k := onLink(2).LinkFamily
	if h := tracker.Reports()[k].Hold; h < 4*time.Minute {
		t.Errorf("hold %s", h)
	}
	tracker = New(30 * time.Second)
	live(tracker, paths(2), 9*time.Hour, func(l int, at time.Duration) bool { return l == 1 || !flaps(at) })
	if r := tracker.Reports()[k]; r.Hold != 5*time.Second || r.State != Answers {
		t.Errorf("after hours without a flap: %+v", r)
	}
}

// TestPace: what is sent stays small, whatever happens.
func TestPace(t *testing.T) {
	for name, answers := range map[string]func(int, time.Duration) bool{
		"well":    func(int, time.Duration) bool { return true },
		"silent":  func(l int, _ time.Duration) bool { return l == 1 },
		"gone":    func(int, time.Duration) bool { return false },
		"blinks":  func(_ int, at time.Duration) bool { return at/time.Second%2 == 0 },
		"flaps":   func(l int, at time.Duration) bool { return l == 1 || at/time.Minute%2 == 0 },
		"one out": func(l int, at time.Duration) bool { return (at/(5*time.Second)%2 == 0) == (l == 1) },
	} {
		_, tests := live(New(30*time.Second), paths(2), time.Hour, answers)
		most := 2 * 3600 / 4 // what confirming all the time would cost
		if name == "well" || name == "silent" || name == "gone" {
			most = 2*3600/30 + 10
		}
		if tests > most {
			t.Errorf("%s: %d tests in an hour", name, tests)
		}
	}
}

// TestAnotherNetwork: what was found in one network says nothing of another.
func TestAnotherNetwork(t *testing.T) {
	tracker := New(30 * time.Second)
	live(tracker, paths(2), time.Minute, func(l int, _ time.Duration) bool { return l == 1 })
	k := onLink(2).LinkFamily
	if s := tracker.States()[k]; s != Silent {
		t.Fatalf("state %q", s)
	}
	now := begin.Add(time.Minute)
	same := onLink(2)
	same.Source = netip.MustParseAddr("10.1.2.99")
	tracker.Set([]Path{onLink(1), same}, now)
	if s := tracker.States()[k]; s != Silent {
		t.Errorf("another address: state %q", s)
	}
	other := same
	other.Via = []netip.Addr{netip.MustParseAddr("10.1.2.254")}
	tracker.Set([]Path{onLink(1), other}, now)
	if s := tracker.States()[k]; s != Unknown || len(tracker.Due(now)) != 2 {
		t.Errorf("another network: state %q, due %v", s, tracker.Due(now))
	}
	tracker.Set([]Path{other}, now)
	if len(tracker.Due(now.Add(time.Hour))) > 0 || !tracker.Next().IsZero() || len(tracker.States()) > 0 {
		t.Errorf("alone: due %v, states %v", tracker.Due(now), tracker.States())
	}
}

// TestSilentOnlyBesideAnAnswer: whatever the results are, a path is silent only where another one answered in the same round that made it
// so; a target that answers nowhere makes none; and the tracker goes on.
func TestSilentOnlyBesideAnAnswer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tracker := New(rapid.SampledFrom([]time.Duration{time.Second, 30 * time.Second, time.Hour}).Draw(t, "interval"))
		n := rapid.IntRange(1, 4).Draw(t, "paths")
		now := begin
		for range rapid.IntRange(1, 60).Draw(t, "rounds") {
			of := slices.DeleteFunc(paths(n), func(Path) bool { return rapid.IntRange(0, 19).Draw(t, "gone") == 0 })
			tracker.Set(of, now)
			before := tracker.States()
			due := tracker.Due(now)
			if len(due) == 0 {
				if len(of) < 2 {
					now = now.Add(time.Second)
					continue
				}
				next := tracker.Next()
				if !next.After(now) {
					t.Fatalf("nothing is due, and next is %s ago", now.Sub(next))
				}
				now = next
				continue
			}
			results := map[netstate.LinkFamily]Result{}
			answered := false
			for _, p := range due {
				if rapid.IntRange(0, 9).Draw(t, "no result") == 0 {
					continue
				}
				ok := rapid.Bool().Draw(t, "answers")
				results[p.LinkFamily] = Result{OK: ok}
				answered = answered || ok
			}
			tracker.Round(netstate.IPv4, results, now)
			after := tracker.States()
			for k, s := range after {
				switch {
				case s == Silent && before[k] != Silent && (!answered || results[k].OK):
					t.Fatalf("link %d is silent after %v", k.Link, results)
				case s == Answers && before[k] != Answers && !results[k].OK:
					t.Fatalf("link %d answers after %v", k.Link, results)
				}
			}
			if next := tracker.Next(); !next.After(now) {
				t.Fatalf("after a round the next is due %s ago", now.Sub(next))
			}
		}
	})
}
