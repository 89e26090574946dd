package diff

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/netstate/iptext"
	"github.com/subflowd/subflowd/internal/plan"
)

const links = `
link 1 lo loopback
link 2 eth0
link 3 eth1
link 4 docker0
`

// planOf reads a plan from the lines of the state that it wants. The rules of
// one address are one set, in their order.
func planOf(t testing.TB, text string) *plan.Plan {
	t.Helper()
	s, err := iptext.Snapshot(links + "norules\n" + text)
	if err != nil {
		t.Fatal(err)
	}
	p := &plan.Plan{LiveAddrs: map[netip.Addr]bool{}}
	for _, r := range s.Routes {
		p.Routes = append(p.Routes, plan.Route{Route: r, Reason: "test"})
	}
	sets := map[netip.Addr]int{}
	for _, r := range s.Rules {
		ip := r.From.Addr()
		if _, ok := sets[ip]; !ok {
			sets[ip] = len(p.RuleSets)
			p.RuleSets = append(p.RuleSets, plan.RuleSet{Family: r.Family, Addr: ip, Reason: "test"})
		}
		set := &p.RuleSets[sets[ip]]
		set.Rules = append(set.Rules, r)
	}
	for _, e := range s.Endpoints {
		p.Endpoints = append(p.Endpoints, plan.Endpoint{Endpoint: e, Reason: "test"})
	}
	if strings.Contains(text, "limits") {
		p.Limits = &s.Limits
	}
	return p
}

// owned reads what the record names as ours.
func owned(t testing.TB, text string) netstate.Ownership {
	t.Helper()
	o := netstate.Ownership{Known: true, Endpoints: map[netip.Addr]netstate.Endpoint{}}
	s, err := iptext.Snapshot(links + text)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range s.Endpoints {
		o.Endpoints[e.Addr] = e
	}
	return o
}

type diffCase struct {
	name     string
	have     string // what the kernel holds
	want     string // the plan
	waning   string // endpoints that are to go
	owned    string // endpoints of the record
	unknown  bool   // there is no record
	takeOver bool

	up, gone, down string // wanted changes; gone: unwanted endpoints
	findings       string // codes with severity
}

func (c diffCase) run(t *testing.T) {
	in := Input{
		Snapshot: iptext.MustSnapshot(links + c.have),
		Plan:     planOf(t, c.want),
		Owned:    owned(t, c.owned),
		Routing:  config.Default().Routing,
	}
	in.Plan.Waning = planOf(t, c.waning).Endpoints
	if c.unknown {
		in.Owned = netstate.Ownership{}
	}
	if c.takeOver {
		in.Foreign = config.ForeignTakeOver
	}
	out := Diff(in)
	names := in.Snapshot.Names()
	var gone, findings strings.Builder
	for _, u := range out.Unwanted {
		gone.WriteString(u.Endpoint.Text(names) + "\n")
		if u.Reason == "" {
			t.Errorf("%s goes without a reason", u.Endpoint)
		}
	}
	for _, f := range out.Findings {
		findings.WriteString(string(f.Severity) + " " + f.Code + " " + f.Object + "\n")
		if f.Text == "" {
			t.Errorf("finding %s has no text", f.Code)
		}
	}
	for _, x := range []struct{ what, want, found string }{
		{"up", c.up, changesText(t, out.Up, names)},
		{"unwanted", c.gone, gone.String()},
		{"down", c.down, changesText(t, out.Down, names)},
		{"findings", c.findings, findings.String()},
	} {
		if d := cmp.Diff(trim(x.want), trim(x.found)); d != "" {
			t.Errorf("%s (-wanted +found):\n%s", x.what, d)
		}
	}
}

func changesText(t *testing.T, list []netstate.Change, n netstate.Names) string {
	var b strings.Builder
	for _, c := range list {
		b.WriteString(c.Text(n) + "\n")
		if c.Reason == "" {
			t.Errorf("%q has no reason", c.Text(n))
		}
	}
	return b.String()
}

// trim takes indentation and blank lines away.
func trim(s string) []string {
	var out []string
	for _, l := range strings.Split(s, "\n") {
		if l = strings.TrimSpace(l); l != "" {
			out = append(out, l)
		}
	}
	return out
}

func runAll(t *testing.T, cases []diffCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, c.run)
	}
}

func TestOrder(t *testing.T) {
	runAll(t, []diffCase{{
		name: "all at once, routes before rules before limits before endpoints",
		want: `
			route default via 10.1.1.1 dev eth0 table 100002 proto 77 metric 100
			route 10.1.1.0/24 dev eth0 table 100002 proto 77
			route throw 10.1.1.128/25 table 100002 proto 77
			route default via fe80::1 dev eth0 table 100002 proto 77
			rule 32765: from 10.1.1.2 lookup main suppress_prefixlength 0 proto 77
			rule 32765: from 10.1.1.2 lookup 100002 proto 77
			limits subflows 2 add_addr_accepted 4
			endpoint 10.1.1.2 dev eth0 subflow`,
		have: `
			route default via 10.1.2.1 dev eth1 table 100003 proto 77
			route 10.1.2.0/24 dev eth1 table 100003 proto 77
			rule 32765: from 10.1.2.2 lookup main suppress_prefixlength 0 proto 77
			rule 32765: from 10.1.2.2 lookup 100003 proto 77
			endpoint 10.1.2.2 dev eth1 id 4 subflow`,
		owned: `endpoint 10.1.2.2 dev eth1 id 4`,
		up: `
			ip -4 route add throw 10.1.1.128/25 table 100002 proto 77
			ip -4 route add 10.1.1.0/24 dev eth0 table 100002 proto 77
			ip -4 route add default via 10.1.1.1 dev eth0 table 100002 proto 77 metric 100
			ip -6 route add default via fe80::1 dev eth0 table 100002 proto 77 metric 1024
			ip -4 rule add from 10.1.1.2 lookup main suppress_prefixlength 0 priority 32765 proto 77
			ip -4 rule add from 10.1.1.2 lookup 100002 priority 32765 proto 77
			ip mptcp limits set subflows 2 add_addr_accepted 4
			ip mptcp endpoint add 10.1.1.2 dev eth0 subflow`,
		gone: `10.1.2.2 dev eth1 id 4 subflow`,
		down: `
			ip -4 rule del from 10.1.2.2 lookup 100003 priority 32765 proto 77
			ip -4 rule del from 10.1.2.2 lookup main suppress_prefixlength 0 priority 32765 proto 77
			ip -4 route del default via 10.1.2.1 dev eth1 table 100003 proto 77
			ip -4 route del 10.1.2.0/24 dev eth1 table 100003 proto 77`,
	}, {
		name: "nothing to do",
		have: `
			route default via 10.1.1.1 dev eth0 table 100002 proto 77 linkdown
			rule 32765: from 10.1.1.2 lookup main suppress_prefixlength 0 proto 77
			rule 32765: from 10.1.1.2 lookup 100002 proto 77
			limits subflows 2 add_addr_accepted 4
			endpoint 10.1.1.2 dev eth0 id 9 subflow`,
		want: `
			route default via 10.1.1.1 dev eth0 table 100002 proto 77
			rule 32765: from 10.1.1.2 lookup main suppress_prefixlength 0 proto 77
			rule 32765: from 10.1.1.2 lookup 100002 proto 77
			limits subflows 2 add_addr_accepted 4
			endpoint 10.1.1.2 dev eth0 subflow`,
		owned: `endpoint 10.1.1.2 dev eth0 id 9`,
	}, {
		name: "no path manager: routing alone",
		have: "mptcp absent\nlimits subflows 0 add_addr_accepted 0",
		want: `
			limits subflows 2 add_addr_accepted 4
			endpoint 10.1.1.2 dev eth0 subflow`,
	}})
}
