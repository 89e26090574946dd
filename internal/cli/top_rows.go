package cli

import (
	"fmt"
	"strings"

	"github.com/subflowd/subflowd/internal/observe"
	"github.com/subflowd/subflowd/pkg/status"
)

// topLink is a line of the upper part: a link that is a path in one family or in
// both, or that carries subflows without being one.
type topLink struct {
	ifindex  int
	name     string
	families string
	state    string
	colour   colour
	carrier  *status.Carrier // nil: not known
}

// links are those of the paths, in their order, then others that carry subflows.
// Where families differ, a link shows the worse state.
func (s *scene) links() []topLink {
	var out []topLink
	at := map[int]int{}
	worst := map[int]status.Path{}
	for _, p := range s.paths.paths {
		digit := strings.TrimPrefix(familyWord(p.Family), "IPv")
		i, ok := at[p.Ifindex]
		if ok {
			out[i].families += "+" + digit
		} else {
			i = len(out)
			at[p.Ifindex] = i
			out = append(out, topLink{ifindex: p.Ifindex, name: p.Link, families: digit})
		}
		if !ok || worsens(worst[p.Ifindex], p) {
			worst[p.Ifindex] = p
			out[i].state, out[i].colour = stateWords(p), pathColours[p.State]
		}
	}
	for i := range s.doc.Links {
		l := &s.doc.Links[i]
		if k, ok := at[l.Ifindex]; ok {
			out[k].carrier = l
		} else if l.Subflows > 0 {
			out = append(out, topLink{ifindex: l.Ifindex, name: l.Link, families: "-", state: "no path", carrier: l})
		}
	}
	return out
}

var stateRanks = map[status.PathState]int{status.Live: 0, status.Grace: 1, status.Dark: 2}

// worsens tells whether a path is worse than another.
func worsens(known, p status.Path) bool {
	if a, b := stateRanks[known.State], stateRanks[p.State]; a != b {
		return b > a
	}
	return len(stateWords(p)) > len(stateWords(known))
}

// The columns of links, besides the link's own.
const (
	familiesColumn = 3
	topStateColumn = 13 // grace, backup
	subflowsColumn = 5
)

// linkColumns are the widths of a link's name and of each sparkline.
func (m *topModel) linkColumns() (name, spark int) {
	name = 10
	if m.width >= 90 {
		name = 15 // IFNAMSIZ
	}
	fixed := name + 1 + familiesColumn + 1 + topStateColumn + 1 + subflowsColumn + 2*(2+rateColumn+1)
	return name, max(0, (m.width-fixed)/2)
}

func (s *topScreen) linksHead() string {
	name, spark := s.m.linkColumns()
	sent, received := "SENT", "RECEIVED"
	if s.m.onlyMPTCP {
		sent, received = "MPTCP SENT", "MPTCP RECV"
	}
	peakSent, peakReceived := s.peaks(spark)
	state := "STATE"
	if s.m.shown().paths.away != nil {
		state = "WOULD BE" // with a daemon
	}
	return fit("LINK", name) + " " + fit("IP", familiesColumn) + " " + fit(state, topStateColumn) + " " + left("SUBFL", subflowsColumn) +
		"  " + left(sent, rateColumn) + " " + fit(peakText(peakSent, spark), spark) +
		"  " + left(received, rateColumn) + " " + fit(peakText(peakReceived, spark), spark)
}

// peakText tells what the highest level of a sparkline is, where it fits.
func peakText(peak uint64, w int) string {
	s := "to " + observe.BitRate(peak)
	if peak == 0 || len(s) > w {
		return ""
	}
	return s
}

// seriesOf are the rates of a link that are shown.
func (s *topScreen) seriesOf(ifindex int) (sent, received series) {
	h := s.m.shown().history[ifindex]
	switch {
	case h == nil:
		return nil, nil
	case s.m.onlyMPTCP:
		return h.subflowsSent, h.subflowsReceived
	}
	return h.sent, h.received
}

// peaks are the highest levels of all sparklines: links are to be compared.
func (s *topScreen) peaks(w int) (sent, received uint64) {
	for _, l := range s.m.links {
		a, b := s.seriesOf(l.ifindex)
		sent, received = max(sent, a.last(w).peak()), max(received, b.last(w).peak())
	}
	return sent, received
}

func (s *topScreen) linkRows(n int) []string {
	if len(s.m.links) == 0 {
		return []string{"none"}
	}
	name, spark := s.m.linkColumns()
	peakSent, peakReceived := s.peaks(spark)
	var out []string
	for i, l := range s.m.links {
		if i == n-1 && len(s.m.links) > n {
			return append(out, fmt.Sprintf("and %d more", len(s.m.links)-i))
		}
		subflows, rate := "-", (*status.Rate)(nil)
		if c := l.carrier; c != nil {
			subflows, rate = number(uint32(c.Subflows)), c.Rate
			if s.m.onlyMPTCP {
				rate = c.SubflowRate
			}
		}
		sent, received := s.seriesOf(l.ifindex)
		out = append(out, fit(clean(l.name), name)+" "+fit(l.families, familiesColumn)+" "+s.paint(l.colour, fit(l.state, topStateColumn))+" "+left(subflows, subflowsColumn)+
			"  "+rateOf(rate, sentOf)+" "+s.m.glyphs.sparkline(sent, spark, peakSent)+
			"  "+rateOf(rate, receivedOf)+" "+s.m.glyphs.sparkline(received, spark, peakReceived))
	}
	return out
}

// connectionColumns are the widths of the ends and of the shares.
func (m *topModel) connectionColumns() (ends, share int) {
	extra := m.width - 80
	share = max(10, 10+extra/3)
	return m.width - 2*(2+rateColumn) - 2 - share - 2 - rttColumn, share
}

func (s *topScreen) connectionsHead() string {
	ends, share := s.m.connectionColumns()
	head := "CONNECTION"
	if n := len(s.m.order); n > 0 {
		head += fmt.Sprintf("  %d of %d", s.m.first+1, n)
	}
	return fit(head, ends) + "  " + left("SENT", rateColumn) + "  " + left("RECEIVED", rateColumn) + "  " + fit("SHARE", share) + "  " + left("RTT", rttColumn)
}

// connectionRows draws those that fit, and looks at no other.
func (s *topScreen) connectionRows(n int) []string {
	doc := s.m.shown().doc
	switch {
	case doc.Time.IsZero() || !s.m.shown().mptcp:
		return nil
	case len(doc.Connections) == 0:
		return []string{"no MPTCP connections"}
	case len(s.m.order) == 0:
		return []string{fit(fmt.Sprintf("none with %q", s.m.filter), s.m.width)}
	}
	var out []string
	for _, i := range s.m.order[s.m.first:] {
		if len(out) >= n {
			break
		}
		c := &doc.Connections[i]
		out = append(out, s.connection(c, doc.SubflowsHidden))
		if s.m.brief {
			continue
		}
		total := totalRate(c)
		for k := range c.Subflows {
			out = append(out, s.subflow(&c.Subflows[k], total))
		}
	}
	return out
}

// connection is the line of a connection.
func (s *topScreen) connection(c *status.Connection, hidden bool) string {
	ends, share := s.m.connectionColumns()
	text := clean(c.Local + " > " + c.Remote)
	if displayed(text) > ends {
		text = clean("> " + c.Remote) // its local ends are in its subflows
	}
	note, colour := programOf(c), plain
	// Where something else is to be said, the program stands at the ends, if it
	// has the place.
	if more := text + "  " + note; note != "" && (c.Fallback || s.m.brief || c.State != "ESTAB") && displayed(more) <= ends {
		text = more
	}
	switch {
	case c.Fallback:
		note, colour = "fell back to TCP", yellow
	case len(c.Subflows) == 0 && !hidden:
		note, colour = "no subflow", red
	case s.m.brief:
		note = shares(c)
	case c.State != "ESTAB":
		note = c.State
	}
	return s.paint(bold, fit(text, ends)) + "  " + rateOf(c.Rate, sentOf) + "  " + rateOf(c.Rate, receivedOf) + "  " + s.paint(colour, fit(clean(note), share+2+rttColumn))
}

// subflow is the line of a subflow, below its connection's.
func (s *topScreen) subflow(f *status.Subflow, total uint64) string {
	ends, share := s.m.connectionColumns()
	link, colour := clean(f.Link), green
	if link == "" {
		link, colour = "no route", red
	}
	words := subflowWords(steady(f))
	if len(words) > 0 {
		colour = yellow
	}
	if f.AddressLink != "" {
		colour = red
	}
	if f.State != "ESTAB" {
		words = append([]string{f.State}, words...)
	}
	link = fit(link, max(6, min(displayed(link), ends/2)))
	room := max(1, ends-4-displayed(link))
	text := strings.Join(append(words, f.Local), "  ")
	if displayed(text) > room && len(words) > 0 {
		text = strings.Join(words, "  ")
	}
	part := left("-", share)
	if own := sentOf(f.Rate) + receivedOf(f.Rate); total > 0 {
		p := float64(own) / float64(total)
		part = s.m.glyphs.bar(p, share-5) + " " + left(percent(p), 4)
	}
	rtt := "-"
	if f.RTTSeconds > 0 {
		rtt = observe.Short(seconds(f.RTTSeconds))
	}
	return "  " + s.paint(colour, link) + "  " + fit(clean(text), room) + "  " + rateOf(f.Rate, sentOf) + "  " + rateOf(f.Rate, receivedOf) + "  " + part + "  " + left(rtt, rttColumn)
}

// steady is a subflow without what comes and goes on every busy path: single
// packets that are lost and sent again.
func steady(f *status.Subflow) *status.Subflow {
	out := *f
	out.Lost = 0
	if out.Congestion == "recovery" {
		out.Congestion = ""
	}
	return &out
}

// totalRate is what the subflows of a connection carry together.
func totalRate(c *status.Connection) uint64 {
	var total uint64
	for i := range c.Subflows {
		total += sentOf(c.Subflows[i].Rate) + receivedOf(c.Subflows[i].Rate)
	}
	return total
}

// shares are the links of a connection with what each carries of it now.
func shares(c *status.Connection) string {
	total := totalRate(c)
	var links []string
	carried := map[string]uint64{}
	for i := range c.Subflows {
		f := &c.Subflows[i]
		link := f.Link
		if link == "" {
			link = "no route"
		}
		if _, ok := carried[link]; !ok {
			links = append(links, link)
		}
		carried[link] += sentOf(f.Rate) + receivedOf(f.Rate)
	}
	for i, link := range links {
		if total > 0 {
			links[i] = link + " " + percent(float64(carried[link])/float64(total))
		}
	}
	return strings.Join(links, " ")
}
