// Package managers runs subflowd beside the programs that configure a host's links, as Debian packages them, each on a
// host made of network namespaces. After every step the kernel is judged by ip(8), and by real MPTCP connections that
// must live on. How long it takes from a lease to the path is logged, never judged: docs/managers.md has the figures.
package managers

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

// soon is how long a test waits for what takes milliseconds or, where a client's timer is part of it, seconds: the
// machine may be busy.
const soon = 40 * time.Second

// host is a client with two bare links, on which a manager may do as it likes.
type host struct {
	*lab.Net
	watch *watch
}

// newHost covers what managers write to.
func newHost(t *testing.T, opts ...lab.Option) *host {
	t.Helper()
	h := &host{Net: lab.TwoSubnets(t, append([]lab.Option{lab.Bare()}, opts...)...)}
	h.Server.Listen("10.9.0.2:5001")
	h.Server.Listen("[2001:db8:9::2]:5001")
	h.Client.Cover("/run", "/var/lib/dhcp", "/var/lib/dhcpcd", "/var/lib/NetworkManager", "/etc/NetworkManager")
	h.watch = newWatch(h.Client)
	return h
}

// snippet is a file that the package installs for a manager.
func snippet(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "packaging", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// path is what the client should have of one uplink in one family.
type path struct {
	dev      string
	addrs    []string // the first has the endpoint
	defaults []string // as ip(8) prints them, but for what all have: "via 10.1.1.1 metric 100"
	routes   []string // the others of its table: "10.1.1.0/24 scope link"
}

// v4 is a path with a /24 and one gateway. Metric 0 is for none, and for the one that is never printed, 1024.
func v4(dev, addr, gateway string, metric int, routes ...string) path {
	p := path{dev: dev, addrs: []string{addr}, defaults: []string{"via " + gateway}, routes: routes}
	if metric != 0 && metric != 1024 {
		p.defaults[0] += fmt.Sprint(" metric ", metric)
	}
	if len(routes) == 0 {
		p.routes = []string{addr[:strings.LastIndexByte(addr, '.')] + ".0/24 scope link"}
	}
	return p
}

// lines is all that a path has in the kernel.
func (p path) lines(h *lab.Host) []string {
	table := tableOf(h, p.dev)
	var r []string
	for _, a := range p.addrs {
		from := "32765: from " + a + " lookup "
		r = append(r, from+"main suppress_prefixlength 0 proto 77", from+table+" proto 77")
	}
	r = append(r, "endpoint "+p.addrs[0]+" subflow dev "+p.dev)
	for _, d := range p.defaults {
		r = append(r, routeLine("default "+d, p.dev, table))
	}
	for _, x := range p.routes {
		r = append(r, routeLine(x, p.dev, table))
	}
	return r
}

// routeLine gives a route the words that all have: "default via 10.1.1.1 dev eth0 table 100002 proto 77 metric 100".
func routeLine(text, dev, table string) string {
	w := strings.Fields(text)
	n := 1
	if len(w) > 2 && w[1] == "via" {
		n = 3
	}
	return strings.Join(append(append(slices.Clone(w[:n]), "dev", dev, "table", table, "proto", "77"), w[n:]...), " ")
}

func tableOf(h *lab.Host, dev string) string {
	h.Lab.T.Helper()
	return fmt.Sprint(100000 + h.Ifindex(dev))
}

// found lists what the client has of protocols 77 and 78, in every table, and all its endpoints.
func (h *host) found() []string {
	var r []string
	for _, f := range []string{"-4", "-6"} {
		for _, l := range append(h.Client.Rules(f), h.Client.Table(f, "all")...) {
			if strings.Contains(l+" ", " proto 77 ") || strings.Contains(l+" ", " proto 78 ") {
				r = append(r, l)
			}
		}
	}
	for _, l := range h.Client.Endpoints() {
		r = append(r, "endpoint "+plain.Replace(l))
	}
	return r
}

// plain leaves a flag out that NetworkManager sets since 1.56, and older ip(8) has no name for.
var plain = strings.NewReplacer(" laminar", "", " 20 rawflags", "")

// check compares the client with these paths and no other: nothing is missing, nothing is left over, and traffic from
// each address leaves by its own link and gateway.
func (h *host) check(paths ...path) error {
	var want []string
	for _, p := range paths {
		want = append(want, p.lines(h.Client)...)
	}
	got := h.found()
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		return fmt.Errorf("missing (-) and left over (+):\n%s", lab.Diff(strings.Join(want, "\n"), strings.Join(got, "\n")))
	}
	for _, p := range paths {
		via, _, _ := strings.Cut(strings.TrimPrefix(p.defaults[0], "via "), " ")
		for _, a := range p.addrs {
			to := h.ServerAddr
			if strings.Contains(a, ":") {
				to = h.ServerAddr6
			}
			if err := h.Client.CheckRoute(to, "from "+a, "dev "+p.dev+" via "+via); err != nil {
				return err
			}
		}
	}
	return nil
}

// reach waits until the client is as these paths, and no other, want it.
func (h *host) reach(what string, paths ...path) {
	h.T.Helper()
	lab.Eventually(h.T, soon, what, func() error { return h.check(paths...) })
}

// subflows waits until a connection has one on each of these addresses.
func (h *host) subflows(c *lab.Conn, addrs ...string) {
	h.T.Helper()
	lab.Eventually(h.T, soon, "subflows", func() error { return c.CheckSubflows(addrs...) })
}

// both runs a scenario twice, each on a host of its own: without subflowd, which shows what the host does by itself,
// and with it.
func both(t *testing.T, scenario func(t *testing.T, with bool)) {
	t.Helper()
	for _, with := range []bool{false, true} {
		t.Run(map[bool]string{false: "without", true: "with"}[with], func(t *testing.T) {
			t.Parallel()
			scenario(t, with)
		})
	}
}
