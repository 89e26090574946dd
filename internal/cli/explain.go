package cli

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/subflowd/subflowd/internal/control"
	"github.com/subflowd/subflowd/internal/observe"
	"github.com/subflowd/subflowd/pkg/status"
)

func (a *app) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "explain WHAT",
		Short: "why a link, an address or a destination is treated so",
		Long: `Says why a link is a path or none, what its settings are and which entry of the
configuration decided each; why an address has rules and an endpoint or lacks
them; and for the address of another host, by which way each path reaches it:
how it should be, beside how the kernel does it. The name of a host is looked up,
and a port is left out.

Exit status 1 when there is no such thing.`,
		Example: "  subflowctl explain eth0\n  subflowctl explain 10.1.1.2\n  subflowctl explain 192.0.2.1",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return errors.New("explain wants one link, address or destination")
			}
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return a.explainable(args), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			what := withoutPort(args[0])
			if why := nobodys(what); why != "" {
				return noSubject(what, why)
			}
			err := a.explain(what)
			var none notThereError
			switch why := onLinkOnly(what); {
			case !errors.As(err, &none):
				return err
			case a.format == formatText && hostName(what):
				return a.explainName(what)
			case why != "":
				return noSubject(what, why)
			}
			return err
		},
	}
}

func (a *app) explain(what string) error {
	var e status.Explanation
	raw, err := a.client().get(control.PathExplain+"?"+url.Values{"what": {what}}.Encode(), &e)
	if err != nil {
		return err
	}
	if a.format == formatJSON {
		return a.printJSON(raw)
	}
	a.out.WriteString(explanationText(&e, a.coloured()))
	return nil
}

// explainable are the links and addresses that the daemon knows, for shells, or
// those that the kernel has while no daemon answers.
func (a *app) explainable(args []string) []string {
	if len(args) > 0 {
		return nil
	}
	var doc status.Document
	if _, err := a.client().get(control.PathStatus, &doc); err != nil {
		links, addrs, err := observe.Places()
		if err != nil {
			return nil
		}
		return append(links, addrs...)
	}
	seen := map[string]bool{}
	var out []string
	add := func(s string) {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	for _, p := range doc.Paths {
		add(p.Link)
		for _, ad := range p.Addresses {
			add(ad.Address)
		}
	}
	for _, l := range doc.Ignored {
		add(l.Link)
	}
	return out
}

// explanationText is the screen of `subflowctl explain`.
func explanationText(e *status.Explanation, colours bool) string {
	x := explainPage{page: &page{colours: colours}, e: e}
	switch e.Kind {
	case "destination":
		x.destination()
	case "address":
		for _, a := range e.Addresses {
			x.address(a, 0)
		}
		for _, l := range e.Links {
			x.link(l)
		}
	default:
		for _, l := range e.Links {
			x.link(l)
		}
		x.addresses()
		for _, l := range e.Links {
			x.settings(l)
		}
	}
	x.conditions()
	return x.b.String()
}

type explainPage struct {
	*page
	e *status.Explanation
}

// part begins a section; the first one needs no empty line before it.
func (x *explainPage) part(s string) {
	if x.b.Len() > 0 {
		x.b.WriteString("\n")
	}
	x.label(0, s, 0, bold, "")
}

func (x *explainPage) link(l status.LinkExplanation) {
	facts := []string{"type " + l.Type}
	for _, f := range [][2]string{{"kind", l.Kind}, {"driver", l.Driver}, {"mac", l.MAC}} {
		if f[1] != "" {
			facts = append(facts, f[0]+" "+f[1])
		}
	}
	switch {
	case !l.Up:
		facts = append(facts, "down")
	case !l.Carrier:
		facts = append(facts, "up without carrier")
	default:
		facts = append(facts, "up")
	}
	if x.b.Len() > 0 {
		x.b.WriteString("\n")
	}
	x.label(0, l.Link+":", 0, bold, strings.Join(facts, ", "))
	for _, f := range l.Families {
		x.family(f)
	}
}

func (x *explainPage) family(f status.FamilyExplanation) {
	if !f.IsPath || f.Path == nil {
		x.label(2, familyWord(f.Family), 6, plain, "no path: "+f.Reason)
		return
	}
	p := f.Path
	text := fmt.Sprintf("a path (%s): %s; metric %d", stateWords(*p), f.Reason, p.Metric)
	if p.Preference != 100 {
		text += fmt.Sprintf(", preference %d", p.Preference)
	}
	text += fmt.Sprintf(", table %d, gateway %s", p.Table, gatewayText(*p))
	if len(p.SharedPrefixes) > 0 {
		text += "; another link has the same " + strings.Join(p.SharedPrefixes, ", ")
	}
	x.label(2, familyWord(f.Family), 6, pathColours[p.State], text)
}

func (x *explainPage) addresses() {
	if len(x.e.Addresses) == 0 {
		return
	}
	x.part("Addresses")
	for _, a := range x.e.Addresses {
		x.address(a, 2)
	}
}

func (x *explainPage) address(a status.AddressExplanation, indent int) {
	var facts []string
	if a.Peer != "" {
		facts = append(facts, "peer "+a.Peer)
	}
	if indent == 0 && a.Link != "" {
		facts = append(facts, "on "+a.Link)
	}
	facts = append(facts, a.Flags...)
	x.label(indent, a.Address, 0, bold, strings.Join(facts, ", "))
	const pad = len("endpoint") + 2
	if a.Endpoint == nil && len(a.Rules)+len(a.MissingRules) == 0 && a.Reason == a.RulesReason {
		x.label(indent+2, "no rules, no endpoint:", 0, plain, a.Reason)
		return
	}
	rules := "none: " + a.RulesReason
	if len(a.Rules)+len(a.MissingRules) > 0 {
		rules = a.RulesReason
	}
	x.label(indent+2, "rules", pad, plain, rules)
	for _, r := range a.Rules {
		x.label(indent+2, "", pad, plain, r)
	}
	for _, r := range a.MissingRules {
		x.label(indent+2, "", pad, plain, "missing: "+r)
	}
	x.label(indent+2, "endpoint", pad, plain, endpointText(a))
}

// endpointText says what endpoint an address has, and why.
func endpointText(a status.AddressExplanation) string {
	e := a.Endpoint
	if e == nil {
		return "none: " + a.Reason
	}
	s := strings.Join(e.Flags, " ")
	if e.Link != "" && e.Link != a.Link {
		s += " dev " + e.Link
	}
	why := e.Reason
	switch e.State {
	case status.Missing:
		s = "to be added: " + s
	case status.Wanted:
		s = fmt.Sprintf("%d, %s", e.ID, s)
	default:
		s = fmt.Sprintf("%d, %s (%s)", e.ID, s, e.State)
	}
	if why != "" {
		s += ": " + why
	}
	if e.Connections > 0 {
		s += "; " + count(e.Connections, "connection needs it", "connections need it")
	}
	if e.WaitsFor != "" {
		s += "; " + e.WaitsFor
	}
	return s
}

// mostValue is the longest value of a setting: an IPv6 address.
const mostValue = 39

func (x *explainPage) settings(l status.LinkExplanation) {
	x.part("Settings, and who decided them")
	key, value := 0, 0
	for _, s := range l.Settings {
		key, value = max(key, len(s.Key)), min(max(value, len(s.Value)), mostValue)
	}
	for _, s := range l.Settings {
		c := plain
		if s.Where != "default" {
			c = bold
		}
		front := "  " + fit(s.Key, key) + "  " + x.paint(c, fit(clean(s.Value), value)) + "  "
		x.beside(front, key+value+6, s.Where)
	}
}

func (x *explainPage) destination() {
	x.label(0, "To "+x.e.What+":", 0, bold, "how it is reached from here, path by path")
	for _, l := range x.e.Destination {
		from := "unbound"
		if l.From != "" {
			from = "from " + l.From
		}
		text := l.Found
		c := green
		switch {
		case !l.Right && l.Wanted != "":
			c, text = red, "wanted "+l.Wanted+", found "+l.Found
		case !l.Right:
			c = red
		case l.From != "" && l.Wanted == "":
			c, text = plain, l.Found+" (no rules for this address now)"
		}
		x.label(2, from, 0, c, text)
	}
}

func (x *explainPage) conditions() {
	if len(x.e.Conditions) == 0 {
		return
	}
	x.part("Conditions")
	for _, c := range x.e.Conditions {
		x.label(2, string(c.Severity), 9, severityColours[c.Severity], c.Object+": "+c.Text)
		if c.Remedy != "" {
			x.label(11, "do:", 0, bold, c.Remedy)
		}
	}
}
