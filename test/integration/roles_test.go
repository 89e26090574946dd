package integration

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/subflowd/subflowd/test/lab"
)

// remotes waits until the established subflows of a connection lead to these addresses.
func remotes(t testing.TB, c *lab.Conn, want ...string) {
	t.Helper()
	lab.Eventually(t, soon, "subflows to "+strings.Join(want, ", "), func() error {
		var got []string
		for _, s := range c.Subflows() {
			if s.Established {
				got = append(got, s.Remote.Addr().String())
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return fmt.Errorf("subflows to %v", got)
		}
		return nil
	})
}

// calledBy has the server connect to the client's first address and wants subflows to these.
func calledBy(n *lab.Net, want ...string) {
	n.T.Helper()
	s := n.Client.Listen("0.0.0.0:5009")
	defer s.Close()
	c := n.Server.Dial(n.A.Addr + ":5009")
	defer c.Close()
	c.WantEcho(soon)
	remotes(n.T, c, want...)
	c.WantEcho(soon)
}

// TestRoles judges each role by the endpoints and by who connects to whom.
func TestRoles(t *testing.T) {
	t.Parallel()
	const client, server, both = "subflow", "signal", "signal subflow"
	for _, c := range []struct {
		name, toml, a, b string
		out              bool // a connection that the host opens uses both links
		in               bool // so does one that it accepts
	}{
		{"client", "role = \"client\"\n", client, client, true, false},
		{"server", "role = \"server\"\n", server, server, false, true},
		{"both", "role = \"both\"\n", both, both, true, true},
		{"for a link", "role = \"server\"\n[[link]]\nname = \"eth1\"\nrole = \"client\"\n", server, client, true, false},
		{"for the other link", "[[link]]\nname = \"eth1\"\nrole = \"server\"\n", client, server, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := lab.TwoSubnets(t)
			before := n.Client.Settled()
			d := n.Client.DaemonConfig(c.toml)
			lab.Eventually(t, soon, "endpoints", func() error {
				return n.Client.CheckEndpoints("10.1.1.2 "+c.a+" dev eth0", "10.1.2.2 "+c.b+" dev eth1")
			})
			limits := "add_addr_accepted 4 subflows 2"
			if c.name == "server" {
				limits = "add_addr_accepted 0 subflows 2"
			}
			n.Client.WantLimits(limits)
			if c.out {
				twoSubflows(n, "10.9.0.2:5001", n.A.Addr, n.B.Addr)
			}
			if c.in {
				calledBy(n, n.A.Addr, n.B.Addr)
			} else {
				calledBy(n, n.A.Addr)
			}
			d.Stop()
			cleanup(n.Client)
			n.Client.WantSnapshot(before)
		})
	}
}

// TestFullmesh connects each link to each address that the peer announces.
func TestFullmesh(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	n.Server.IP("addr add 10.9.0.3/24 dev eth0", "mptcp endpoint add 10.9.0.3 dev eth0 signal")
	d := n.Client.DaemonConfig("[[link]]\nfullmesh = true\nname = \"*\"\n")
	lab.Eventually(t, soon, "endpoints", func() error {
		return n.Client.CheckEndpoints("10.1.1.2 fullmesh subflow dev eth0", "10.1.2.2 fullmesh subflow dev eth1")
	})
	n.Client.WantLimits("add_addr_accepted 4 subflows 8")
	n.Server.Listen("0.0.0.0:5001")
	c := n.Client.Dial("10.9.0.2:5001", lab.From(n.A.Addr))
	c.WantEcho(soon)
	want := []string{"10.1.1.2 > 10.9.0.2", "10.1.1.2 > 10.9.0.3", "10.1.2.2 > 10.9.0.2", "10.1.2.2 > 10.9.0.3"}
	lab.Eventually(t, soon, "each pair of addresses", func() error {
		var got []string
		for _, s := range c.Subflows() {
			if s.Established {
				got = append(got, s.Local.Addr().String()+" > "+s.Remote.Addr().String())
			}
		}
		slices.Sort(got)
		if got = slices.Compact(got); !slices.Equal(got, want) { // a kernel such as 6.1 may open a pair twice
			return fmt.Errorf("subflows %q", got)
		}
		return nil
	})
	d.Stop()
}

// limitsOf is what the daemon says of them.
type limitsOf struct {
	Limits struct {
		Maximum      int
		MaxEndpoints int `json:"max_endpoints"`
	}
}

// TestLimits goes through all that a configuration can say of them, on a host that had values of its own.
func TestLimits(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	n.Client.IP("mptcp limits set subflows 1 add_addr_accepted 6")
	d := n.Client.DaemonConfig("limits = \"keep\"\n")
	reach(n, n.A, n.B)
	n.Client.WantLimits("add_addr_accepted 6 subflows 1")

	var doc limitsOf
	n.Client.CtlJSON(&doc, "status")
	most := doc.Limits.Maximum
	n.Server.IP(fmt.Sprintf("mptcp limits set subflows %d add_addr_accepted %d", most, most))
	if out, err := n.Server.TryIP(fmt.Sprintf("mptcp limits set subflows %d", most+1)); err == nil {
		t.Errorf("the kernel takes %d where the daemon says that %d is the most: %s", most+1, most, out)
	}
	capped := fmt.Sprintf("add_addr_accepted %d subflows %d", min(most, 3), min(most, 64))
	for _, step := range []struct{ toml, want string }{
		{"limits = { subflows = 5, add_addr_accepted = 3 }\n", "add_addr_accepted 3 subflows 5"},
		{"limits = { subflows = 2, add_addr_accepted = 0 }\n", "add_addr_accepted 0 subflows 2"},
		{"limits = { subflows = 64, add_addr_accepted = 3 }\n", capped},
		{"limits = \"keep\"\n", capped},
		{"limits = { subflows = 1, add_addr_accepted = 1 }\n", "add_addr_accepted 1 subflows 1"},
		{"limits = \"auto\"\n", "add_addr_accepted 6 subflows 2"}, // the 6 were found
		{"limits = { subflows = 7, add_addr_accepted = 7 }\n", "add_addr_accepted 7 subflows 7"},
		{"limits = \"auto\"\n", "add_addr_accepted 7 subflows 7"}, // never lowers
	} {
		take(d, step.toml)
		if err := n.Client.CheckLimits(step.want); err != nil {
			t.Errorf("%q: %v", step.toml, err)
		}
	}
	d.Stop()
	cleanup(n.Client)
	n.Client.WantLimits("add_addr_accepted 6 subflows 1")
}

// devices counts the endpoints of each link.
func devices(h *lab.Host) map[string]int {
	count := map[string]int{}
	for _, e := range h.Endpoints() {
		w := strings.Fields(e)
		count[w[len(w)-1]]++
	}
	return count
}

// TestSlots has more addresses than the kernel has places: each link has one, who has a place keeps it over reloads and
// restarts, and one that becomes free is given away.
func TestSlots(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.NoDefault("eth1"))
	for i := range 11 {
		n.Client.IP(fmt.Sprintf("addr add 10.1.1.%d/24 dev eth0", 100+i))
	}
	all := "[[link]]\naddresses = \"all\"\nname = \"eth*\"\n"
	d := n.Client.DaemonConfig(all)
	settled(d)
	var doc limitsOf
	n.Client.CtlJSON(&doc, "status")
	slots := doc.Limits.MaxEndpoints
	if slots >= 13 {
		t.Skipf("the kernel takes %d endpoints", slots)
	}
	full := func(eth1 int) {
		t.Helper()
		lab.Eventually(t, soon, "a fair share", func() error {
			if c := devices(n.Client); c["eth0"] != slots-eth1 || c["eth1"] != eth1 {
				return fmt.Errorf("endpoints by link: %v of %d", c, slots)
			}
			return nil
		})
	}
	full(0)
	first := n.Client.Endpoints()
	if !slices.Contains(first, "10.1.1.2 subflow dev eth0") {
		t.Errorf("the link's own address has no endpoint: %q", first)
	}
	// A path that comes late has its first before any other has a second one.
	n.B.AddDefault()
	full(1)
	n.Server.Listen("10.9.0.2:5001")
	c := n.Client.Dial("10.9.0.2:5001")
	c.WantEcho(soon)
	lab.Eventually(t, soon, "a subflow by eth1", func() error {
		if a := c.SubflowAddrs(); !slices.Contains(a, n.B.Addr) {
			return fmt.Errorf("subflows from %v", a)
		}
		return nil
	})
	_ = c.Close()
	n.Client.IP("addr add 10.1.2.3/24 dev eth1", "addr add 10.1.2.4/24 dev eth1")
	settled(d)
	full(1)
	have := n.Client.IP("mptcp endpoint show")
	kept := func(what string) {
		t.Helper()
		settled(d)
		if now := n.Client.IP("mptcp endpoint show"); now != have {
			t.Errorf("%s: endpoints were\n%s\nand are\n%s", what, have, now)
		}
	}
	kept("nothing")
	take(d, "[[link]]\naddresses = \"all\"\nname = \"eth0\"\n[[link]]\nname = \"eth1\"\naddresses = \"all\"\npreference = 1\n")
	kept("another preference")
	d = d.Restart()
	kept("a restart")
	d.Kill()
	if err := os.WriteFile(d.Config, []byte(all), 0o644); err != nil {
		t.Fatal(err)
	}
	d = d.Restart()
	kept("a crash")

	for _, e := range n.Client.Endpoints() {
		if a := strings.Fields(e)[0]; strings.HasPrefix(a, "10.1.1.1") {
			r := n.Client.Ctl("explain", a)
			if !strings.Contains(r.Stdout, "endpoint") {
				t.Errorf("explain %s:\n%s", a, r.Stdout)
			}
			n.Client.IP("addr del " + a + "/24 dev eth0")
			break
		}
	}
	lab.Eventually(t, soon, "the free place is taken", func() error {
		now := n.Client.Endpoints()
		if len(now) != slots {
			return fmt.Errorf("%d endpoints of %d", len(now), slots)
		}
		left := 0
		for _, l := range strings.Split(have, "\n") {
			w := strings.Fields(l)
			if len(w) > 0 && slices.ContainsFunc(now, func(e string) bool { return strings.HasPrefix(e, w[0]+" ") }) {
				left++
			}
		}
		if left != slots-1 {
			return fmt.Errorf("%d of %d kept their place: %q", left, slots-1, now)
		}
		return nil
	})
	lab.Eventually(t, soon, "who has none is told", func() error {
		if r := n.Client.Ctl("explain", "eth0"); !strings.Contains(strings.Join(strings.Fields(r.Stdout), " "), "the kernel takes no more endpoints") {
			return fmt.Errorf("explain eth0:\n%s", r.Stdout)
		}
		return nil
	})
}
