package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/subflowd/subflowd/internal/observe"
	"github.com/subflowd/subflowd/pkg/status"
)

// The least that a screen can be.
const (
	leastTopWidth  = 70
	leastTopHeight = 14
)

// topLayout is how many lines each part has.
type topLayout struct {
	gap                        int // empty lines before each part
	links, connections, events int
}

func (m *topModel) layout() topLayout {
	l := topLayout{links: max(1, min(len(m.links), max(2, m.height/4))), events: min(max(m.height/6, 2), 12)}
	if m.height >= 20 {
		l.gap = 1
	}
	const heads = 6 // state, totals, three heads of parts, keys
	l.connections = max(0, m.height-heads-3*l.gap-l.links-l.events)
	return l
}

// topScreen is a screen that is being drawn, line by line.
type topScreen struct {
	page
	lines []string
	m     *topModel
}

// screen is the whole screen: as many lines as the terminal has, none wider.
func (m *topModel) screen() string {
	s := &topScreen{page: page{colours: m.colours}, m: m}
	switch {
	case m.width <= 0 || m.height <= 0:
		return ""
	case m.width < leastTopWidth || m.height < leastTopHeight:
		s.add(wrap(fmt.Sprintf("The terminal is %dx%d, too small: top needs %dx%d. q quits.", m.width, m.height, leastTopWidth, leastTopHeight), m.width)...)
	case m.help:
		s.add(strings.Split(topKeys, "\n")...)
	default:
		s.draw(m.layout())
	}
	if len(s.lines) > m.height {
		s.lines = s.lines[:m.height]
	}
	return strings.Join(s.lines, "\n")
}

func (s *topScreen) add(lines ...string) { s.lines = append(s.lines, lines...) }

// part adds a part of exactly n lines, and what is above it.
func (s *topScreen) part(gap int, head string, n int, lines []string) {
	for range gap {
		s.add("")
	}
	s.add(s.paint(bold, fit(head, s.m.width)))
	lines = lines[:min(n, len(lines))]
	s.add(lines...)
	for range n - len(lines) {
		s.add("")
	}
}

func (s *topScreen) draw(l topLayout) {
	s.add(s.state(), s.totals())
	s.part(l.gap, s.linksHead(), l.links, s.linkRows(l.links))
	s.part(l.gap, s.connectionsHead(), l.connections, s.connectionRows(l.connections))
	s.part(l.gap, "EVENTS", l.events, s.eventRows(l.events))
	s.add(s.keys())
}

// state says whether it works, as subflowctl status does, and of when this is.
func (s *topScreen) state() string {
	shown := s.m.shown()
	word, text, c := "no daemon", "", yellow
	switch d := shown.paths.daemon; {
	case d != nil:
		t := statusPage{doc: d}
		word, text, c = string(d.State), t.verdict()+worstConditions(d), stateColours[d.State]
	case shown.paths.away != nil:
		text = strings.TrimPrefix(shown.paths.away.Error(), "reach subflowd at ")
	default:
		word, c = "", plain
	}
	right := s.m.interval.String()
	if s.m.paused != nil {
		right = "paused"
	}
	if at := shown.doc.Time; !at.IsZero() {
		right = at.In(s.m.zone).Format("15:04:05") + "  " + right
	}
	room := s.m.width - len(right) - 2
	left := fit(clean(word)+"  "+clean(text), room)
	if rest, ok := strings.CutPrefix(left, clean(word)); ok {
		left = s.paint(c, clean(word)) + rest
	}
	if s.m.paused != nil {
		return left + "  " + s.paint(yellow, right)
	}
	return left + "  " + right
}

// worstConditions counts those that somebody should look at.
func worstConditions(d *status.Document) string {
	n := 0
	for _, c := range d.Conditions {
		if c.Severity != status.Info {
			n++
		}
	}
	if n == 0 {
		return ""
	}
	return "; " + count(n, "condition", "conditions") + ": subflowctl status"
}

func (s *topScreen) totals() string {
	shown := s.m.shown()
	for _, err := range []error{shown.broken, shown.paths.err} {
		if err != nil {
			return s.paint(red, fit(clean(err.Error()), s.m.width))
		}
	}
	return fit(clean(s.m.total), s.m.width)
}

func (s *topScreen) eventRows(n int) []string {
	events := s.m.shown().events
	var out []string
	for i := range events[max(0, len(events)-n):] {
		e := &events[max(0, len(events)-n)+i]
		front := s.when(e.Time) + "  "
		source := fit(clean(string(e.Source)), len(status.FromDaemon)) + "  "
		room := s.m.width - len(front) - displayed(source)
		out = append(out, front+s.paint(eventColour(e), source)+fit(clean(e.Text), room))
	}
	return out
}

// when is a time of day, or a day if that was long ago: the daemon's last changes
// may be of last week.
func (s *topScreen) when(t time.Time) string {
	if s.m.shown().doc.Time.Sub(t) > 20*time.Hour {
		return fit(t.In(s.m.zone).Format("Jan _2"), len("15:04:05"))
	}
	return t.In(s.m.zone).Format("15:04:05")
}

func (s *topScreen) keys() string {
	if s.m.typing {
		return fit("filter: "+s.m.filter+"_   Enter keeps it, Esc ends it", s.m.width)
	}
	pause := "space pause"
	if s.m.paused != nil {
		pause = "space go on"
	}
	return fit("q quit  "+pause+"  s sort  / filter  x subflows  m MPTCP  ? help", s.m.width)
}

// rateOf is a rate in its column; nil is not known.
func rateOf(r *status.Rate, of func(*status.Rate) uint64) string {
	if r == nil {
		return left("-", rateColumn)
	}
	return left(observe.BitRate(of(r)), rateColumn)
}
