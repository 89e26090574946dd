package chaos

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/subflowd/subflowd/pkg/status"
	"github.com/subflowd/subflowd/test/lab"
)

// TestKillAtRequest kills the daemon before and after its n-th request to the kernel, in a bring-up, in changes, in a
// teardown and in a cleanup. The next daemon must bring the right state, and cleanup leave nothing. make soak takes every
// n, make test some.
func TestKillAtRequest(t *testing.T) {
	step := 9
	if thorough {
		step = 1
	}
	for _, story := range []struct {
		name string
		run  func(*fatality)
		cuts bool
	}{
		{"bring-up", (*fatality).bringUp, true},
		{"change", (*fatality).change, false},
		{"teardown", (*fatality).teardown, false},
		{"cleanup", (*fatality).cleanup, true},
	} {
		t.Run(story.name, func(t *testing.T) {
			t.Parallel()
			f := newFatality(t)
			n := 1
			for ; ; n += step {
				f.n, f.died = n, false
				story.run(f)
				if !f.died {
					break // it has fewer requests
				}
				if n > 2000 {
					t.Fatal("there is no end of requests")
				}
			}
			t.Logf("killed at every %d. of %d points, two for each request", step, n)
			// A cleanup cuts what uses an endpoint, as its user wants.
			if story.cuts {
				return
			}
			if err := f.one.alive(20 * time.Second); err != nil {
				t.Errorf("the connection whose address stayed was cut: %v", err)
			}
			f.clean()
			f.main.Client.WantLimits("add_addr_accepted 0 subflows 2")
		})
	}
}

// fatality is a host whose daemon dies at the n-th point.
type fatality struct {
	*world
	bin    string
	n      int
	died   bool
	before string // the host without a daemon
	one    *flow  // to a server that refuses joins, from an address that stays
	moved  bool
}

var faulty struct {
	sync.Once
	dir string
	err error
}

// faultyDaemon is subflowd with points at which it can be killed.
func faultyDaemon(t testing.TB) string {
	t.Helper()
	faulty.Do(func() {
		if faulty.dir, faulty.err = os.MkdirTemp("", "subflowd-faultpoint"); faulty.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-buildvcs=false", "-tags", "faultpoint", "-o", faulty.dir, "github.com/subflowd/subflowd/cmd/subflowd")
		if out, err := cmd.CombinedOutput(); err != nil {
			faulty.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if faulty.err != nil {
		t.Fatal(faulty.err)
	}
	return filepath.Join(faulty.dir, "subflowd")
}

func TestMain(m *testing.M) {
	code := m.Run()
	if faulty.dir != "" {
		_ = os.RemoveAll(faulty.dir)
	}
	os.Exit(code)
}

func newFatality(t testing.TB) *fatality {
	w := &world{t: t, main: newSide(t, false), limits: [2]int{2, 0}}
	f := &fatality{world: w, bin: faultyDaemon(t)}
	f.one = kindsOfConn[1].dial(w.main)
	w.conns = []*pair{{name: "refusing", main: f.one}}
	f.before = w.main.Client.Snapshot()
	f.main.Client.Subflowd("--version") // makes the configuration file
	return f
}

// dies runs the faulty daemon until it is killed, or has nothing more to do.
func (f *fatality) dies(args ...string) {
	f.t.Helper()
	h := f.main.Client
	dir := h.StateDir()
	cmd := h.Command(f.bin, append([]string{
		"--state-dir", dir, "--socket", filepath.Join(dir, "control.sock"),
		"--config", filepath.Join(dir, "etc", "subflowd.toml"), "--log-format", "console",
	}, args...)...)
	cmd.Env = append(cmd.Env, fmt.Sprintf("SUBFLOWD_TEST_EXIT_AFTER=%d", f.n))
	p := h.StartCommand(cmd)
	lab.Eventually(f.t, quiet, "the daemon dies or has nothing to do", func() error {
		if !p.Running() {
			f.died = p.Wait(5*time.Second) == -1
			return nil
		}
		var d status.Document
		r := h.Ctl("-o", "json", "status")
		if json.Unmarshal([]byte(r.Stdout), &d) != nil || d.State != status.Converged {
			return fmt.Errorf("it lives: exit status %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		return nil
	})
	if p.Running() {
		p.Stop()
	}
}

// recover starts an ordinary daemon, waits for the right state and stops it.
func (f *fatality) recover() {
	f.t.Helper()
	f.world.start()
	lab.Eventually(f.t, quiet, fmt.Sprintf("the right state after a kill at point %d", f.n), func() error {
		if err := f.judge(); err != nil {
			return err
		}
		return f.converged()
	})
	f.daemon.Stop()
}

// spotless wants the host as it was before the first daemon.
func (f *fatality) spotless(what string) {
	f.t.Helper()
	lab.Eventually(f.t, 20*time.Second, fmt.Sprintf("%s at point %d leaves nothing", what, f.n), func() error {
		return f.main.Client.CheckSnapshot(f.before)
	})
}

func (f *fatality) clean() {
	f.t.Helper()
	if r := f.main.Client.Subflowd("--cleanup"); r.Code != 0 {
		f.t.Fatalf("subflowd --cleanup after a kill at point %d: exit status %d\n%s%s", f.n, r.Code, r.Stdout, r.Stderr)
	}
}

func (f *fatality) bringUp() {
	f.dies()
	f.recover()
	f.clean()
	f.spotless("a bring-up killed")
}

// change renumbers the second link and gives the host a third one, or takes that back, while no daemon runs; the one
// that dies does all the work.
func (f *fatality) change() {
	c := f.main.Client
	if f.n == 1 {
		f.recover()
	}
	if f.moved = !f.moved; f.moved {
		f.main.ip(f.main.Client, "addr add 10.1.2.77/24 dev eth1", "addr add 2001:db8:2::77/64 dev eth1 nodad",
			"addr del 2001:db8:2::2/64 dev eth1", "route replace default via 10.1.2.254 dev eth1 metric 200",
			"link add eth2 type veth peer name r2 netns {router}", "link set eth2 up",
			"addr add 10.1.3.2/24 dev eth2", "route add default via 10.1.3.1 dev eth2 metric 300")
		f.main.ip(f.main.Router, "link set r2 up", "addr add 10.1.3.1/24 dev r2")
		c.WaitCarrier("eth2", true)
	} else {
		f.main.ip(f.main.Client, "link del eth2", "addr del 10.1.2.77/24 dev eth1", "addr del 2001:db8:2::77/64 dev eth1",
			"addr add 2001:db8:2::2/64 dev eth1 nodad", "route replace default via 10.1.2.1 dev eth1 metric 200")
	}
	f.dies()
	f.recover()
}

// teardown takes the default routes away: no link is an uplink, and nothing of the daemon may stay, but the endpoint that
// a connection needs.
func (f *fatality) teardown() {
	defaults := []string{
		"route %s default via 10.1.1.1 dev eth0 metric 100", "-6 route %s default via 2001:db8:1::1 dev eth0 metric 100",
		"route %s default via 10.1.2.1 dev eth1 metric 200", "-6 route %s default via 2001:db8:2::1 dev eth1 metric 200",
	}
	all := func(verb string) {
		for _, d := range defaults {
			f.main.Client.IP(fmt.Sprintf(d, verb))
		}
	}
	if f.n == 1 {
		f.recover()
	}
	all("del")
	f.dies()
	f.recover()
	all("add")
	f.recover()
}

func (f *fatality) cleanup() {
	f.recover()
	f.dies("--cleanup")
	f.clean()
	f.spotless("a cleanup killed")
}
