package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/subflowd/subflowd/internal/check"
	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/control"
	"github.com/subflowd/subflowd/internal/kernel"
	"github.com/subflowd/subflowd/internal/kernel/inspect"
	"github.com/subflowd/subflowd/internal/plan"
	"github.com/subflowd/subflowd/pkg/status"
)

func (a *app) checkCommand() *cobra.Command {
	return command("check", "what keeps Multipath TCP from working on this host",
		`Looks for everything on this host that keeps Multipath TCP from working, errors
first, each with what was seen, what follows from it, and what to do; and which
services take Multipath TCP.

Works without the daemon, and changes nothing. Without privilege some things
cannot be seen, firewall rules for one; it says which.

Exit status: 0 no errors, though there may be warnings; 1 at least one error.`, a.check)
}

func (a *app) check() error {
	doc, err := a.examine()
	if err != nil {
		return err
	}
	if a.format == formatJSON {
		err = a.printJSON(doc)
	} else {
		a.out.WriteString(checkText(doc, a.coloured()))
	}
	if err != nil {
		return err
	}
	for _, f := range doc.Findings {
		if f.Severity == status.Error {
			return &exitError{code: ExitNo, err: errSilent}
		}
	}
	return nil
}

// examine asks the daemon of this namespace, if there is one, and looks at the
// kernel with its configuration; else with the one that it would start with.
func (a *app) examine() (*status.Checked, error) {
	daemon := a.daemonHere()
	file := ""
	if daemon != nil && len(daemon.Daemon.Config) > 0 {
		file = daemon.Daemon.Config[0]
	}
	cfg, configError := config.Default(), ""
	if loaded, _, err := config.Load(file); err == nil {
		cfg = loaded
	} else if daemon == nil {
		configError, _, _ = strings.Cut(err.Error(), "\n")
	}
	cookie := namespace()
	owned, unusable, err := localRecord(a.runtimeDir(), cookie)
	if err != nil {
		return nil, err
	}
	doc := &status.Checked{Namespace: cookie, Daemon: daemon != nil}
	err = inNamespace(cfg, owned, func(k *kernel.Kernel) error {
		facts, unseen, err := inspect.Gather(inspect.Input{Config: cfg, Owned: owned, Kernel: k})
		if err != nil {
			return err
		}
		facts.ConfigError = configError
		if daemon == nil && facts.Runs(check.Subflowd) {
			unseen = append(unseen, inspect.Unseen{What: daemonUnseen, Why: "it runs and does not answer at " + a.socket})
		}
		facts.Daemon = daemonFacts(daemon)
		switch {
		case unusable == nil || daemon != nil: // the daemon has its own
		case errors.Is(unusable, fs.ErrPermission):
			unseen = append(unseen, inspect.Unseen{What: "the record of what subflowd made", Why: "permission denied"})
		default:
			facts.RecordError = unusable.Error()
		}
		services, more, err := inspect.Services()
		if err != nil {
			return err
		}
		doc.Services = services
		for _, u := range append(unseen, more...) {
			doc.Unseen = append(doc.Unseen, status.Unseen{What: u.What, Reason: u.Why})
		}
		for _, f := range check.Look(facts) {
			doc.Findings = append(doc.Findings, status.CheckFinding{
				Code: f.Code, Severity: status.Severity(f.Severity), Object: f.Object, Text: f.Text,
				Evidence: f.Evidence, Consequence: f.Consequence, Remedy: f.Remedy,
			})
		}
		doc.Links = check.PathLinks(facts.Plan)
		return nil
	})
	if err != nil {
		return nil, localError(err)
	}
	return doc, nil
}

// daemonUnseen is what is not seen of a daemon that does not answer.
const daemonUnseen = "what subflowd says"

// daemonHere is what the daemon of this network namespace says; nil: there is
// none that answers.
func (a *app) daemonHere() *status.Document {
	var doc status.Document
	if _, err := a.client().get(control.PathStatus, &doc); err != nil || elsewhere(doc.Daemon.Namespace) {
		return nil
	}
	return &doc
}

func daemonFacts(d *status.Document) *check.Daemon {
	if d == nil {
		return nil
	}
	out := &check.Daemon{Converged: d.State == status.Converged, Lingering: map[netip.Addr]bool{}, Overflows: d.Counters.Overflows}
	if last := d.Counters.LastOverflow; last != nil {
		out.SinceOverflow = d.Time.Sub(*last)
	}
	for _, c := range d.Conditions {
		out.Conditions = append(out.Conditions, plan.Finding{Code: c.Code, Severity: plan.Severity(c.Severity), Object: c.Object, Text: c.Text, Remedy: c.Remedy})
	}
	for _, e := range d.Endpoints {
		if ip, err := netip.ParseAddr(e.Address); err == nil && e.State == status.Lingering {
			out.Lingering[ip] = true
		}
	}
	return out
}

// One screen has to do.
const (
	mostFindings = 6 // beside errors, which are all shown
	mostServices = 8 // of each kind
)

// checkText is the screen of `subflowctl check`.
func checkText(d *status.Checked, colours bool) string {
	p := &page{colours: colours}
	p.verdict(d)
	shown := 0
	for _, f := range d.Findings {
		if f.Severity != status.Error && shown >= mostFindings {
			p.line("")
			p.line(fmt.Sprintf("and %d more: subflowctl -o json check", len(d.Findings)-shown))
			break
		}
		shown++
		p.line("")
		p.finding(f)
	}
	p.services(d.Services)
	if len(d.Unseen) > 0 {
		p.head("Not looked at")
		for _, u := range d.Unseen {
			p.label(2, "-", 2, plain, u.What+": "+u.Reason)
		}
	}
	return p.b.String()
}

// verdict is the first line, and the only one where all is well.
func (p *page) verdict(d *status.Checked) {
	var parts []string
	worst := green
	for _, s := range []struct {
		severity  status.Severity
		one, many string
	}{{status.Error, "error", "errors"}, {status.Warning, "warning", "warnings"}, {status.Info, "note", "notes"}} {
		n := 0
		for _, f := range d.Findings {
			if f.Severity == s.severity {
				n++
			}
		}
		if n > 0 {
			parts = append(parts, count(n, s.one, s.many))
			if worst == green && s.severity != status.Info {
				worst = severityColours[s.severity]
			}
		}
	}
	text := "nothing found"
	if len(parts) > 0 {
		text = strings.Join(parts, ", ")
	}
	rest := "links that are paths: " + orNone(d.Links)
	if !d.Daemon && !mentioned(d) {
		rest = "no subflowd runs here; " + rest
	}
	p.label(0, text, 0, worst, rest)
}

// mentioned tells whether the text says further down that no daemon is there, or
// that it does not answer.
func mentioned(d *status.Checked) bool {
	return slices.ContainsFunc(d.Unseen, func(u status.Unseen) bool { return u.What == daemonUnseen }) ||
		slices.ContainsFunc(d.Findings, func(f status.CheckFinding) bool { return f.Code == "daemon-absent" })
}

// finding says what, what was seen, what follows, and what to do. Of a note the
// last is enough.
func (p *page) finding(f status.CheckFinding) {
	p.label(0, string(f.Severity), 9, severityColours[f.Severity], f.Object+": "+f.Text)
	if f.Severity != status.Info {
		for _, e := range f.Evidence {
			p.label(9, "seen:", 7, plain, e)
		}
		if f.Consequence != "" {
			p.label(9, "so:", 7, plain, f.Consequence)
		}
	}
	if f.Remedy != "" {
		p.label(9, "do:", 7, bold, f.Remedy)
	}
}

// services names those that wait for connections, by what they speak.
func (p *page) services(all []status.Service) {
	if len(all) == 0 {
		return
	}
	p.head("Services")
	for _, kind := range []struct {
		mptcp bool
		label string
	}{{true, "Multipath TCP:"}, {false, "TCP alone:"}} {
		var names []string
		for _, s := range all {
			name := fmt.Sprintf("%s:%d", s.Program, s.Port)
			if s.Program == "" {
				name = fmt.Sprintf("port %d", s.Port)
			}
			if s.MPTCP == kind.mptcp && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		if more := len(names) - mostServices; more > 0 {
			names = append(names[:mostServices], fmt.Sprintf("and %d more", more))
		}
		if len(names) > 0 {
			p.label(2, kind.label, 16, plain, strings.Join(names, ", "))
		}
	}
}

// errSilent ends a command whose answer was "no" and has been printed.
var errSilent = errors.New("")
