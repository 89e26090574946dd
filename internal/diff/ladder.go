package diff

import (
	"cmp"
	"slices"

	"github.com/subflowd/subflowd/internal/netstate"
)

// rung is one rule of an address under one of our protocols.
type rung struct {
	rule  netstate.Rule
	at    int  // position in the family's rules
	ours  bool // else it is foreign but near enough to be hit by a delete
	extra bool // is to go
}

// ladder is the rules of one address in the kernel's order.
type ladder struct {
	rungs []rung
}

// settle finds what to append and then to delete so that the rules of one
// address become want, in its order, all behind the barrier.
//
// A rule can only be appended behind all of its priority, and a delete takes
// the first that matches. So whatever is kept must stand at the end already;
// else the whole set is appended anew before the old one goes.
func settle(rungs []rung, want []netstate.Rule, barrier int, priority uint32) (add, gone, stuck []netstate.Rule) {
	for _, keep := range []func([]rung, []netstate.Rule, int, uint32) (int, bool){keepLast, keepOverlap, keepNone} {
		l := ladder{rungs: slices.Clone(rungs)}
		n, ok := keep(l.rungs, want, barrier, priority)
		if !ok {
			continue
		}
		for _, r := range want[n:] {
			l.append(rung{rule: r, ours: true})
		}
		if gone, stuck, ok = l.deletesAll(); ok {
			return want[n:], gone, stuck
		}
	}
	return nil, nil, nil
}

// keepLast keeps the last of each wanted rule, if these stand in the wanted
// order: then deletes alone do.
func keepLast(rungs []rung, want []netstate.Rule, barrier int, _ uint32) (int, bool) {
	n := len(want)
	need := map[netstate.Rule]int{}
	for _, r := range want {
		need[r]++
	}
	for i := len(rungs) - 1; i >= 0; i-- {
		g := &rungs[i]
		if g.ours && need[g.rule] > 0 {
			need[g.rule]--
			n--
			if want[n] != g.rule || g.at <= barrier {
				return 0, false
			}
			continue
		}
		g.extra = g.ours
	}
	return len(want), n == 0
}

// keepOverlap keeps the longest end of the rules that is a beginning of the
// wanted ones: what an exchange that was cut short has appended already.
func keepOverlap(rungs []rung, want []netstate.Rule, barrier int, priority uint32) (int, bool) {
	var tail []int
	for i := range rungs {
		g := &rungs[i]
		g.extra = g.ours
		if g.ours && g.rule.Priority == priority && g.at > barrier {
			tail = append(tail, i)
		}
	}
	for n := min(len(tail), len(want)); n > 0; n-- {
		end := tail[len(tail)-n:]
		if slices.EqualFunc(end, want[:n], func(i int, r netstate.Rule) bool { return rungs[i].rule == r }) {
			for _, i := range end {
				rungs[i].extra = false
			}
			return n, true
		}
	}
	return 0, false
}

func keepNone(rungs []rung, _ []netstate.Rule, _ int, _ uint32) (int, bool) {
	for i := range rungs {
		rungs[i].extra = rungs[i].ours
	}
	return 0, true
}

// append puts a rule behind all of its priority.
func (l *ladder) append(g rung) {
	i := len(l.rungs)
	for i > 0 && l.rungs[i-1].rule.Priority > g.rule.Priority {
		i--
	}
	l.rungs = slices.Insert(l.rungs, i, g)
}

// turn is the order in which rules go. Unreachable first: it must not be
// reached without the third rule before it. Then the third rules, which must
// not come first without main's specific routes before them; then the rest.
func turn(r netstate.Rule) int {
	switch {
	case r.Action != netstate.ActLookup:
		return 0
	case r.Suppress == netstate.NoSuppress:
		return 1
	case r.Table == netstate.TableMain:
		return 2
	}
	return 3
}

// deletes are the deletes of all extra rules in their order, and those extra
// rules that no delete can reach.
func (l *ladder) deletes() (gone, stuck []netstate.Rule) {
	gone, stuck, _ = l.deletesAll()
	return gone, stuck
}

// deletesAll is deletes that tells whether all rules to keep stay.
func (l *ladder) deletesAll() (gone, stuck []netstate.Rule, ok bool) {
	for {
		next := -1
		for i, g := range l.rungs {
			if g.extra && (next < 0 || cmp.Compare(turn(g.rule), turn(l.rungs[next].rule)) < 0) {
				next = i
			}
		}
		if next < 0 {
			return gone, stuck, true
		}
		hit := l.firstMatch(l.rungs[next].rule)
		for hit != next && l.rungs[hit].extra && l.rungs[hit].rule != l.rungs[next].rule {
			// A rule with one attribute more stands before the one that is
			// meant, and is to go as well: it goes first, by its own key.
			next = hit
			hit = l.firstMatch(l.rungs[next].rule)
		}
		switch {
		case l.rungs[hit].rule == l.rungs[next].rule && l.rungs[hit].extra:
			gone = append(gone, l.rungs[hit].rule)
			l.rungs = slices.Delete(l.rungs, hit, hit+1)
		case l.rungs[hit].ours:
			return gone, stuck, false
		default:
			stuck = append(stuck, l.rungs[next].rule)
			l.rungs[next].extra = false
		}
	}
}

// firstMatch is the rule that a delete of this key takes: what the key leaves
// out matches anything (rule_find, net/core/fib_rules.c). Each rule of the
// ladder matches its own key, so there is one.
func (l *ladder) firstMatch(key netstate.Rule) int {
	return slices.IndexFunc(l.rungs, func(g rung) bool { return matches(key, g.rule) })
}

func matches(key, r netstate.Rule) bool {
	return key.Priority == r.Priority && key.Protocol == r.Protocol && key.From == r.From && key.Action == r.Action &&
		(key.Table == 0 || key.Table == r.Table) &&
		(key.Suppress == netstate.NoSuppress || key.Suppress == r.Suppress)
}
