package diff

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
)

// noBarrier is the position before all rules.
const noBarrier = -1

// chain is what matters of the rules of one family.
type chain struct {
	family netstate.Family
	// barrier is the position of the last foreign rule of our priority. Ours
	// must come behind it: whatever rule anyone adds wins over ours.
	barrier int
	// hidden is a rule that leads to local at a priority behind ours while
	// none before ours does; nil: none.
	hidden *netstate.Rule
	rungs  map[netip.Addr][]rung
}

func (b *builder) rules() {
	for _, f := range netstate.Families {
		b.rulesOf(f)
	}
}

func (b *builder) rulesOf(f netstate.Family) {
	c := b.chain(f)
	sets := map[netip.Addr]plan.RuleSet{}
	for _, s := range b.Plan.RuleSets {
		if _, twice := sets[s.Addr]; s.Family == f && len(s.Rules) > 0 && !twice {
			sets[s.Addr] = s
		}
	}
	if c.hidden != nil && len(sets) > 0 {
		b.find(plan.Finding{
			Code: "local-rule-behind", Severity: plan.Error, Object: f.String(),
			Text: fmt.Sprintf("The rule %q leads to the host's own addresses and comes behind priority %d, so source rules would send that traffic out: there are none for %s.",
				c.hidden.Text(), b.Routing.Priority, f),
			Remedy: fmt.Sprintf("set routing.priority above %d, or the rule before it", c.hidden.Priority),
		})
		clear(sets)
	}
	for _, ip := range addrsOf(sets) {
		b.settleRules(c, ip, sets[ip])
	}
	for _, ip := range addrsOf(c.rungs) {
		if _, wanted := sets[ip]; wanted {
			continue
		}
		l := ladder{rungs: c.rungs[ip]}
		for i := range l.rungs {
			l.rungs[i].extra = l.rungs[i].ours
		}
		gone, stuck := l.deletes()
		b.stuck(ip, stuck)
		for _, r := range gone {
			b.downRules = append(b.downRules, netstate.Change{Op: netstate.RuleDelete, Rule: r, Reason: b.whyNoRules(ip)})
		}
	}
}

// settleRules leads the rules of one address to its set.
func (b *builder) settleRules(c *chain, ip netip.Addr, set plan.RuleSet) {
	add, gone, stuck := settle(c.rungs[ip], set.Rules, c.barrier, b.Routing.Priority)
	b.stuck(ip, stuck)
	for _, r := range add {
		b.up(netstate.Change{Op: netstate.RuleAppend, Rule: r, Reason: set.Reason})
	}
	if len(gone) == 0 {
		return
	}
	reason := fmt.Sprintf("%s has other rules now", ip)
	if len(add) > 0 {
		reason = fmt.Sprintf("the rules of %s were appended anew", ip)
	}
	for _, r := range gone {
		b.up(netstate.Change{Op: netstate.RuleDelete, Rule: r, Reason: reason})
	}
}

// chain reads the rules of one family.
func (b *builder) chain(f netstate.Family) *chain {
	c := &chain{family: f, barrier: noBarrier, rungs: map[netip.Addr][]rung{}}
	localBefore := false
	marks := append([]uint8{b.Routing.Protocol}, b.Owned.Protocols...)
	near := func(p uint8) bool { // a delete of ours may hit it
		return slices.ContainsFunc(marks, func(o uint8) bool { return p == o || p == o+1 })
	}
	for i, r := range b.Snapshot.Rules {
		if r.Family != f {
			continue
		}
		ours := b.Owned.OwnsRule(b.Routing.Protocol, r)
		if !ours && r.Priority == b.Routing.Priority {
			c.barrier = i
		}
		if r.Action == netstate.ActLookup && r.Table == netstate.TableLocal && !r.From.IsValid() && r.Others == "" {
			localBefore = localBefore || r.Priority <= b.Routing.Priority
			if r.Priority > b.Routing.Priority && !localBefore && c.hidden == nil {
				c.hidden = &b.Snapshot.Rules[i]
			}
		}
		if r.From.IsValid() && r.From.IsSingleIP() && near(r.Protocol) {
			ip := r.From.Addr()
			c.rungs[ip] = append(c.rungs[ip], rung{rule: r, at: i, ours: ours})
		}
	}
	return c
}

// stuck reports rules of ours that cannot be deleted, because the kernel would
// take somebody else's rule for them.
func (b *builder) stuck(ip netip.Addr, rules []netstate.Rule) {
	for _, r := range rules {
		b.find(plan.Finding{
			Code: "foreign-rule", Severity: plan.Warning, Object: ip.String(),
			Text: fmt.Sprintf("The rule %q should go, but a delete would take another program's rule that stands before it.", r.Text()),
		})
	}
}

func (b *builder) whyNoRules(ip netip.Addr) string {
	if a, ok := b.pathAddr(ip); ok && !a.Rules && a.Reason != "" {
		return a.Reason
	}
	return fmt.Sprintf("%s is a usable address of no path", ip)
}

func addrsOf[V any](m map[netip.Addr]V) []netip.Addr {
	out := make([]netip.Addr, 0, len(m))
	for ip := range m {
		out = append(out, ip)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}
