package cli

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// mostSeries is how many values of a rate are kept: as many as a wide terminal
// has columns for.
const mostSeries = 128

// series is the last values of a rate, oldest first. It is changed in place.
type series []uint64

func (s series) add(v uint64) series {
	if len(s) >= 2*mostSeries {
		s = append(s[:0], s[len(s)-mostSeries:]...)
	}
	return append(s, v)
}

// last are the newest n values, or as many as there are.
func (s series) last(n int) series { return s[max(0, len(s)-n):] }

func (s series) peak() uint64 {
	if len(s) == 0 {
		return 0
	}
	return slices.Max(s)
}

// linkSeries is what a link carried: everything, and of that the subflows.
type linkSeries struct{ sent, received, subflowsSent, subflowsReceived series }

func (l *linkSeries) clone() *linkSeries {
	return &linkSeries{slices.Clone(l.sent), slices.Clone(l.received), slices.Clone(l.subflowsSent), slices.Clone(l.subflowsReceived)}
}

// glyphs are the characters of small charts.
type glyphs struct {
	levels []rune // nothing, then ever more
	parts  []rune // of a bar's last cell, ever more; the last one is a full cell
}

var (
	blockGlyphs = glyphs{levels: []rune("▁▂▃▄▅▆▇█"), parts: []rune("▏▎▍▌▋▊▉█")}
	asciiGlyphs = glyphs{levels: []rune("_.:-=+*#"), parts: []rune("#")}
)

// sparkline draws the newest w values, the newest at the right. The highest
// level is top; what is more than nothing is drawn as more than nothing.
func (g glyphs) sparkline(s series, w int, top uint64) string {
	s = s.last(w)
	var b strings.Builder
	b.WriteString(strings.Repeat(" ", max(0, w-len(s))))
	for _, v := range s {
		level := 0
		if v > 0 {
			most := float64(len(g.levels) - 1)
			level = 1 + int(math.Round(min(float64(v)/float64(max(top, 1)), 1)*(most-1)))
		}
		b.WriteRune(g.levels[level])
	}
	return b.String()
}

// bar fills a part of w cells.
func (g glyphs) bar(part float64, w int) string {
	n := len(g.parts)
	steps := int(math.Round(min(max(part, 0), 1) * float64(w*n)))
	if steps == 0 && part > 0 {
		steps = 1
	}
	s := strings.Repeat(string(g.parts[n-1]), steps/n)
	if rest := steps % n; rest > 0 {
		s += string(g.parts[rest-1])
	}
	return fit(s, w)
}

// percent is a part of 1 in four columns at most.
func percent(part float64) string {
	if part > 0 && part < 0.01 {
		return "<1%"
	}
	return strconv.Itoa(int(math.Round(part*100))) + "%"
}
