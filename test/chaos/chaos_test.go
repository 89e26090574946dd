package chaos

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/subflowd/subflowd/pkg/status"
	"github.com/subflowd/subflowd/test/lab"
)

// quiet is how long the daemon may take after the last change: what somebody undid again and again is repaired after
// pauses of up to a minute, and so comes the endpoint of a link that flapped.
const quiet = 100 * time.Second

// TestChaos plays two seeds, in make soak a hundred (CHAOS_SEEDS). CHAOS_SEED and CHAOS_ACTIONS replay one:
// CHAOS_SEED=7 CHAOS_ACTIONS=40 go test -count=1 -v -run TestChaos ./test/chaos.
func TestChaos(t *testing.T) {
	seeds, actions := 2, 40
	if thorough {
		seeds, actions = 100, 100
	}
	actions = number(t, "CHAOS_ACTIONS", actions)
	if seed := number(t, "CHAOS_SEED", 0); seed != 0 {
		chaos(t, uint64(seed), actions)
		return
	}
	for seed := range uint64(number(t, "CHAOS_SEEDS", seeds)) {
		seed++
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			chaos(t, seed, actions)
		})
	}
}

func number(t testing.TB, name string, otherwise int) int {
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatalf("%s=%s: %v", name, v, err)
	}
	return n
}

// chaos plays one seed. Odd seeds have two subnets, even ones one.
func chaos(t *testing.T, seed uint64, actions int) {
	t.Helper()
	oneSubnet := seed%2 == 0
	a := newAuthor(seed, oneSubnet)
	script := a.write(actions)
	healing := a.heal()
	t.Logf("replay: CHAOS_SEED=%d CHAOS_ACTIONS=%d go test -count=1 -v -run TestChaos ./test/chaos", seed, actions)
	t.Cleanup(func() {
		if t.Failed() {
			for i, x := range append(script, healing...) {
				t.Logf("%3d %s", i, x)
			}
		}
	})
	begun := time.Now()
	w := newWorld(t, oneSubnet)
	w.start()
	w.perform(script)
	acted := time.Since(begun)
	w.settle("after the last action")
	first := time.Since(begun)
	w.perform(healing)
	w.settle("after the links were made whole")
	lived, err := w.checkConns(time.Since(begun))
	if err != nil {
		w.main.Dump()
		t.Fatal(err)
	}
	w.closeConns()
	w.settle("after the connections ended")
	w.checkRest()
	w.checkLogs(actions)
	w.cleanup()
	t.Logf("acted %v, quiet %v, all %v; connections that had to live: %d of %d; judged beside a full tunnel: %v; ADD_ADDR heard: %d",
		acted.Round(time.Millisecond), (first - acted).Round(time.Millisecond), time.Since(begun).Round(time.Millisecond),
		lived, len(w.conns), w.guarded, w.main.Client.Counter("MPTcpExtAddAddr"))
}

// settle waits until the oracle agrees, others' things are as on the twin, and the daemon has nothing left to do.
func (w *world) settle(when string) {
	w.t.Helper()
	said := time.Time{}
	lab.Eventually(w.t, quiet, when, func() error {
		if time.Since(said) > time.Second {
			w.repeatAdverts()
			said = time.Now()
		}
		if err := w.judge(); err != nil {
			return err
		}
		if err := w.foreignSide(); err != nil {
			return err
		}
		return w.converged()
	})
}

// converged asks the daemon.
func (w *world) converged() error {
	if !w.daemon.Running() {
		return errors.New("the daemon has ended")
	}
	var d status.Document
	w.main.Client.CtlJSON(&d, "status")
	if d.State != status.Converged {
		return fmt.Errorf("the daemon says %s: %v", d.State, d.Pending)
	}
	return nil
}

// checkRest sees that a host at rest costs nothing: no hot loop.
func (w *world) checkRest() {
	w.t.Helper()
	rounds := func() uint64 {
		var d status.Document
		w.main.Client.CtlJSON(&d, "status")
		return d.Counters.Rounds
	}
	before := rounds()
	time.Sleep(500 * time.Millisecond)
	if n := rounds() - before; n > 20 {
		w.main.Dump()
		w.t.Fatalf("the daemon made %d rounds in half a second on a host at rest", n)
	}
}

var stamp = regexp.MustCompile(`^\S+\s+`)

// checkLogs bounds how often one line is repeated, whatever the actors did.
func (w *world) checkLogs(actions int) {
	w.t.Helper()
	for _, d := range w.logs {
		count := map[string]int{}
		for _, l := range strings.Split(d.Log(), "\n") {
			count[stamp.ReplaceAllString(l, "")]++
		}
		for l, n := range count {
			if n > 40+actions/2 && l != "" {
				w.t.Errorf("the daemon wrote %d times: %s", n, l)
			}
		}
	}
}

// cleanup removes the daemon and all that is its own; what is left is the twin's state.
func (w *world) cleanup() {
	w.t.Helper()
	w.daemon.Stop()
	if r := w.main.Client.Subflowd("--cleanup"); r.Code != 0 {
		w.t.Fatalf("subflowd --cleanup: exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	lab.Eventually(w.t, 20*time.Second, "a host without a trace of the daemon", func() error {
		if main, twin := w.foreignTexts(true); main != twin {
			return fmt.Errorf("after cleanup (-: twin, +: here):\n%s", lab.Diff(twin, main))
		}
		for _, e := range read(w.main.Client).endpoints {
			if w.main.endpoints[e.Address] == "" {
				return fmt.Errorf("after cleanup there is still the endpoint %q", e)
			}
		}
		want := fmt.Sprintf("add_addr_accepted %d subflows %d", w.limits[1], w.limits[0])
		if now := w.main.Client.Limits(); now != want {
			return fmt.Errorf("after cleanup the limits are %q; others set %q", now, want)
		}
		return w.foreignSide()
	})
}
