package plan

import (
	"slices"
	"strings"

	"github.com/subflowd/subflowd/internal/health"
	"github.com/subflowd/subflowd/internal/netstate"
)

const silentReason = "the probe's target answers over other paths, and not over this one"

// silent tells whether the probe's target does not answer over a path, and does
// over another one that can take its place: one with carrier and with an
// endpoint. With none the path is as good as any.
func (b *builder) silent(u *uplink) bool {
	if u.State != Live || b.in.Reach[u.key()] != health.Silent {
		return false
	}
	return slices.ContainsFunc(b.uplinks, func(o *uplink) bool {
		return o.Family == u.Family && b.in.Reach[o.key()] == health.Answers && o.Probe.IsValid()
	})
}

// wane takes the endpoints of a silent path out of the plan. While one is in
// the kernel it is backup, which moves the traffic of its subflows.
func (b *builder) wane(u *uplink, es []Endpoint) {
	u.Backup = true
	u.explain(silentReason)
	for _, e := range es {
		e.Flags |= netstate.BackupFlag
		e.Reason = silentReason
		b.plan.Waning = append(b.plan.Waning, e)
	}
}

// reportProbe names the silent paths by link, and a target that answers over
// no path of a family.
func (b *builder) reportProbe() {
	silent := map[string][]string{}
	var links []string
	for _, u := range b.uplinks {
		if !b.silent(u) || b.plan.Guard.Withdraws() {
			continue
		}
		if silent[u.Name] == nil {
			links = append(links, u.Name)
		}
		silent[u.Name] = append(silent[u.Name], u.Family.String())
	}
	for _, name := range links {
		b.find(Warning, "path-silent", name,
			"does not reach the probe's target by "+strings.Join(silent[name], " and ")+", as other links do; nothing new uses it, and what does is backup",
			"see what is behind its gateway: subflowctl probe "+b.in.Config.Probe.Target)
	}
	var down []string
	for _, f := range netstate.Families {
		if slices.ContainsFunc(b.uplinks, func(u *uplink) bool { return u.Family == f && b.in.Reach[u.key()] == health.Down }) {
			down = append(down, f.String())
		}
	}
	if len(down) > 0 {
		b.find(Warning, "probe-unanswered", "probe.target",
			b.in.Config.Probe.Target+" answers over no path by "+strings.Join(down, " and ")+"; no path is changed for it",
			"name a target that is always there")
	}
}
