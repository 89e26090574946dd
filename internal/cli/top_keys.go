package cli

import (
	"strings"
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"
)

// topKeys is the help screen.
const topKeys = `subflowctl top: keys

  q, Ctrl-C   quit               up, down, k, j  scroll
  space, p    pause, go on       PgUp, PgDn      a page
  s           sort by the next   Home, End, g, G begin, end
  r           reverse the order  /               filter; Esc: none
  x           subflows or not    m               MPTCP traffic only
  Ctrl-L      draw anew          Ctrl-Z          suspend

Links: all their traffic, or with m that of their subflows alone.
Connections: what the application sent and received; below, each
subflow with its share of both, and its round-trip time.
Any key goes on.`

// key does what a key is for.
func (m *topModel) key(k tea.KeyPressMsg) tea.Cmd {
	name := k.String()
	switch {
	case name == "ctrl+c":
		return tea.Quit
	case name == "ctrl+z":
		return tea.Suspend
	case name == "ctrl+l":
		return tea.ClearScreen
	case m.typing:
		m.typed(k)
		return nil
	case m.help:
		m.help = false
		return nil
	}
	switch name {
	case "q":
		return tea.Quit
	case "?", "h", "f1":
		m.help = true
	case "space", "p":
		m.pause()
	case "s":
		m.sort = (m.sort + 1) % sorts
		m.first = 0
	case "r":
		m.reversed = !m.reversed
		m.first = 0
	case "x", "enter":
		m.brief = !m.brief
	case "m":
		m.onlyMPTCP = !m.onlyMPTCP
	case "/":
		m.typing = true
	case "esc":
		m.filter = ""
	default:
		m.scroll(name)
	}
	return nil
}

func (m *topModel) pause() {
	if m.paused != nil {
		m.paused = nil
		return
	}
	m.paused = m.live.freeze()
}

// typed takes a key for the filter.
func (m *topModel) typed(k tea.KeyPressMsg) {
	switch k.String() {
	case "enter":
		m.typing = false
	case "esc":
		m.typing, m.filter = false, ""
	case "backspace":
		_, n := utf8.DecodeLastRuneInString(m.filter)
		m.filter = m.filter[:len(m.filter)-n]
	case "ctrl+u":
		m.filter = ""
	default:
		m.filter += printable(k.Text)
	}
	m.first = 0
}

// printable leaves what a filter can be made of.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unprintable(r) {
			return -1
		}
		return r
	}, s)
}

// scroll moves over the connections.
func (m *topModel) scroll(key string) {
	rows := m.layout().connections
	switch key {
	case "up", "k":
		m.first--
	case "down", "j":
		m.first++
	case "home", "g":
		m.first = 0
	case "end", "G", "shift+g":
		m.first = m.pageBefore(len(m.order), rows)
	case "pgup", "ctrl+b":
		m.first = m.pageBefore(m.first, rows)
	case "pgdown", "ctrl+f":
		m.first = min(m.pageAfter(m.first, rows), m.pageBefore(len(m.order), rows))
	}
}

// heightOf is how many lines a connection of the order takes.
func (m *topModel) heightOf(i int) int {
	if m.brief {
		return 1
	}
	return 1 + len(m.shown().doc.Connections[m.order[i]].Subflows)
}

// pageAfter is the first connection that does not fit into a page any more.
func (m *topModel) pageAfter(first, rows int) int {
	i := first
	for i < len(m.order) {
		if rows -= m.heightOf(i); rows < 0 && i > first {
			break
		}
		i++
	}
	return i
}

// pageBefore is where a page begins that ends before a connection.
func (m *topModel) pageBefore(end, rows int) int {
	i := end
	for i > 0 {
		if rows -= m.heightOf(i - 1); rows < 0 && i < end {
			break
		}
		i--
	}
	return i
}
