package chaos

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"sort"
	"strings"
)

// checkEndpoints wants one endpoint for each live uplink, on a good address, and nothing else but what others made and
// what a connection still needs.
func (j *judgement) checkEndpoints() {
	used := map[string]bool{}
	for _, e := range j.endpoints {
		if j.theirs(e) {
			used[e.Address] = true
		}
	}
	slots := 8 - len(j.endpoints)
	for _, u := range j.ups {
		if !u.live || len(u.addrs) == 0 {
			continue
		}
		var mine []string
		young, foreign := false, false
		for _, a := range u.addrs {
			young = young || !a.Deprecated
			foreign = foreign || used[a.Local.String()] && j.main.endpoints[a.Local.String()] != ""
		}
		for _, e := range j.endpoints {
			i := slices.IndexFunc(u.addrs, func(a ipAddr) bool { return a.Local.String() == e.Address })
			if i < 0 || used[e.Address] || e.Dev != u.link.Name {
				continue
			}
			if u.addrs[i].Deprecated && young && e.Address != j.picked(u) || j.inUseElsewhere(e, mine) {
				continue // unwanted: judged below
			}
			if e.Dev == u.link.Name && e.Subflow && !e.Signal && !e.Backup && !e.Fullmesh {
				mine = append(mine, e.Address)
			}
		}
		for _, m := range mine {
			used[m] = true
		}
		// The address moved here from another link, and a connection still uses the endpoint there.
		moved := slices.ContainsFunc(j.endpoints, func(e ipEndpoint) bool {
			return e.Dev != u.link.Name && !j.theirs(e) && slices.Contains(addrsOf(u), e.Address) && j.needed(e.Address)
		})
		if len(mine) == 0 && !foreign && !moved && slots > 0 && !j.guarded {
			j.wrong("%s %s: no endpoint on one of %v; endpoints: %v", u.link.Name, u.family, addrsOf(u), j.endpoints)
		}
		if len(mine) > 1 {
			j.extra(mine)
		}
	}
	for _, e := range j.endpoints {
		if !used[e.Address] && !j.needed(e.Address) {
			j.wrong("the endpoint %q is nobody's, and no connection needs it", e)
		}
	}
}

// picked is the source that the kernel takes for unbound traffic out of a link, deprecated or not.
func (j *judgement) picked(u *uplink) string {
	var answers []struct {
		Source string `json:"prefsrc"`
	}
	to := map[string]string{"-4": "1.1.1.1", "-6": "2600::1"}[u.family]
	query(j.main.Client, &answers, u.family+" route get "+to+" oif "+u.link.Name)
	if len(answers) == 0 {
		return ""
	}
	return answers[0].Source
}

// theirs tells whether another program made the endpoint.
func (j *judgement) theirs(e ipEndpoint) bool { return j.main.endpoints[e.Address] != "" }

// inUseElsewhere leaves out a second endpoint of an uplink that lingers for a connection.
func (j *judgement) inUseElsewhere(e ipEndpoint, found []string) bool {
	return len(found) > 0 && j.needed(e.Address)
}

// extra reports several endpoints of one uplink, unless connections need all but one.
func (j *judgement) extra(mine []string) {
	n := 0
	for _, m := range mine {
		if !j.needed(m) {
			n++
		}
	}
	if n > 1 {
		j.wrong("several endpoints where one is wanted: %v", mine)
	}
}

func addrsOf(u *uplink) (out []string) {
	for _, a := range u.addrs {
		out = append(out, a.Local.String())
	}
	return out
}

// needed tells whether a connection of the host has a subflow from an address.
func (j *judgement) needed(addr string) bool {
	for _, p := range j.conns {
		for _, s := range p.main.Subflows() {
			if s.Local.Addr().String() == addr {
				return true
			}
		}
	}
	return false
}

// checkLimits wants what others set last, raised to what is needed.
func (j *judgement) checkLimits() {
	if j.guarded {
		if j.state.limits != "add_addr_accepted 0 subflows 0" {
			j.wrong("limits beside a full tunnel: %q", j.state.limits)
		}
		return
	}
	var add, sub int
	if _, err := fmt.Sscanf(j.state.limits, "add_addr_accepted %d subflows %d", &add, &sub); err != nil {
		j.wrong("limits %q: %v", j.state.limits, err)
		return
	}
	need := min(8, max(2, len(j.endpoints)))
	if wantAdd := max(4, j.world.limits[1]); add != wantAdd {
		j.wrong("limits: add_addr_accepted %d, wanted %d", add, wantAdd)
	}
	if sub < max(need, j.world.limits[0]) || sub > 8 {
		j.wrong("limits: subflows %d, wanted at least %d", sub, max(need, j.world.limits[0]))
	}
}

var (
	// What differs by chance between two hosts: link-local and temporary addresses.
	linkLocal = regexp.MustCompile(`fe80::[0-9a-f]{1,4}:[0-9a-f:]+`)
	temporary = regexp.MustCompile(`2001:db8:(?:[123]|a[0-9a-f]+):(?:[0-9a-f]{0,4}:){3,}[0-9a-f]{1,4}`)
	oursLine  = regexp.MustCompile(` proto (77|78)( |$)`)
	dadFailed = regexp.MustCompile(`inet6 ([0-9a-f:]+)/\d+ [^\n]*dadfailed`)
	priority  = regexp.MustCompile(`^(32[67][0-9][0-9]): `)
)

// foreignTexts are the snapshots of both hosts, reduced to what must be the same. Addresses that one of them found taken
// are left out: whether the answer comes in time is a matter of milliseconds.
func (w *world) foreignTexts(all bool) (main, twin string) {
	texts := [2]string{foreignText(w.main.Client.Snapshot(), all), foreignText(w.twin.Client.Snapshot(), all)}
	failed := map[string]bool{}
	for _, t := range texts {
		for _, m := range dadFailed.FindAllStringSubmatch(t, -1) {
			failed[m[1]] = true
		}
	}
	for i, t := range texts {
		texts[i] = strings.Join(slices.DeleteFunc(strings.Split(t, "\n"), func(l string) bool {
			return slices.ContainsFunc(strings.FieldsFunc(l, func(r rune) bool { return r == ' ' || r == '/' }), func(word string) bool {
				return failed[word]
			})
		}), "\n")
	}
	return texts[0], texts[1]
}

// foreignText reduces a snapshot to what the daemon has no part in. A rule that was added without a priority got
// the one before the topmost rule's, which may be the daemon's: only its place counts. Endpoints and limits are judged
// apart.
func foreignText(snapshot string, all bool) string {
	var out, section []string
	flush := func(inOrder bool) {
		if !inOrder {
			sort.Strings(section)
		}
		out = append(out, section...)
		section = nil
	}
	title := ""
	for _, l := range append(strings.Split(snapshot, "\n"), "# end") {
		if strings.HasPrefix(l, "# ") {
			flush(strings.Contains(title, "rule"))
			title = l
			out = append(out, l)
			continue
		}
		if strings.Contains(title, "mptcp") || !all && oursLine.MatchString(l) {
			continue
		}
		l = linkLocal.ReplaceAllString(l, "LINKLOCAL")
		l = temporary.ReplaceAllString(l, "TEMPORARY")
		if p := priority.FindString(l); p != "" && p != "32766: " && p != "32767: " {
			l = "327xx: " + strings.TrimPrefix(l, p)
		}
		section = append(section, l)
	}
	return strings.Join(out, "\n")
}

// place is the way out that the oracle expects: several, where the kernel may choose.
type place map[string]bool

// resolve looks a destination up in a table as the kernel does: the longest prefix, then the lowest metric.
func (s *state) resolve(family, table string, dst netip.Addr, keep func(*ipRoute) bool) (bits int, out place) {
	best := -1
	for i := range s.routes[family] {
		r := &s.routes[family][i]
		if r.Table != table || !r.prefix.Contains(dst) || !keep(r) {
			continue
		}
		if best < 0 || r.prefix.Bits() > s.routes[family][best].prefix.Bits() ||
			r.prefix.Bits() == s.routes[family][best].prefix.Bits() && r.Metric < s.routes[family][best].Metric {
			best = i
		}
	}
	if best < 0 {
		return -1, nil
	}
	b := &s.routes[family][best]
	out = place{}
	for i := range s.routes[family] {
		r := &s.routes[family][i]
		if r.Table != table || r.prefix != b.prefix || r.Metric != b.Metric || !keep(r) || r.Type != b.Type {
			continue
		}
		switch r.Type {
		case "1":
			for _, h := range r.Hops {
				out[h.text()] = true
			}
		case typeThrow:
			return -1, nil
		default:
			out[refusedText] = true
		}
		if family == "-4" {
			break // of equal routes the first one counts
		}
	}
	return b.prefix.Bits(), out
}

func (h ipHop) text() string {
	if h.Gateway.IsValid() {
		return "dev " + h.Dev + " via " + h.Gateway.String()
	}
	return "dev " + h.Dev
}
