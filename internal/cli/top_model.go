package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/subflowd/subflowd/pkg/status"
)

const (
	// firstRates is when rates are first known, whatever the interval is.
	firstRates = 200 * time.Millisecond
	// askAgain is how often the daemon is asked when it tells of nothing new: its
	// answer costs it a look at all connections.
	askAgain = 5 * time.Second
	// mostEvents is how many of them a high terminal shows.
	mostEvents = 64
)

// scene is what there is to show.
type scene struct {
	doc    *status.Connections
	mptcp  bool  // the kernel has Multipath TCP
	broken error // why the last look at the kernel failed

	paths   topPaths
	history map[int]*linkSeries // by ifindex: links that are paths or carry subflows
	events  []status.Event
}

// topModel is the state of the screen. Update changes it, screen draws it.
type topModel struct {
	// Where news come from; nil in tests.
	sample, ask, listen tea.Cmd

	interval      time.Duration
	colours       bool
	glyphs        glyphs
	zone          *time.Location
	width, height int

	live   scene
	paused *scene // what is shown while the live one goes on; nil: the live one

	sort      topSort
	reversed  bool
	brief     bool // a line for each connection, without its subflows
	onlyMPTCP bool
	filter    string
	typing    bool // the filter
	help      bool

	first int   // of order: the uppermost connection on the screen
	order []int // the connections to show, of the scene's document
	links []topLink
	total string // what there is, in words

	asking, news bool
	asked        time.Time
}

func newTopModel(interval time.Duration, colours, blocks bool) *topModel {
	m := &topModel{interval: interval, colours: colours, glyphs: asciiGlyphs, zone: time.Local}
	if blocks {
		m.glyphs = blockGlyphs
	}
	m.live.doc = &status.Connections{}
	m.live.history = map[int]*linkSeries{}
	return m
}

// shown is the scene on the screen.
func (m *topModel) shown() *scene {
	if m.paused != nil {
		return m.paused
	}
	return &m.live
}

// Init begins to gather.
func (m *topModel) Init() tea.Cmd { return tea.Batch(m.sample, m.askNow(), m.listen) }

// View draws the screen.
func (m *topModel) View() tea.View {
	v := tea.NewView(m.screen())
	v.AltScreen = true
	return v
}

// Update takes a key, a new size, or news.
func (m *topModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	var cmd tea.Cmd
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
		return m, nil
	case tea.KeyPressMsg:
		cmd = m.key(msg)
	case tea.PasteMsg:
		if m.typing {
			m.filter += printable(msg.Content)
		}
	case topSample:
		cmd = m.looked(msg)
	case topPaths:
		m.asking, m.asked = false, time.Now()
		m.live.paths = msg
	case topEvents:
		cmd = m.happened(msg)
	default:
		return m, nil
	}
	m.arrange()
	return m, cmd
}

// looked takes a look at the kernel, and looks again later. One that takes long
// is not repeated without a pause: half of the time is for others.
func (m *topModel) looked(s topSample) tea.Cmd {
	pause := max(m.interval-s.took, s.took)
	if m.live.broken = s.err; s.err == nil {
		if m.live.doc.Time.IsZero() {
			pause = min(pause, firstRates)
		}
		m.live.doc, m.live.mptcp = s.doc, s.mptcp
		m.live.remember()
	}
	var ask tea.Cmd
	if m.news || time.Since(m.asked) > askAgain {
		ask = m.askNow()
	}
	return tea.Batch(ask, later(pause, m.sample))
}

// happened takes events; what the daemon tells may be about paths.
func (m *topModel) happened(e topEvents) tea.Cmd {
	m.live.events = append(m.live.events[max(0, len(m.live.events)-mostEvents):len(m.live.events):len(m.live.events)], e...)
	m.news = m.news || slices.ContainsFunc(e, func(e status.Event) bool { return e.Source != status.FromKernel })
	var ask tea.Cmd
	if m.news && time.Since(m.asked) > m.interval {
		ask = m.askNow()
	}
	return tea.Batch(ask, m.listen)
}

func (m *topModel) askNow() tea.Cmd {
	if m.asking {
		return nil
	}
	m.asking, m.news = true, false
	return m.ask
}

func later(pause time.Duration, cmd tea.Cmd) tea.Cmd {
	if cmd == nil {
		return nil
	}
	return tea.Tick(pause, func(time.Time) tea.Msg { return cmd() })
}

// remember adds the rates of a look to the history.
func (s *scene) remember() {
	wanted := map[int]bool{}
	for _, p := range s.paths.paths {
		wanted[p.Ifindex] = true
	}
	seen := map[int]bool{}
	for i := range s.doc.Links {
		l := &s.doc.Links[i]
		if l.Rate == nil || !wanted[l.Ifindex] && l.Subflows == 0 {
			continue
		}
		seen[l.Ifindex] = true
		h := s.history[l.Ifindex]
		if h == nil {
			h = &linkSeries{}
			s.history[l.Ifindex] = h
		}
		h.sent, h.received = h.sent.add(l.Rate.SentBytesPerSecond), h.received.add(l.Rate.ReceivedBytesPerSecond)
		h.subflowsSent, h.subflowsReceived = h.subflowsSent.add(sentOf(l.SubflowRate)), h.subflowsReceived.add(receivedOf(l.SubflowRate))
	}
	for ifindex := range s.history {
		if !seen[ifindex] {
			delete(s.history, ifindex)
		}
	}
}

// freeze is the scene as it is now. The rest of it is never changed in place.
func (s *scene) freeze() *scene {
	out := *s
	out.history = make(map[int]*linkSeries, len(s.history))
	for ifindex, h := range s.history {
		out.history[ifindex] = h.clone()
	}
	return &out
}

// topSort is what connections are sorted by.
type topSort int

const (
	byRate topSort = iota
	byBytes
	byRTT
	byPeer
	sorts // how many there are
)

func (s topSort) String() string { return [...]string{"rate", "bytes", "round-trip time", "peer"}[s] }

// value is what is sorted by, the largest first.
func (s topSort) value(c *status.Connection) float64 {
	switch s {
	case byRate:
		return float64(sentOf(c.Rate) + receivedOf(c.Rate))
	case byBytes:
		return float64(c.SentBytes + c.ReceivedBytes)
	case byRTT:
		worst := 0.0
		for i := range c.Subflows {
			worst = max(worst, c.Subflows[i].RTTSeconds)
		}
		return worst
	}
	return 0 // the document is in the order of peers
}

// arrange decides what is shown, and in which order. Drawing then looks at what
// is on the screen only.
func (m *topModel) arrange() {
	doc := m.shown().doc
	m.order = m.order[:0]
	values := make([]float64, len(doc.Connections))
	filter := strings.ToLower(m.filter)
	subflows, fallback := 0, 0
	for i := range doc.Connections {
		c := &doc.Connections[i]
		if c.Fallback {
			fallback++
		} else {
			subflows += len(c.Subflows)
		}
		if !contains(c, filter) {
			continue
		}
		values[i] = m.sort.value(c)
		m.order = append(m.order, i)
	}
	slices.SortStableFunc(m.order, func(a, b int) int { return cmp.Compare(values[b], values[a]) })
	if m.reversed {
		slices.Reverse(m.order)
	}
	m.first = max(0, min(m.first, len(m.order)-1))
	m.links = m.shown().links()
	m.total = m.totals(subflows, fallback)
}

// totals says what there is.
func (m *topModel) totals(subflows, fallback int) string {
	doc := m.shown().doc
	s := count(len(doc.Connections), "MPTCP connection", "MPTCP connections")
	switch {
	case doc.Time.IsZero():
		return "looking"
	case !m.shown().mptcp:
		return "this kernel has no Multipath TCP: subflowctl check"
	case len(doc.Connections) == 0:
		s = "no MPTCP connections"
	case doc.SubflowsHidden:
		s += "; this kernel shows subflows to root only"
	default:
		s += " with " + count(subflows, "subflow", "subflows")
	}
	if fallback > 0 {
		s += fmt.Sprintf("; %d fell back to TCP", fallback)
	}
	if m.filter != "" || m.typing {
		s += fmt.Sprintf("; %d with %q", len(m.order), m.filter)
	}
	s += "; by " + m.sort.String()
	if m.reversed {
		s += ", reversed"
	}
	return s
}

// contains tells whether a connection has a text in it, in lower case: in its
// program, ends, links, state or token.
func contains(c *status.Connection, text string) bool {
	if text == "" {
		return true
	}
	in := func(s string) bool { return strings.Contains(strings.ToLower(s), text) }
	if in(programOf(c)) || in(c.Local) || in(c.Remote) || in(c.State) || in(c.Token) || c.Fallback && in("fell back to TCP") {
		return true
	}
	return slices.ContainsFunc(c.Subflows, func(f status.Subflow) bool {
		return in(f.Link) || in(f.Local) || in(f.Remote) || in(f.State)
	})
}
