// Package integration runs subflowd on hosts made of network namespaces, and judges the kernel: by ip(8), by packets,
// and by real MPTCP connections. What the daemon says of itself is asked for only where the words are the subject.
package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

// soon is how long a test waits for what takes the daemon milliseconds: the machine may be busy.
const soon = 20 * time.Second

// wanted lists the rules, routes and endpoints that the client should have when these paths, and no other, are its
// uplinks, in the text of found.
func wanted(n *lab.Net, paths ...*lab.Path) []string {
	n.T.Helper()
	var r []string
	for _, p := range paths {
		if n.V4 {
			r = append(r, wanted4(n, p)...)
		}
		if n.V6 {
			r = append(r, wanted6(n, p)...)
		}
	}
	return r
}

func wanted4(n *lab.Net, p *lab.Path) []string {
	table := tableOf(n.Client, p.Dev)
	net := p.Addr[:strings.LastIndexByte(p.Addr, '.')] + ".0/24"
	return append(ruleSet(n, p.Addr, table),
		fmt.Sprintf("%s dev %s table %s proto 77 scope link", net, p.Dev, table),
		fmt.Sprintf("default via %s dev %s table %s proto 77 metric %d", p.Gateway, p.Dev, table, p.Metric),
		fmt.Sprintf("endpoint %s subflow dev %s", p.Addr, p.Dev))
}

func wanted6(n *lab.Net, p *lab.Path) []string {
	table := tableOf(n.Client, p.Dev)
	// The kernel prefers a temporary address for what leaves unbound, where there is one.
	addrs := append(n.Client.Addrs6(p.Dev, true), n.Client.Addrs6(p.Dev, false)...)
	if len(addrs) == 0 {
		return []string{"an IPv6 address on " + p.Dev}
	}
	var r []string
	for _, a := range addrs {
		r = append(r, ruleSet(n, a, table)...)
	}
	via := fmt.Sprintf("default via %s dev %s table %s proto 77", p.Gateway6, p.Dev, table)
	if n.RA == nil {
		via += fmt.Sprintf(" metric %d", p.Metric)
	}
	return append(r, via,
		fmt.Sprintf("%s dev %s table %s proto 77 metric 256", p.Prefix6, p.Dev, table),
		fmt.Sprintf("fe80::/64 dev %s table %s proto 77 metric 256", p.Dev, table),
		fmt.Sprintf("endpoint %s subflow dev %s", addrs[0], p.Dev))
}

// ruleSet is the rules of one address, in their order; the first is for two links in one subnet.
func ruleSet(n *lab.Net, addr, table string) []string {
	from := "32765: from " + addr + " lookup "
	r := []string{from + "main suppress_prefixlength 0 proto 77", from + table + " proto 77"}
	if n.A.Gateway == n.B.Gateway {
		r = append([]string{from + table + " suppress_prefixlength 0 proto 78"}, r...)
	}
	return r
}

func tableOf(h *lab.Host, dev string) string {
	h.Lab.T.Helper()
	return fmt.Sprint(100000 + h.Ifindex(dev))
}

// found lists what a host has of protocols 77 and 78, in every table, and all its endpoints: the rules of an address
// one after the other and in their order, everything else sorted.
func found(h *lab.Host) []string {
	var rules, rest []string
	for _, f := range []string{"-4", "-6"} {
		for _, l := range h.Rules(f) {
			if ours(l) {
				rules = append(rules, l)
			}
		}
		for _, l := range h.Table(f, "all") {
			if ours(l) {
				rest = append(rest, l)
			}
		}
	}
	for _, l := range h.Endpoints() {
		rest = append(rest, "endpoint "+l)
	}
	return arrange(append(rules, rest...))
}

// ours tells whether a line of ip rule or ip route is of subflowd's making.
func ours(line string) bool {
	return strings.Contains(line+" ", " proto 77 ") || strings.Contains(line+" ", " proto 78 ")
}

// arrange sorts lines; rules are sorted by their address only, so that the order in which the kernel asks them stays.
func arrange(lines []string) []string {
	key := func(l string) string {
		if w := strings.Fields(l); strings.HasSuffix(w[0], ":") && len(w) > 2 {
			return "0 " + w[2]
		}
		return l
	}
	r := slices.Clone(lines)
	slices.SortStableFunc(r, func(a, b string) int { return strings.Compare(key(a), key(b)) })
	return r
}

// check compares the client with what these paths want: nothing is missing and nothing is left over.
func check(n *lab.Net, paths ...*lab.Path) error {
	return compare(wanted(n, paths...), found(n.Client))
}

func compare(want, got []string) error {
	w, g := strings.Join(arrange(want), "\n"), strings.Join(got, "\n")
	if w == g {
		return nil
	}
	return fmt.Errorf("missing (-) and left over (+):\n%s", lab.Diff(w, g))
}

// reach waits until the client is as these paths, and no other, want it.
func reach(n *lab.Net, paths ...*lab.Path) {
	n.T.Helper()
	lab.Eventually(n.T, soon, "the client as it should be", func() error { return check(n, paths...) })
}

// settled waits until a daemon has looked at everything after now and has nothing left to do. It is for what must not
// change: what should change is waited for in the kernel.
func settled(d *lab.Daemon) {
	t := d.Host.Lab.T
	t.Helper()
	d.WaitSocket()
	for _, args := range [][]string{{"reconcile"}, {"wait", "--timeout", lab.Patient(soon).String()}} {
		if r := d.Host.Ctl(args...); r.Code != 0 {
			t.Fatalf("subflowctl %v: exit status %d\n%s%s", args, r.Code, r.Stdout, r.Stderr)
		}
	}
}

// wantFirst checks that a connection has the subflow by which it was opened. It is for peers that take no joins: each one
// is established for a moment before it is reset, so the list of all is not the same at every look.
func wantFirst(t testing.TB, c *lab.Conn) {
	t.Helper()
	first := c.LocalAddr().String() + " > " + c.RemoteAddr().String()
	if found := c.Ends(); !slices.Contains(found, first) {
		t.Errorf("the connection was opened by %s and has %q", first, found)
	}
}
