package kernel

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/test/lab"
)

var testOptions = Options{Protocol: 77, TableBase: 100000}

func full() netstate.Hints { return netstate.Hints{Full: true, Kinds: netstate.KindAll} }

// inside opens the host's namespace and runs f on a thread in it.
func inside(t testing.TB, h *lab.Host, f func(k *Kernel)) {
	t.Helper()
	h.Do(func() {
		k, err := Open(testOptions)
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		f(k)
	})
}

func refresh(t testing.TB, k *Kernel, h netstate.Hints) *netstate.Snapshot {
	t.Helper()
	s, err := k.Refresh(h)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func apply(t testing.TB, k *Kernel, changes ...netstate.Change) {
	t.Helper()
	for i, err := range k.Apply(changes) {
		if err != nil {
			t.Errorf("%s: %v", changes[i], err)
		}
	}
}

// twoUplinks is a client with two uplinks, in two subnets.
func twoUplinks(t testing.TB) *lab.Host {
	l := lab.New(t)
	h, r := l.Host("client"), l.Host("router")
	lab.Veth(h, "eth0", r, "c0")
	lab.Veth(h, "eth1", r, "c1")
	h.IP("addr add 10.1.1.2/24 dev eth0", "addr add 10.1.2.2/24 dev eth1",
		"addr add 2001:db8:1::2/64 dev eth0 nodad", "addr add 2001:db8:2::2/64 dev eth1 nodad")
	return h
}

func linkNamed(t testing.TB, s *netstate.Snapshot, name string) netstate.Link {
	t.Helper()
	for _, l := range s.Links {
		if l.Name == name {
			return l
		}
	}
	t.Fatalf("no link %s", name)
	return netstate.Link{}
}

func lines(s string) []string {
	var out []string
	for l := range strings.Lines(s) {
		if l = strings.TrimSpace(l); l != "" {
			out = append(out, l)
		}
	}
	return out
}

func wantLines(t testing.TB, what, found string, want ...string) {
	t.Helper()
	got := lines(found)
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s\nwant:\n\t%s\nfound:\n\t%s", what, strings.Join(want, "\n\t"), strings.Join(got, "\n\t"))
	}
}

// ruleSet is what an address gets: the three rules with their order and marks.
func ruleSet(addr netip.Addr, table uint32) []netstate.Rule {
	rule := netstate.Rule{
		Family: netstate.FamilyOf(addr), Priority: 32765, From: netip.PrefixFrom(addr, addr.BitLen()),
		Action: netstate.ActLookup, Table: table, Suppress: 0, Protocol: 78,
	}
	main, last := rule, rule
	main.Table, main.Protocol = netstate.TableMain, 77
	last.Suppress, last.Protocol = netstate.NoSuppress, 77
	return []netstate.Rule{rule, main, last}
}

func appendRules(rules []netstate.Rule) []netstate.Change {
	var out []netstate.Change
	for _, r := range rules {
		out = append(out, netstate.Change{Op: netstate.RuleAppend, Rule: r})
	}
	return out
}

func TestRulesAsIPShowsThem(t *testing.T) {
	t.Parallel()
	h := twoUplinks(t)
	inside(t, h, func(k *Kernel) {
		for _, addr := range []string{"10.1.1.2", "2001:db8:1::2"} {
			ip := netip.MustParseAddr(addr)
			set := ruleSet(ip, 100002)
			family := netstate.FamilyOf(ip).Flag()
			apply(t, k, appendRules(set)...)
			wantLines(t, "ip rule", h.IP(family+" rule show priority 32765"),
				"32765:\tfrom "+addr+" lookup 100002 suppress_prefixlength 0 proto 78",
				"32765:\tfrom "+addr+" lookup main suppress_prefixlength 0 proto 77",
				"32765:\tfrom "+addr+" lookup 100002 proto 77")
			// Exchanged: the new set behind the old one, which goes by its full key.
			apply(t, k, appendRules(ruleSet(ip, 100003))...)
			for _, r := range append(set, set[0]) { // what is gone is deleted
				apply(t, k, netstate.Change{Op: netstate.RuleDelete, Rule: r})
			}
			wantLines(t, "ip rule", h.IP(family+" rule show priority 32765"),
				"32765:\tfrom "+addr+" lookup 100003 suppress_prefixlength 0 proto 78",
				"32765:\tfrom "+addr+" lookup main suppress_prefixlength 0 proto 77",
				"32765:\tfrom "+addr+" lookup 100003 proto 77")
		}
		var shown []struct {
			Table    string
			Suppress *int `json:"suppress_prefixlen"`
		}
		h.JSON(&shown, "rule show priority 32765")
		if len(shown) != 3 {
			t.Fatalf("ip -j rule shows %d rules, want 3", len(shown))
		}
		for i, want := range []bool{true, true, false} {
			if got := shown[i].Suppress != nil; got != want {
				t.Errorf("ip -j rule: suppress_prefixlen of rule %d shown: %v, want %v", i, got, want)
			}
		}
	})
}
