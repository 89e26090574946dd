package inspect

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/check"
	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/kernel"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
	"github.com/subflowd/subflowd/test/lab"
)

// reader is what Input.Kernel wants.
type reader interface {
	Occupied() (*netstate.Snapshot, error)
	Unmanaged() (*netstate.Snapshot, error)
}

// world is a host with two uplinks in which all is well, and how it is looked
// at.
type world struct {
	*lab.Net
	cfg  config.Config
	wrap func(reader) reader
	seen func(*check.Facts) // what only the caller of Gather knows
}

// newWorld has the real daemon make a host as it should be.
func newWorld(t *testing.T) *world {
	t.Helper()
	n := lab.TwoSubnets(t, lab.IPv6())
	if r := n.Client.Subflowd("--once"); r.Code != 0 {
		t.Fatalf("subflowd --once: %d\n%s", r.Code, r.Stderr)
	}
	w := &world{Net: n}
	w.reset()
	return w
}

func (w *world) reset() { w.cfg, w.wrap, w.seen = config.Default(), nil, nil }

// on looks at a host.
func (w *world) on(h *lab.Host) (found []check.Finding, unseen []Unseen) {
	w.T.Helper()
	h.Do(func() {
		k, err := kernel.Open(kernel.Options{Protocol: w.cfg.Routing.Protocol, TableBase: w.cfg.Routing.TableBase})
		if err != nil {
			w.T.Fatal(err)
		}
		defer k.Close()
		in := Input{Config: w.cfg, Kernel: k}
		if w.wrap != nil {
			in.Kernel = w.wrap(k)
		}
		var facts *check.Facts
		if facts, unseen, err = Gather(in); err != nil {
			w.T.Fatal(err)
		}
		if w.seen != nil {
			w.seen(facts)
		}
		found = check.Look(facts)
	})
	return found, unseen
}

func (w *world) look() []check.Finding {
	w.T.Helper()
	found, _ := w.on(w.Client)
	return found
}

// table is the number of a path table of the client.
func (w *world) table(dev string) uint32 { return 100000 + uint32(w.Client.Ifindex(dev)) }

// apply makes changes that ip(8) refuses to make.
func (w *world) apply(changes ...netstate.Change) {
	w.T.Helper()
	w.Client.Do(func() {
		k, err := kernel.Open(kernel.Options{Protocol: 77, TableBase: 100000})
		if err != nil {
			w.T.Fatal(err)
		}
		defer k.Close()
		for i, err := range k.Apply(changes) {
			if err != nil {
				w.T.Fatalf("%s: %v", changes[i], err)
			}
		}
	})
}

// situation is a fault, brought about on the client and taken back.
type situation struct {
	code     string
	name     string // where a code has several
	severity plan.Severity
	object   string // empty: whatever it is
	near     func(w *world)
	inject   func(w *world)
	undo     func(w *world)
}

func ip(commands ...string) func(*world) {
	return func(w *world) { w.Client.IP(commands...) }
}

func sysctl(pairs ...string) func(*world) {
	return func(w *world) { w.Client.Sysctl(pairs...) }
}

func do(steps ...func(*world)) func(*world) {
	return func(w *world) {
		for _, s := range steps {
			s(w)
		}
	}
}

// read replaces what was read of the kernel.
func read(change func(*netstate.Snapshot) error) func(*world) {
	return func(w *world) {
		w.wrap = func(r reader) reader { return changed{r, change} }
	}
}

type changed struct {
	reader
	change func(*netstate.Snapshot) error
}

func (c changed) Occupied() (*netstate.Snapshot, error) {
	s, err := c.reader.Occupied()
	if err != nil {
		return nil, err
	}
	own := *s
	if err := c.change(&own); err != nil {
		return nil, err
	}
	return &own, nil
}

func codes(found []check.Finding) []string {
	var out []string
	for _, f := range found {
		out = append(out, fmt.Sprintf("%s %s %s: %s", f.Severity, f.Code, f.Object, f.Text))
	}
	return out
}

func pick(found []check.Finding, code string) (check.Finding, bool) {
	i := slices.IndexFunc(found, func(f check.Finding) bool { return f.Code == code })
	if i < 0 {
		return check.Finding{}, false
	}
	return found[i], true
}

// TestSituations brings every fault about on one host, one after the other, and
// takes it back. Before, after, and in a similar situation that is none, the
// finding must not be there.
func TestSituations(t *testing.T) {
	t.Parallel()
	lab.Need(t, lab.Root, "nft", "iptables")
	w := newWorld(t)
	if found := w.look(); len(found) > 0 {
		t.Fatalf("found on a host on which all is well:\n%s", strings.Join(codes(found), "\n"))
	}
	for _, s := range situations {
		t.Run(s.code+s.name, func(t *testing.T) {
			w.T = t
			w.reset()
			w.absent(s, "before")
			if s.near != nil {
				s.near(w)
				w.absent(s, "in a similar situation")
			}
			s.inject(w)
			w.present(s)
			w.reset()
			if s.undo != nil {
				s.undo(w)
			}
			w.absent(s, "afterwards")
		})
		if t.Failed() {
			break
		}
	}
	w.T = t
	if found := w.look(); len(found) > 0 && !t.Failed() {
		t.Errorf("left over:\n%s", strings.Join(codes(found), "\n"))
	}
}

func (w *world) absent(s situation, when string) {
	w.T.Helper()
	if f, ok := pick(w.look(), s.code); ok {
		w.T.Fatalf("%s: %s %s %s (%q)", when, f.Severity, f.Object, f.Text, f.Evidence)
	}
}

func (w *world) present(s situation) {
	w.T.Helper()
	found := w.look()
	f, ok := pick(found, s.code)
	if !ok || f.Severity != s.severity || s.object != "" && f.Object != s.object {
		w.T.Fatalf("wanted: %s %s %s\nfound:\n%s", s.severity, s.code, s.object, strings.Join(codes(found), "\n"))
	}
	if f.Text == "" || f.Object == "" || f.Consequence == "" {
		w.T.Errorf("says too little: %+v", f)
	}
	w.T.Logf("%s: %s %s\n\tseen: %s\n\tso: %s\n\tdo: %s", f.Severity, f.Object, f.Text, strings.Join(f.Evidence, "\n\t      "), f.Consequence, f.Remedy)
}

// TestEveryFinding wants a case, and with it a healthy one, for every code.
func TestEveryFinding(t *testing.T) {
	t.Parallel()
	tested := map[string]bool{}
	for _, s := range situations {
		tested[s.code] = true
	}
	for _, s := range network {
		tested[s.code] = true
	}
	for _, m := range managers {
		tested[m.code] = true
	}
	tested["events-lost"] = true // TestOverflow
	for code := range check.Consequences {
		if !tested[code] {
			t.Errorf("%s has no case", code)
		}
	}
	for code := range tested {
		if _, ok := check.Consequences[code]; !ok {
			t.Errorf("%s has no consequence", code)
		}
	}
}

// TestHiddenPathManager has a kernel that shows endpoints and limits to
// CAP_NET_ADMIN only; the running one shows them to all.
func TestHiddenPathManager(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hide := read(func(*netstate.Snapshot) error { return fmt.Errorf("read endpoints: %w", unix.EPERM) })
	hide(w)
	found, unseen := w.on(w.Client)
	if len(found) > 0 || len(unseen) != 1 || unseen[0] != (Unseen{"endpoints and limits", needsAdmin}) {
		t.Errorf("not seen %v; found:\n%s", unseen, strings.Join(codes(found), "\n"))
	}
	w.Client.Sysctl("net.mptcp.enabled", "0")
	if found, _ := w.on(w.Client); len(found) != 1 || found[0].Code != "mptcp-disabled" {
		t.Errorf("switched off: found:\n%s", strings.Join(codes(found), "\n"))
	}
}

// TestOneRouteIsNotAll: a route of its own for the address that is asked for says
// nothing of other destinations.
func TestOneRouteIsNotAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Client.Sysctl("net.ipv4.conf.eth1.rp_filter", "1")
	w.Client.IP("route add "+kernel.Probe(netstate.IPv4).String()+" via 10.1.1.1 dev eth0",
		"-6 route add "+kernel.Probe(netstate.IPv6).String()+" via 2001:db8:1::1 dev eth0")
	for _, code := range []string{"wrong-link", "rules-overruled", "rp-filter"} {
		if f, ok := pick(w.look(), code); ok {
			t.Errorf("%+v", f)
		}
	}
}
