package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/subflowd/subflowd/internal/observe"
	"github.com/subflowd/subflowd/pkg/status"
)

var pathColours = map[status.PathState]colour{status.Live: green, status.Grace: yellow, status.Dark: red}

// columns are the widths of the table of paths.
type columns struct{ link, state, metric, table int }

func (t *statusPage) paths() {
	if len(t.doc.Paths) == 0 {
		return
	}
	c := columns{link: len("LINK"), state: len("STATE"), metric: len("METRIC"), table: len("TABLE")}
	for _, p := range t.doc.Paths {
		c.link = max(c.link, displayed(clean(p.Link)))
		c.state = max(c.state, len(stateWords(p)))
		c.metric = max(c.metric, len(number(p.Metric)))
		c.table = max(c.table, len(number(p.Table)))
	}
	c.link = min(c.link, 15) // IFNAMSIZ
	t.head("Paths")
	t.line("  " + fit("LINK", c.link) + "  FAMILY  " + fit("STATE", c.state) + "  " + left("METRIC", c.metric) + "  " + left("TABLE", c.table) + "  GATEWAY")
	for _, p := range t.doc.Paths {
		t.path(p, c)
	}
}

func (t *statusPage) path(p status.Path, c columns) {
	front := "  " + fit(clean(p.Link), c.link) + "  " + fit(familyWord(p.Family), len("FAMILY")) + "  "
	state := fit(stateWords(p), c.state)
	back := "  " + left(number(p.Metric), c.metric) + "  " + left(number(p.Table), c.table) + "  "
	gateway := gatewayText(p)
	if displayed(front+state+back+gateway) > width {
		t.line(front + t.paint(pathColours[p.State], state) + back)
		t.label(4, "via", 0, plain, gateway)
	} else {
		t.line(front + t.paint(pathColours[p.State], state) + back + gateway)
	}
	pad := 0
	for i, a := range p.Addresses {
		if i < mostAddresses {
			pad = max(pad, len(a.Address)+2)
		}
	}
	for i, a := range p.Addresses {
		if i == mostAddresses {
			t.line(fmt.Sprintf("    and %s more", count(len(p.Addresses)-i, "address", "addresses")))
			break
		}
		t.label(4, a.Address, pad, plain, t.addressText(p, a))
	}
	if p.Traffic != nil {
		t.label(4, "traffic", 0, plain, t.trafficText(p))
	}
}

// trafficText says what a path carries, and what its link does besides where
// that was not said above.
func (t *statusPage) trafficText(p status.Path) string {
	x := p.Traffic
	s := "no subflow"
	switch {
	case x.Omitted:
		s = "subflows are not counted"
	case x.Subflows > 0:
		s = fmt.Sprintf("in %s, out %s by %s", observe.Bytes(x.ReceivedBytes), observe.Bytes(x.SentBytes), count(x.Subflows, "subflow", "subflows"))
	}
	if !t.told[p.Ifindex] {
		t.told[p.Ifindex] = true
		s += fmt.Sprintf("; link in %s, out %s", observe.Bytes(x.LinkReceivedBytes), observe.Bytes(x.LinkSentBytes))
	}
	return s
}

// addressText says what endpoint the address has, or why it has none.
func (t *statusPage) addressText(p status.Path, a status.Address) string {
	for _, e := range t.doc.Endpoints {
		if e.Address != a.Address || e.Port != 0 || !a.Endpoint && e.State != status.Foreign && e.State != status.Lingering {
			continue
		}
		s := strings.Join(e.Flags, " ")
		switch e.State {
		case status.Missing:
			return "endpoint to be added: " + s
		case status.Foreign, status.Lingering:
			s += " (" + string(e.State) + ")"
		}
		if e.Ifindex != p.Ifindex && e.Link != "" {
			s += " dev " + e.Link
		}
		return fmt.Sprintf("endpoint %d: %s", e.ID, s)
	}
	if a.Reason == "" {
		return "no endpoint"
	}
	return "no endpoint: " + a.Reason
}

func stateWords(p status.Path) string {
	switch {
	case p.Backup && p.Probe != nil && p.Probe.State == status.ProbeSilent:
		return string(p.State) + ", silent"
	case p.Backup:
		return string(p.State) + ", backup"
	}
	return string(p.State)
}

func gatewayText(p status.Path) string {
	switch n := len(p.Gateways); {
	case n == 0:
		return "none"
	case n > mostGateways:
		return fmt.Sprintf("%s and %d more", p.Gateways[0], n-1)
	}
	return strings.Join(p.Gateways, ", ")
}

// otherEndpoints are those that no address of a path shows: lingering ones, and
// foreign ones elsewhere.
func (t *statusPage) otherEndpoints() {
	shown := map[string]bool{}
	for _, p := range t.doc.Paths {
		for _, a := range p.Addresses {
			shown[a.Address] = true
		}
	}
	var others []status.Endpoint
	for _, e := range t.doc.Endpoints {
		if e.State == status.Lingering || !shown[e.Address] || e.Port != 0 {
			others = append(others, e)
		}
	}
	if len(others) == 0 {
		return
	}
	t.head("Other endpoints")
	for i, e := range others {
		if i == mostOthers {
			t.line(fmt.Sprintf("  and %d more: ip mptcp endpoint show", len(others)-i))
			break
		}
		c := plain
		if e.State == status.Lingering || e.State == status.Missing {
			c = yellow
		}
		t.label(2, string(e.State), 11, c, t.otherEndpoint(e))
	}
}

func (t *statusPage) otherEndpoint(e status.Endpoint) string {
	s := e.Address
	if e.Port != 0 {
		s += " port " + strconv.Itoa(int(e.Port))
	}
	if e.Link != "" {
		s += " dev " + e.Link
	}
	if e.ID != 0 {
		s += " id " + strconv.Itoa(int(e.ID))
	}
	if len(e.Flags) > 0 {
		s += " " + strings.Join(e.Flags, " ")
	}
	if e.Since != nil {
		s += ", for " + t.since(*e.Since)
	}
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	if e.Connections > 0 {
		s += "; " + count(e.Connections, "connection needs it", "connections need it")
	}
	if e.WaitsFor != "" {
		s += "; " + e.WaitsFor
	}
	return s
}

// group is the links that are no paths for one reason.
type group struct {
	families []string
	reason   string
	links    []string
}

func (t *statusPage) ignored() {
	groups := ignoredGroups(t.doc.Ignored)
	if len(groups) == 0 {
		return
	}
	t.head("No paths")
	for i, g := range groups {
		if i == mostIgnored {
			t.line(fmt.Sprintf("  and %d more: subflowctl status -o json", len(groups)-i))
			break
		}
		t.label(2, fit(linksText(g.links, 24), 24), 0, plain, strings.Join(g.families, " and ")+": "+g.reason)
	}
}

// ignoredGroups puts families of a link, and then links, together where the
// reason is the same. The loopback is left out: nobody expects it.
func ignoredGroups(all []status.Link) []*group {
	type key struct{ link, reason string }
	families := map[key][]string{}
	var order []key
	for _, l := range all {
		k := key{l.Link, l.Reason}
		if l.Link == "lo" {
			continue
		}
		if families[k] == nil {
			order = append(order, k)
		}
		families[k] = append(families[k], familyWord(l.Family))
	}
	var groups []*group
	byWhy := map[string]*group{}
	for _, k := range order {
		why := strings.Join(families[k], " ") + "\x00" + k.reason
		g := byWhy[why]
		if g == nil {
			g = &group{families: families[k], reason: k.reason}
			byWhy[why] = g
			groups = append(groups, g)
		}
		g.links = append(g.links, clean(k.link))
	}
	return groups
}

// linksText names as many links as fit.
func linksText(links []string, w int) string {
	s := links[0]
	for i, l := range links[1:] {
		more := ""
		if rest := len(links) - i - 2; rest > 0 {
			more = fmt.Sprintf(" and %d", rest)
		}
		if len(s)+len(", ")+len(l)+len(more) > w {
			return fmt.Sprintf("%s and %d", s, len(links)-i-1)
		}
		s += ", " + l
	}
	return s
}

func familyWord(f status.Family) string {
	if f == status.IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

func number(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

func left(s string, w int) string { return strings.Repeat(" ", max(0, w-len(s))) + s }
