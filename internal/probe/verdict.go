package probe

import (
	"fmt"
	"slices"
	"strings"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/pkg/status"
)

// judge fills in what the facts mean: the outcome of each attempt beside the
// others, its text, and the verdict.
func judge(r *status.ProbeReport, found []facts) {
	r.OK = true
	tested := 0
	for i := range found {
		f := &found[i]
		name := f.family.String()
		if !f.tested {
			r.Verdict = append(r.Verdict, fmt.Sprintf("%s was not tested: %s has such an address, and this host no path for it.", name, r.Target))
			continue
		}
		tested++
		f.compare()
		sentences, ok := f.verdict()
		r.OK = r.OK && ok
		for _, s := range sentences {
			r.Verdict = append(r.Verdict, name+": "+s)
		}
		out := status.ProbeFamily{Family: publicFamily(f.family), Address: f.server.String(), Connection: f.main.ProbeConnection, Joins: f.joins}
		for _, p := range f.paths {
			out.Paths = append(out.Paths, p.ProbeConnection)
		}
		r.Families = append(r.Families, out)
	}
	if tested == 0 {
		r.OK = false
		if len(found) == 0 {
			r.Verdict = append(r.Verdict, "Nothing was tested: the target has no address.")
		}
	}
	// What was not tested is the least important.
	slices.SortStableFunc(r.Verdict, func(a, b string) int {
		return boolInt(strings.Contains(a, " was not tested")) - boolInt(strings.Contains(b, " was not tested"))
	})
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// compare judges each attempt by what the others and the server say.
func (f *facts) compare() {
	all := append([]*attempt{f.main}, f.paths...)
	speaks := slices.ContainsFunc(all, func(a *attempt) bool { return a.Outcome == status.ProbeMPTCP })
	for _, a := range all {
		a.explain(speaks)
	}
	for i := range f.joins {
		f.explainJoin(&f.joins[i])
	}
}

// explain gives an attempt its text; speaks tells that the server spoke
// Multipath TCP with another one.
func (a *attempt) explain(speaks bool) {
	switch a.Outcome {
	case status.ProbeFallback:
		a.explainFallback(speaks)
	case status.ProbeBlocked:
		a.Text = "packets with the option of Multipath TCP vanish, and plain TCP gets through: a firewall drops them"
	case status.ProbeRefused:
		a.Text = "the connection was refused: nobody listens there, or a firewall says so"
	case status.ProbeTimeout:
		a.Text = "no answer"
	}
}

func (a *attempt) explainFallback(speaks bool) {
	switch {
	case !a.asked:
		a.Text = "this host did not ask for Multipath TCP: it has stopped for a while because such packets vanished before (net.mptcp.blackhole_timeout)"
	case a.spoke == servesTCP:
		a.Text = "the server's kernel speaks TCP only"
	case a.spoke == cameByMPTCP:
		a.Outcome, a.Text = status.ProbeStripped, "the server took the connection for Multipath TCP, and its answer lost the option on the way back"
	case a.spoke == cameByTCP:
		a.Outcome, a.Text = status.ProbeStripped, "the server speaks Multipath TCP, and the option was lost on the way"
	case speaks:
		a.Outcome, a.Text = status.ProbeStripped, "the option was lost on the way: over another path the server speaks Multipath TCP"
	default:
		a.Text = "the answer was plain TCP: the server does not speak Multipath TCP, or something before it takes the option away"
	}
}

// explainJoin judges a join by the connection over the same path.
func (f *facts) explainJoin(j *status.ProbeJoin) {
	a := f.own(j.Link)
	if a == nil {
		return
	}
	switch own := a.Outcome; {
	case j.Outcome == status.ProbeRefused && own == status.ProbeStripped:
		j.Outcome, j.Text = status.ProbeStripped, "the join lost its option on the way"
	case j.Outcome == status.ProbeTimeout && own == status.ProbeMPTCP:
		j.Text = "the join got no answer, and a connection of its own over this path speaks Multipath TCP: a firewall on the way drops joins (MP_JOIN)"
	case j.Outcome == status.ProbeTimeout && (own == status.ProbeTimeout || own == status.ProbeUnreachable):
		j.Text = "the join got no answer, nor does anything else over this path"
	case j.Outcome == status.ProbeRefused && own == status.ProbeMPTCP:
		j.Text += "; a connection of its own over this path speaks Multipath TCP: no joins are taken (on the server: ip mptcp limits)"
	}
}

// own is the connection that is bound to a link; nil: there is none.
func (f *facts) own(link string) *attempt {
	for _, a := range f.paths {
		if a.Link == link {
			return a
		}
	}
	return nil
}

// verdict is the sentences about one family.
func (f *facts) verdict() (out []string, ok bool) {
	joined := []string{nameOf(f.main.Link, f.main.Source)}
	for _, j := range f.joins {
		if j.Outcome == status.ProbeJoined && !slices.Contains(joined, nameOf(j.Link, j.Source)) {
			joined = append(joined, nameOf(j.Link, j.Source))
		}
	}
	if s := f.common(); s != "" {
		return []string{s}, false
	}
	ok = f.main.Outcome == status.ProbeMPTCP
	switch {
	case f.main.HandshakeSeconds == 0:
		out = append(out, "an ordinary connection, which the host sends where its routes lead, fails: "+f.main.Text+".")
	case !ok:
		out = append(out, "an ordinary connection ("+nameOf(f.main.Link, f.main.Source)+") has no Multipath TCP: "+f.main.Text+".")
	case len(joined) > 1:
		out = append(out, fmt.Sprintf("Multipath TCP works; one connection uses %s.", listing(joined)))
	case f.alone != "":
		out = append(out, "Multipath TCP works; "+f.alone+".")
	case len(f.paths) == 1 && len(f.joins) == 0:
		out = append(out, "Multipath TCP works; there is one path only, "+joined[0]+".")
	case slices.ContainsFunc(f.joins, func(j status.ProbeJoin) bool { return j.Text == closedAtOnce }):
		out = append(out, "Multipath TCP works over "+joined[0]+"; whether a connection uses several paths cannot be told.")
	default:
		out = append(out, "Multipath TCP works, and the connection stays on "+joined[0]+" alone.")
	}
	for _, j := range f.joins {
		if j.Outcome == status.ProbeJoined {
			continue
		}
		ok = false
		// Where nothing works over the path, the connection over it says so.
		if own := f.own(j.Link); own == nil || own.Outcome == status.ProbeMPTCP {
			out = append(out, nameOf(j.Link, j.Source)+": "+j.Text+".")
		}
	}
	for _, a := range f.paths {
		if a.Outcome != status.ProbeMPTCP {
			ok = false
			out = append(out, a.Link+": "+a.Text+".")
		}
	}
	return f.unused(out, ok)
}

// unused names the paths that no endpoint uses.
func (f *facts) unused(out []string, ok bool) ([]string, bool) {
	if f.main.Outcome != status.ProbeMPTCP {
		return out, ok
	}
	for _, a := range f.paths {
		has := slices.ContainsFunc(f.joins, func(j status.ProbeJoin) bool { return j.Link == a.Link })
		if !has && a.Link != f.main.Link && a.Outcome == status.ProbeMPTCP {
			ok = false
			out = append(out, a.Link+": no endpoint is there to join from (ip mptcp endpoint; is subflowd running?).")
		}
	}
	return out, ok
}

// common is the one sentence that says it all, where all attempts ended alike
// and badly.
func (f *facts) common() string {
	for _, a := range f.paths {
		if a.Outcome != f.main.Outcome || a.Text != f.main.Text {
			return ""
		}
	}
	switch f.main.Outcome {
	case status.ProbeMPTCP:
		return ""
	case status.ProbeRefused, status.ProbeTimeout, status.ProbeUnreachable:
		return fmt.Sprintf("%s cannot be reached over any path: %s.", f.server, f.main.Text)
	case status.ProbeFailed:
		if f.main.HandshakeSeconds > 0 {
			return "no path carries anything: " + f.main.Text + "."
		}
	}
	return "no path has Multipath TCP: " + f.main.Text + "."
}

func nameOf(link, source string) string {
	if link != "" {
		return link
	}
	if source != "" {
		return source
	}
	return "unbound"
}

func listing(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

func publicFamily(f netstate.Family) status.Family {
	if f == netstate.IPv6 {
		return status.IPv6
	}
	return status.IPv4
}
