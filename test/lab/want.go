package lab

import (
	"fmt"
	"sort"
	"strings"
)

// beside prints what was wanted and what was found; lines that agree have no sign.
func beside(what string, want, found []string) error {
	in := func(s string, l []string) bool {
		for _, x := range l {
			if x == s {
				return true
			}
		}
		return false
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n  wanted:\n", what)
	for _, s := range want {
		sign := "  "
		if !in(s, found) {
			sign = "- "
		}
		b.WriteString("    " + sign + s + "\n")
	}
	b.WriteString("  found:\n")
	for _, s := range found {
		sign := "  "
		if !in(s, want) {
			sign = "+ "
		}
		b.WriteString("    " + sign + s + "\n")
	}
	return fmt.Errorf("%s", b.String())
}

func same(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func normal(lines []string, norm func(string) string) []string {
	var r []string
	for _, l := range lines {
		if l = norm(l); l != "" {
			r = append(r, l)
		}
	}
	return r
}

// compare is for sets: the order of lines does not count.
func (h *Host) compare(what string, want, found []string) error {
	sort.Strings(want)
	sort.Strings(found)
	if same(want, found) {
		return nil
	}
	return beside(fmt.Sprintf("[%s] %s", h.Name, what), want, found)
}

// must ends the test with the state of all hosts.
func (h *Host) must(err error) {
	h.Lab.T.Helper()
	if err != nil {
		h.Lab.Dump()
		h.Lab.T.Fatal(err)
	}
}

// family is "-6" for text that holds an IPv6 address.
func family(s string) string {
	if strings.Contains(s, ":") {
		return "-6"
	}
	return "-4"
}

// CheckRoute asks the kernel by `ip route get DST SELECTOR`, the selector being "from 10.1.1.2", "", "oif eth0", "mark 7"
// and so on, and compares the way out: want is "dev eth0 via 10.1.1.1", or "dev eth0" where the neighbour itself is
// addressed, or "unreachable" for every lookup that fails. Other words of want, such as "table 100003" or "src
// 10.1.1.2", must be in the answer.
func (h *Host) CheckRoute(dst, selector, want string) error {
	args := strings.Fields(family(dst) + " route get " + dst + " " + selector)
	out, err := h.Try("ip", args...)
	found := strings.TrimSpace(strings.SplitN(out, "\n", 2)[0])
	if err != nil {
		found = "unreachable (" + strings.TrimSpace(err.Error()) + ")"
	}
	if wayOut(found, want) {
		return nil
	}
	return fmt.Errorf("[%s] ip %s\n  wanted: %s\n  found:  %s", h.Name, strings.Join(args, " "), want, found)
}

// wayOut compares the answer of ip route get with what is wanted.
func wayOut(found, want string) bool {
	f := pairs(found)
	w := pairs(want)
	if want == "unreachable" {
		return strings.HasPrefix(found, "unreachable") || strings.HasPrefix(found, "blackhole") ||
			strings.HasPrefix(found, "prohibit")
	}
	if f["dev"] != w["dev"] || f["via"] != w["via"] || strings.HasPrefix(found, "unreachable") {
		return false
	}
	for k, v := range w {
		if f[k] != v {
			return false
		}
	}
	return true
}

// pairs reads "via 10.1.1.1 dev eth0 table 5" as a map; "via inet6 fe80::1" counts as "via fe80::1".
func pairs(s string) map[string]string {
	m := map[string]string{}
	w := words(strings.ReplaceAll(s, "via inet6 ", "via "))
	for i := 0; i+1 < len(w); i++ {
		switch w[i] {
		case "dev", "via", "table", "src", "metric", "mtu", "from":
			m[w[i]] = w[i+1]
		}
	}
	return m
}

// WantRoute is CheckRoute that ends the test.
func (h *Host) WantRoute(dst, selector, want string) {
	h.Lab.T.Helper()
	h.must(h.CheckRoute(dst, selector, want))
}

// CheckRules compares the IPv4 rules, in their order, without the three of the kernel:
// "32765: from 10.1.1.2 lookup main suppress_prefixlength 0 proto 77".
func (h *Host) CheckRules(want ...string) error { return h.checkRules("-4", want) }

// CheckRules6 is CheckRules for IPv6.
func (h *Host) CheckRules6(want ...string) error { return h.checkRules("-6", want) }

func (h *Host) checkRules(fam string, want []string) error {
	want = normal(want, ruleLine)
	if found := h.Rules(fam); !same(want, found) {
		return beside(fmt.Sprintf("[%s] ip %s rule", h.Name, fam), want, found)
	}
	return nil
}

// WantRules is CheckRules that ends the test.
func (h *Host) WantRules(want ...string) {
	h.Lab.T.Helper()
	h.must(h.CheckRules(want...))
}

// WantRules6 is CheckRules6 that ends the test.
func (h *Host) WantRules6(want ...string) {
	h.Lab.T.Helper()
	h.must(h.CheckRules6(want...))
}

// CheckTable compares the IPv4 routes of a table, in any order: "default via 10.1.1.1 dev eth0 proto 77 metric 100".
// Left out on both sides: linkdown, proto boot, lifetimes.
func (h *Host) CheckTable(table string, want ...string) error {
	return h.compare("ip -4 route show table "+table, normal(want, routeLine), h.Table("-4", table))
}

// CheckTable6 is CheckTable for IPv6; metric 1024 and pref medium are left out too.
func (h *Host) CheckTable6(table string, want ...string) error {
	return h.compare("ip -6 route show table "+table, normal(want, routeLine), h.Table("-6", table))
}

// WantTable is CheckTable that ends the test.
func (h *Host) WantTable(table string, want ...string) {
	h.Lab.T.Helper()
	h.must(h.CheckTable(table, want...))
}

// WantTable6 is CheckTable6 that ends the test.
func (h *Host) WantTable6(table string, want ...string) {
	h.Lab.T.Helper()
	h.must(h.CheckTable6(table, want...))
}

// CheckEndpoints compares the MPTCP endpoints, in any order and whatever their ids: "10.1.1.2 subflow dev eth0".
func (h *Host) CheckEndpoints(want ...string) error {
	return h.compare("ip mptcp endpoint", normal(want, endpointLine), h.Endpoints())
}

// WantEndpoints is CheckEndpoints that ends the test.
func (h *Host) WantEndpoints(want ...string) {
	h.Lab.T.Helper()
	h.must(h.CheckEndpoints(want...))
}

// CheckLimits compares the MPTCP limits: "add_addr_accepted 4 subflows 2".
func (h *Host) CheckLimits(want string) error {
	if found := h.Limits(); found != strings.Join(words(want), " ") {
		return beside(fmt.Sprintf("[%s] ip mptcp limits", h.Name), []string{want}, []string{found})
	}
	return nil
}

// WantLimits is CheckLimits that ends the test.
func (h *Host) WantLimits(want string) {
	h.Lab.T.Helper()
	h.must(h.CheckLimits(want))
}

// CheckSnapshot compares the host with an earlier Snapshot, byte for byte, and names the lines that differ.
func (h *Host) CheckSnapshot(before string) error {
	now := h.Snapshot()
	if now == before {
		return nil
	}
	return fmt.Errorf("[%s] the host differs from the snapshot:\n%s", h.Name, Diff(before, now))
}

// WantSnapshot is CheckSnapshot that ends the test.
func (h *Host) WantSnapshot(before string) {
	h.Lab.T.Helper()
	h.must(h.CheckSnapshot(before))
}

// Diff lists the lines of two texts that only one of them has, and says so when only their order differs.
func Diff(before, after string) string {
	count := map[string]int{}
	for _, l := range strings.Split(before, "\n") {
		count[l]++
	}
	var gone, come []string
	for _, l := range strings.Split(after, "\n") {
		if count[l]--; count[l] < 0 {
			come = append(come, "+ "+l)
		}
	}
	for _, l := range strings.Split(before, "\n") {
		if count[l] > 0 {
			count[l]--
			gone = append(gone, "- "+l)
		}
	}
	if len(gone)+len(come) == 0 && before != after {
		return "only the order differs:\n" + before + "\nnow:\n" + after
	}
	return strings.Join(append(gone, come...), "\n")
}
