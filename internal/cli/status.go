package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/subflowd/subflowd/internal/control"
	"github.com/subflowd/subflowd/pkg/status"
)

func (a *app) statusCommand() *cobra.Command {
	return command("status", "links, paths, endpoints and conditions on one screen", "", func() error {
		var doc status.Document
		raw, err := a.client().get(control.PathStatus, &doc)
		if err != nil {
			return err
		}
		if elsewhere(doc.Daemon.Namespace) {
			fmt.Fprintf(a.stderr, "subflowctl: the daemon at %s serves another network namespace than this one\n", clean(a.socket))
		}
		if a.format == formatJSON {
			return a.printJSON(raw)
		}
		a.out.WriteString(statusText(&doc, a.coloured()))
		return nil
	})
}

// statusText is the screen of `subflowctl status`: first whether it works, then
// what is used, what is not, and what to do.
func statusText(d *status.Document, colours bool) string {
	p := &page{colours: colours}
	t := statusPage{page: p, doc: d, told: map[int]bool{}}
	t.headline()
	t.conditions("Conditions", func(c status.Condition) bool { return c.Severity != status.Info })
	t.paths()
	t.otherEndpoints()
	t.pending()
	t.contentions()
	t.ignored()
	t.conditions("Notes", func(c status.Condition) bool { return c.Severity == status.Info })
	return p.b.String()
}

// One screen has to do: longer lists are cut short, and -o json has them all.
const (
	mostConditions = 8
	mostPending    = 5
	mostAddresses  = 6 // of a path
	mostGateways   = 2 // of a path
	mostOthers     = 8 // endpoints on no path
	mostIgnored    = 8 // groups of links with one reason
)

type statusPage struct {
	*page
	doc  *status.Document
	told map[int]bool // links whose traffic was told
}

func (t *statusPage) since(at time.Time) string { return age(t.doc.Time.Sub(at)) }

var stateColours = map[status.State]colour{status.Converged: green, status.Converging: yellow, status.Failing: red}

func (t *statusPage) headline() {
	d := t.doc
	t.label(0, string(d.State), 0, stateColours[d.State], t.verdict())
	fact := "subflowd " + d.Daemon.Version + " for " + t.since(d.Daemon.Started)
	if c := d.LastChange; c != nil {
		fact += "; last change " + t.since(c.Time) + " ago"
	}
	t.facts(fact)
	if d.MPTCP.Present {
		t.facts(t.limits())
	}
}

func (t *statusPage) facts(text string) {
	for _, l := range wrap(clean(text), width) {
		t.line(l)
	}
}

// verdict is the sentence that most people look for.
func (t *statusPage) verdict() string {
	d := t.doc
	links := d.Links()
	var s string
	switch {
	case d.LastRound.Started == nil && len(d.Paths) == 0:
		return "nothing has been read yet"
	case len(links) == 0:
		s = "no link is a path"
	case len(links) == 1:
		s = "one link is a path: " + links[0]
	default:
		s = fmt.Sprintf("%d links are paths: %s", len(links), strings.Join(links, ", "))
	}
	switch {
	case !d.MPTCP.Present:
		s += "; for routing only, the kernel has no Multipath TCP"
	case !d.MPTCP.Enabled:
		s += "; for routing only, Multipath TCP is switched off"
	case d.MPTCP.UserspacePM:
		s += "; another path manager decides about subflows"
	}
	return s
}

func (t *statusPage) limits() string {
	l := t.doc.Limits
	s := fmt.Sprintf("limits: subflows %d, add_addr_accepted %d", l.Current.Subflows, l.Current.AddAddrAccepted)
	if w := l.Wanted; w != nil && *w != l.Current {
		s += fmt.Sprintf(" (wanted: %d, %d)", w.Subflows, w.AddAddrAccepted)
	}
	if l.MaxEndpoints > 0 {
		present := 0
		for _, e := range t.doc.Endpoints {
			if e.ID != 0 {
				present++
			}
		}
		s += fmt.Sprintf("; endpoints: %d of %d", present, l.MaxEndpoints)
	}
	return s
}

var severityColours = map[status.Severity]colour{status.Error: red, status.Warning: yellow, status.Info: plain}

func (t *statusPage) conditions(head string, keep func(status.Condition) bool) {
	list := slices.DeleteFunc(slices.Clone(t.doc.Conditions), func(c status.Condition) bool { return !keep(c) })
	if len(list) == 0 {
		return
	}
	t.head(head)
	for i, c := range list {
		if i == mostConditions {
			t.line(fmt.Sprintf("  and %d more: subflowctl status -o json", len(list)-i))
			break
		}
		text := c.Object
		if !c.Since.IsZero() {
			text += " (" + t.since(c.Since) + ")"
		}
		t.label(2, string(c.Severity), 9, severityColours[c.Severity], text+": "+c.Text)
		if c.Remedy != "" {
			t.label(11, "do:", 0, bold, c.Remedy)
		}
	}
}

func (t *statusPage) pending() {
	if len(t.doc.Pending) == 0 {
		return
	}
	t.head("Still to do")
	for i, c := range t.doc.Pending {
		if i == mostPending {
			t.line(fmt.Sprintf("  and %d more: subflowctl plan", len(t.doc.Pending)-i))
			break
		}
		t.label(2, "-", 2, plain, c.Command)
		if c.Error != "" {
			text := fmt.Sprintf("%s (%s in %s", c.Error, count(c.Tries, "try", "tries"), t.since(c.Since))
			if c.Next != nil {
				text += ", next in " + age(c.Next.Sub(t.doc.Time))
			}
			t.label(4, "refused:", 0, red, text+")")
		}
	}
}

func (t *statusPage) contentions() {
	if len(t.doc.Contentions) == 0 {
		return
	}
	t.head("Undone by somebody else")
	for _, c := range t.doc.Contentions {
		text := fmt.Sprintf("%s in %s", count(c.Count, "time", "times"), t.since(c.Since))
		if c.PauseSeconds > 0 {
			text += ", the next repair waits " + age(time.Duration(c.PauseSeconds*float64(time.Second)))
		}
		t.label(2, c.Object+":", 0, yellow, text)
	}
}
