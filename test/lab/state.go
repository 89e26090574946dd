package lab

import (
	"fmt"
	"regexp"
	"sort"
	"strings"
	"time"
)

// protoNames are the names that ip(8) prints for route protocols where /etc/iproute2/rt_protos is installed.
var protoNames = map[string]string{"2": "kernel", "3": "boot", "4": "static", "9": "ra", "16": "dhcp"}

var (
	lifetimes = regexp.MustCompile(`\\? *valid_lft \S+ preferred_lft \S+`)
	expiry    = regexp.MustCompile(` expires -?\d+sec`)
	spaces    = regexp.MustCompile(`\s+`)
)

// words reduces one line of ip(8) to its words: one space between them, protocols by name, "lookup" for "table" in
// rules, nothing that ticks.
func words(line string) []string {
	line = expiry.ReplaceAllString(lifetimes.ReplaceAllString(line, ""), "")
	w := strings.Fields(line)
	for i := range w {
		if i == 0 {
			continue
		}
		switch w[i-1] {
		case "proto", "protocol":
			if n, ok := protoNames[w[i]]; ok {
				w[i] = n
			}
			w[i-1] = "proto"
		case "pref", "priority":
			continue
		}
	}
	return w
}

// cut removes the word at i and the next n-1.
func cut(w []string, i, n int) []string { return append(w[:i:i], w[min(i+n, len(w)):]...) }

// ruleLine gives "32765: from 10.1.1.2 lookup main suppress_prefixlength 0 proto 77".
func ruleLine(line string) string {
	w := words(line)
	for i := range w {
		switch w[i] {
		case "table":
			w[i] = "lookup"
		case "254":
			if w[i-1] == "lookup" {
				w[i] = "main"
			}
		}
	}
	return strings.Join(w, " ")
}

// routeLine leaves out what ip prints but nobody chose: the metric and preference that the kernel gives to IPv6 routes
// by default, the protocol boot, and the state of the carrier.
func routeLine(line string) string {
	w := words(line)
	for i := 0; i < len(w); i++ {
		next := ""
		if i+1 < len(w) {
			next = w[i+1]
		}
		switch {
		case w[i] == "linkdown", w[i] == "dead":
			w = cut(w, i, 1)
			i--
		case w[i] == "metric" && next == "1024", w[i] == "pref" && next == "medium",
			w[i] == "proto" && next == "boot", w[i] == "hoplimit" && next == "64", w[i] == "error":
			w = cut(w, i, 2)
			i--
		case i == 0 && w[i] == "unicast":
			w = cut(w, i, 1)
			i--
		}
	}
	return strings.Join(w, " ")
}

// endpointLine gives "10.1.1.2 subflow dev eth0": without id, flags sorted, dev last.
func endpointLine(line string) string {
	var flags []string
	port, dev := "", ""
	w := words(line)
	for i := 1; i < len(w); i++ {
		switch {
		case w[i] == "id" && i+1 < len(w):
			i++
		case w[i] == "port" && i+1 < len(w):
			port = " port " + w[i+1]
			i++
		case w[i] == "dev" && i+1 < len(w):
			dev = " dev " + w[i+1]
			i++
		default:
			flags = append(flags, w[i])
		}
	}
	if len(w) == 0 {
		return ""
	}
	sort.Strings(flags)
	return strings.TrimSuffix(w[0]+port+" "+strings.Join(flags, " "), " ") + dev
}

// addrLine gives "eth0 inet 10.1.1.2/24 brd 10.1.1.255 scope global", from a line of ip -o addr.
func addrLine(line string) string {
	w := words(line)
	if len(w) < 3 {
		return strings.Join(w, " ")
	}
	w = w[1:]
	for i := 0; i < len(w); i++ {
		if w[i] == "tentative" || w[i] == "\\" {
			w = cut(w, i, 1)
			i--
		}
	}
	return strings.Join(w, " ")
}

// lines runs an ip command and normalises its lines; no table and no module mean no lines.
func (h *Host) lines(command string, norm func(string) string) []string {
	out, err := h.Try("ip", strings.Fields(command)...)
	if err != nil && !strings.Contains(err.Error(), "FIB table does not exist") {
		return []string{err.Error()}
	}
	var r []string
	for _, l := range strings.Split(out, "\n") {
		if l = norm(l); l != "" {
			r = append(r, l)
		}
	}
	return r
}

// Rules returns the rules of one family ("-4" or "-6") without the three of the kernel, in their order.
func (h *Host) Rules(family string) []string {
	var r []string
	for _, l := range h.lines(family+" rule", ruleLine) {
		switch l {
		case "0: from all lookup local", "32766: from all lookup main", "32767: from all lookup default":
		default:
			r = append(r, l)
		}
	}
	return r
}

// Table returns the routes of a table ("main", "100003") and family, sorted.
func (h *Host) Table(family, table string) []string {
	r := h.lines(family+" route show table "+table, routeLine)
	sort.Strings(r)
	return r
}

// Endpoints returns the MPTCP endpoints without their ids, sorted: "10.1.1.2 subflow dev eth0".
func (h *Host) Endpoints() []string {
	r := h.lines("mptcp endpoint", endpointLine)
	sort.Strings(r)
	return r
}

// Limits returns the MPTCP limits: "add_addr_accepted 4 subflows 2".
func (h *Host) Limits() string { return strings.Join(h.lines("mptcp limits", routeLine), " ") }

// Snapshot returns what a daemon could change, as text for comparisons byte for byte: rules in their order, the routes
// of all tables, nexthops, addresses, endpoints with their ids, limits. What ticks by itself is left out: lifetimes,
// carrier, counters; so are the multicast routes.
func (h *Host) Snapshot() string {
	h.Lab.T.Helper()
	plain := func(s string) string { return strings.Join(words(s), " ") }
	var b strings.Builder
	for _, q := range []struct {
		command string
		norm    func(string) string
		sort    bool
	}{
		{"-4 rule", ruleLine, false},
		{"-6 rule", ruleLine, false},
		{"-4 route show table all", routeLine, true},
		{"-6 route show table all", routeLine, true},
		{"nexthop", plain, true},
		{"-o addr", addrLine, true},
		{"mptcp endpoint", plain, true},
		{"mptcp limits", plain, true},
	} {
		l := h.lines(q.command, q.norm)
		if q.sort {
			sort.Strings(l)
		}
		fmt.Fprintf(&b, "# ip %s\n", q.command)
		for _, s := range l {
			if !strings.HasPrefix(s, "multicast ") {
				b.WriteString(s + "\n")
			}
		}
	}
	return b.String()
}

// Settled is Snapshot once the kernel has done what it does by itself: it makes the local route of an IPv6 address a
// moment after the address.
func (h *Host) Settled() string {
	h.Lab.T.Helper()
	var s string
	Eventually(h.Lab.T, 20*time.Second, "a local route for each IPv6 address", func() error {
		s = h.Snapshot()
		for _, l := range strings.Split(h.IP("-6 -o addr show"), "\n") {
			if w := strings.Fields(l); len(w) > 3 && w[1] != "lo" {
				a, _, _ := strings.Cut(w[3], "/")
				if !strings.Contains(s, "\nlocal "+a+" dev "+w[1]+" ") {
					return fmt.Errorf("none for %s on %s", a, w[1])
				}
			}
		}
		return nil
	})
	return s
}

// State describes the host for a reader: links, addresses, rules, routes of all tables but local, endpoints, limits,
// MPTCP connections with their subflows.
func (h *Host) State() string {
	var b strings.Builder
	fmt.Fprintf(&b, "==== host %s\n", h.Name)
	for _, c := range []string{
		"-br link", "-br addr", "-4 rule", "-6 rule", "-4 route show table all",
		"-6 route show table all", "neigh", "mptcp endpoint", "mptcp limits",
	} {
		out, err := h.Try("ip", strings.Fields(c)...)
		if err != nil {
			out = err.Error()
		}
		section(&b, "ip "+c, out)
	}
	out, _ := h.Try("ss", "-HtinM")
	section(&b, "ss -tinM", out)
	return b.String()
}

func section(b *strings.Builder, title, text string) {
	fmt.Fprintf(b, "-- %s\n", title)
	for _, l := range strings.Split(text, "\n") {
		if strings.Contains(l, " table local ") || strings.HasPrefix(l, "multicast ") || strings.TrimSpace(l) == "" {
			continue
		}
		b.WriteString("   " + strings.TrimRight(spaces.ReplaceAllString(l, " "), " ") + "\n")
	}
}
