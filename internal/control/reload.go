package control

import (
	"errors"
	"slices"
	"strings"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/pkg/status"
)

// Loaded is how reading the configuration again went. At most one of the two is
// set; neither: it was taken.
type Loaded struct {
	// Err is why the files cannot be used: config.Problems, or another cause.
	Err error
	// Conflicts are numbers of the configuration that the running kernel shows in
	// the use of others.
	Conflicts []string
}

// Summary is the first cause and the number of the others in a line; empty: it
// was taken.
func (l Loaded) Summary() string {
	var ps config.Problems
	switch {
	case errors.As(l.Err, &ps):
		return ps.Summary()
	case l.Err != nil:
		return l.Err.Error()
	}
	for _, c := range l.Conflicts {
		ps = append(ps, &config.Problem{File: "running kernel", Text: c})
	}
	return ps.Summary()
}

// Lines are all causes, a line each.
func (l Loaded) Lines() []string {
	var ps config.Problems
	switch {
	case errors.As(l.Err, &ps):
		var out []string
		for _, p := range ps {
			out = append(out, p.Error())
		}
		return out
	case l.Err != nil:
		return []string{l.Err.Error()}
	}
	return slices.Clone(l.Conflicts)
}

func (l Loaded) document() status.Reloaded {
	out := status.Reloaded{Schema: status.Schema, Taken: l.Err == nil && len(l.Conflicts) == 0}
	var ps config.Problems
	switch {
	case errors.As(l.Err, &ps):
		out.Report = ps.Error()
		out.Problems = convert(ps, func(p *config.Problem) status.Problem {
			return status.Problem{File: p.File, Line: p.Line, Column: p.Column, Text: p.Text, Meant: p.Meant, Allowed: p.Allowed, Excerpt: p.Excerpt}
		})
	case !out.Taken:
		out.Report = strings.Join(l.Lines(), "\n")
		out.Problems = convert(l.Lines(), func(s string) status.Problem { return status.Problem{Text: s} })
	}
	return out
}
