package iptext

import (
	"fmt"
	"sort"
	"strings"

	"github.com/subflowd/subflowd/internal/netstate"
)

// Text writes what the kernel holds beyond links and addresses: routes, rules,
// endpoints and limits, in a fixed order; rules in the kernel's.
func Text(s *netstate.Snapshot) string {
	n := s.Names()
	var lines []string
	for _, r := range s.Routes {
		lines = append(lines, "route "+r.Text(n))
	}
	for _, e := range s.Endpoints {
		lines = append(lines, "endpoint "+e.Text(n))
	}
	sort.Strings(lines)
	for _, r := range s.Rules {
		lines = append(lines, RuleLine(r))
	}
	lines = append(lines, "limits "+s.Limits.Text())
	return strings.Join(lines, "\n") + "\n"
}

// RuleLine writes a rule as `ip rule` lists it, which Rule reads.
func RuleLine(r netstate.Rule) string {
	text := r.Text()
	prio := fmt.Sprintf(" priority %d", r.Priority)
	word := "rule"
	if r.Family == netstate.IPv6 && !r.From.IsValid() {
		word = "rule6"
	}
	return fmt.Sprintf("%s %d: %s", word, r.Priority, strings.Replace(text, prio, "", 1))
}

// Routes reads lines of routes against the links of a snapshot.
func Routes(s *netstate.Snapshot, text string) ([]netstate.Route, error) {
	p := parser{snap: &netstate.Snapshot{}, index: map[string]int{}}
	for _, l := range s.Links {
		p.index[l.Name] = l.Index
	}
	for _, line := range strings.Split(text, "\n") {
		w := strings.Fields(line)
		if len(w) == 0 {
			continue
		}
		if !strings.HasPrefix(w[0], "route") {
			w = append([]string{"route"}, w...)
		}
		if err := p.line(w); err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
	}
	return p.snap.Routes, nil
}

// Endpoint reads one endpoint against the links of a snapshot.
func Endpoint(s *netstate.Snapshot, line string) (netstate.Endpoint, error) {
	p := parser{snap: &netstate.Snapshot{}, index: map[string]int{}}
	for _, l := range s.Links {
		p.index[l.Name] = l.Index
	}
	return p.endpoint(strings.Fields(strings.TrimPrefix(line, "endpoint ")))
}
