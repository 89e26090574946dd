package cli

import (
	"fmt"
	"time"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/kernel"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
	"github.com/subflowd/subflowd/internal/probe"
	"github.com/subflowd/subflowd/pkg/status"
)

// localPaths finds the paths as the daemon would, with its default
// configuration.
func (a *app) localPaths(o *probe.Options) error {
	cfg := config.Default()
	var snap *netstate.Snapshot
	err := inNamespace(cfg, netstate.Ownership{}, func(k *kernel.Kernel) (err error) {
		snap, err = k.Occupied()
		return err
	})
	if err != nil {
		return localError(err)
	}
	for _, e := range snap.Endpoints {
		if e.Flags&netstate.SubflowFlag != 0 && e.Port == 0 {
			x := probe.Endpoint{Addr: e.Addr}
			if e.Link != 0 {
				x.Link = snap.Names().Name(e.Link)
			}
			o.Endpoints = append(o.Endpoints, x)
		}
	}
	wish := plan.Desired(plan.Input{Config: cfg, Snapshot: snap})
	if wish.Guard.Withdraws() {
		o.Tunnel = wish.Guard.Name
	}
	for _, p := range wish.Paths {
		if p.State != plan.Live {
			continue
		}
		// Without the daemon's rules the link alone is chosen: its default route
		// brings its own source.
		o.Paths = append(o.Paths, probe.Path{Link: p.Name, Family: p.Family})
	}
	return nil
}

// probeText is the verdict, and behind it what it is drawn from.
func probeText(r *status.ProbeReport, colours bool) string {
	p := &page{colours: colours}
	word, c := "works", green
	if !r.OK {
		word, c = "no", red
	}
	for i, s := range r.Verdict {
		if i > 0 {
			word = ""
		}
		p.label(0, word, 7, c, s)
	}
	for _, f := range r.Families {
		p.head(familyWord(f.Family) + " to " + clean(f.Address))
		attemptTable(p, f)
	}
	return p.b.String()
}

// attempt is a line of the table: one connection or one join.
type attempt struct {
	what, link, source string
	outcome            status.ProbeOutcome
	handshake, data    float64 // in seconds
}

func attempts(f status.ProbeFamily) []attempt {
	c := f.Connection
	out := []attempt{{"unbound", c.Link, c.Source, c.Outcome, c.HandshakeSeconds, c.EchoSeconds}}
	for _, j := range f.Joins {
		out = append(out, attempt{"  join", j.Link, j.Source, j.Outcome, j.HandshakeSeconds, 0})
	}
	for _, x := range f.Paths {
		out = append(out, attempt{"bound", x.Link, x.Source, x.Outcome, x.HandshakeSeconds, x.EchoSeconds})
	}
	return out
}

// attemptTable has a line for each attempt; the address stands for a link that
// is not known.
func attemptTable(p *page, f status.ProbeFamily) {
	all := attempts(f)
	column := len("LINK")
	for i := range all {
		if all[i].link == "" {
			all[i].link = all[i].source
		}
		column = max(column, len(clean(all[i].link)))
	}
	column = min(column, 35) // the rest is 45 wide
	p.line("           " + fit("LINK", column) + "  " + fit("OUTCOME", outcomeWidth) + "  HANDSHAKE      DATA")
	for _, x := range all {
		c := red
		if x.outcome == status.ProbeMPTCP || x.outcome == status.ProbeJoined {
			c = green
		}
		p.line("  " + fit(x.what, 7) + "  " + fit(clean(x.link), column) + "  " + p.paint(c, fit(string(x.outcome), outcomeWidth)) + "  " +
			left(milliseconds(x.handshake), 9) + left(milliseconds(x.data), 10))
	}
}

// outcomeWidth is that of the longest outcome.
const outcomeWidth = len(status.ProbeUnreachable)

// milliseconds is a time in the unit that round trips are told in; empty: none.
func milliseconds(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d == 0:
		return ""
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.2f ms", d.Seconds()*1000)
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", d.Seconds()*1000)
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
