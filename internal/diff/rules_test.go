package diff

import "testing"

// The three rules of the first address, and a fourth for strict.
const (
	r1 = "rule 32765: from 10.1.1.2 lookup 100002 suppress_prefixlength 0 proto 78\n"
	r2 = "rule 32765: from 10.1.1.2 lookup main suppress_prefixlength 0 proto 77\n"
	r3 = "rule 32765: from 10.1.1.2 lookup 100002 proto 77\n"
	r4 = "rule 32765: from 10.1.1.2 unreachable proto 77\n"

	add1 = "ip -4 rule add from 10.1.1.2 lookup 100002 suppress_prefixlength 0 priority 32765 proto 78\n"
	add2 = "ip -4 rule add from 10.1.1.2 lookup main suppress_prefixlength 0 priority 32765 proto 77\n"
	add3 = "ip -4 rule add from 10.1.1.2 lookup 100002 priority 32765 proto 77\n"
	add4 = "ip -4 rule add from 10.1.1.2 unreachable priority 32765 proto 77\n"

	del1 = "ip -4 rule del from 10.1.1.2 lookup 100002 suppress_prefixlength 0 priority 32765 proto 78\n"
	del2 = "ip -4 rule del from 10.1.1.2 lookup main suppress_prefixlength 0 priority 32765 proto 77\n"
	del3 = "ip -4 rule del from 10.1.1.2 lookup 100002 priority 32765 proto 77\n"
	del4 = "ip -4 rule del from 10.1.1.2 unreachable priority 32765 proto 77\n"
)

func TestRulesOfOneAddress(t *testing.T) {
	const (
		old1 = "rule 32765: from 10.1.1.2 lookup 100003 suppress_prefixlength 0 proto 78\n"
		old3 = "rule 32765: from 10.1.1.2 lookup 100003 proto 77\n"
		del9 = "ip -4 rule del from 10.1.1.2 lookup 100003 priority 32765 proto 77\n"
		del8 = "ip -4 rule del from 10.1.1.2 lookup 100003 suppress_prefixlength 0 priority 32765 proto 78\n"
	)
	runAll(t, []diffCase{
		{name: "none there", want: r1 + r2 + r3 + r4, up: add1 + add2 + add3 + add4},
		{name: "equal", have: r2 + r3, want: r2 + r3},
		{name: "a beginning is completed", have: r1 + r2, want: r1 + r2 + r3, up: add3},
		{name: "the guard takes the third", have: r1 + r2 + r3, want: r1 + r2, up: del3},
		{name: "strict begins", have: r2 + r3, want: r2 + r3 + r4, up: add4},
		{name: "strict ends", have: r2 + r3 + r4, want: r2 + r3, up: del4},
		{name: "one subnet ends", have: r1 + r2 + r3, want: r2 + r3, up: del1},
		{name: "one subnet begins", have: r2 + r3, want: r1 + r2 + r3, up: add1 + add2 + add3 + del3 + del2},
		{name: "main's default becomes an error route", have: r1 + r2 + r3, want: r1 + r3, up: del2},
		{name: "and back", have: r1 + r3, want: r1 + r2 + r3, up: add1 + add2 + add3 + del3 + del1},
		{name: "another link", have: old1 + r2 + old3, want: r1 + r2 + r3, up: add1 + add2 + add3 + del9 + del2 + del8},
		{name: "another link, strict: unreachable goes before the third", have: r2 + old3 + r4, want: r2 + r3 + r4, up: add2 + add3 + add4 + del4 + del9 + del2},
		{name: "wrong order", have: r3 + r2, want: r2 + r3, up: add3 + del3},
		{name: "main's routes behind the path table", have: r3 + r1 + r2, want: r1 + r2 + r3, up: add3 + del3},
		{name: "duplicates", have: r2 + r3 + r2 + r3 + r3, want: r2 + r3, up: del3 + del3 + del2},
		{name: "duplicates in order", have: r2 + r3 + r2 + r3, want: r2 + r3, up: del3 + del2},
		{name: "an exchange that was cut short", have: r1 + r2 + old3 + r1 + r2, want: r1 + r2 + r3, up: add3 + del9 + del2 + del1},
		{name: "an exchange whose deletes were cut short", have: r1 + r2 + r1 + r2 + r3, want: r1 + r2 + r3, up: del2 + del1},
		{name: "no longer wanted", have: r1 + r2 + r3 + r4, down: del4 + del3 + del2 + del1},
		{
			name: "another priority",
			have: "rule 1000: from 10.1.1.2 lookup main suppress_prefixlength 0 proto 77\nrule 1000: from 10.1.1.2 lookup 100002 proto 77\n",
			want: r2 + r3,
			up: add2 + add3 + `
				ip -4 rule del from 10.1.1.2 lookup 100002 priority 1000 proto 77
				ip -4 rule del from 10.1.1.2 lookup main suppress_prefixlength 0 priority 1000 proto 77`,
		},
	})
}

func TestBarrier(t *testing.T) {
	const foreign = "rule 32765: from all lookup local\n"
	runAll(t, []diffCase{
		{name: "a foreign rule before ours", have: foreign + r2 + r3, want: r2 + r3},
		{name: "a foreign rule behind ours", have: r2 + r3 + foreign, want: r2 + r3, up: add2 + add3 + del3 + del2},
		{name: "a foreign rule among ours", have: r2 + foreign + r3, want: r2 + r3, up: add2 + add3 + del3 + del2},
		{name: "a beginning before it", have: r2 + foreign, want: r2 + r3, up: add2 + add3 + del2},
		{name: "half of the exchange is done", have: r2 + r3 + foreign + r2, want: r2 + r3, up: add3 + del3 + del2},
		{name: "a foreign rule of the other family", have: r2 + r3 + "rule6 32765: from all lookup 51\n", want: r2 + r3},
		{name: "a foreign rule of another priority", have: r2 + r3 + "rule 32764: from all fwmark 0x1 lookup 51\n", want: r2 + r3},
		{name: "with our protocol but another selector it is foreign", have: r2 + r3 + "rule 32765: from 10.9.9.9 iif eth0 lookup 51 proto 77\n", want: r2 + r3, up: add2 + add3 + del3 + del2},
		{
			name: "every address passes it",
			have: r2 + r3 + `
				rule 32765: from 10.1.2.2 lookup main suppress_prefixlength 0 proto 77
				rule 32765: from 10.1.2.2 lookup 100003 proto 77
				rule 32765: from all fwmark 0x1 lookup 51`,
			want: r2 + r3 + `
				rule 32765: from 10.1.2.2 lookup main suppress_prefixlength 0 proto 77
				rule 32765: from 10.1.2.2 lookup 100003 proto 77`,
			up: add2 + add3 + del3 + del2 + `
				ip -4 rule add from 10.1.2.2 lookup main suppress_prefixlength 0 priority 32765 proto 77
				ip -4 rule add from 10.1.2.2 lookup 100003 priority 32765 proto 77
				ip -4 rule del from 10.1.2.2 lookup 100003 priority 32765 proto 77
				ip -4 rule del from 10.1.2.2 lookup main suppress_prefixlength 0 priority 32765 proto 77`,
		},
		{
			name:     "local cannot be passed: no rules at all",
			have:     "norules\n" + r2 + r3 + "rule 32766: from all lookup main\nrule 33000: from all lookup local\n",
			want:     r2 + r3,
			down:     del3 + del2,
			findings: "error local-rule-behind IPv4",
		},
		{
			name: "local twice, once before ours",
			have: r2 + r3 + "rule 33000: from all lookup local\n",
			want: r2 + r3,
		},
	})
}

// A delete takes the first rule that has all that its key names, so a rule
// with more in it can be in the way.
func TestDeleteHitsWhatIsMeant(t *testing.T) {
	const wide = "rule 32765: from 10.1.1.2 lookup 100002 suppress_prefixlength 0 proto 77\n"
	const delWide = "ip -4 rule del from 10.1.1.2 lookup 100002 suppress_prefixlength 0 priority 32765 proto 77\n"
	runAll(t, []diffCase{
		{name: "a rule of ours with a suppressor goes by its own key first", have: wide + r2 + r3, down: delWide + del3 + del2},
		{name: "and by its own key alone", have: wide + r2 + r3, want: r2 + r3, up: delWide},
		{
			name:     "a foreign rule is never hit",
			have:     "rule 32765: from 10.1.1.2 fwmark 0x1 lookup 100002 proto 77\n" + r2 + r3,
			down:     del2,
			findings: "warning foreign-rule 10.1.1.2",
		},
	})
}

func TestBothFamilies(t *testing.T) {
	runAll(t, []diffCase{{
		name: "IPv4 first, then IPv6",
		want: `
			rule 32765: from 2001:db8::2 lookup main suppress_prefixlength 0 proto 77
			rule 32765: from 2001:db8::2 lookup 100002 proto 77
			` + r2 + r3,
		up: add2 + add3 + `
			ip -6 rule add from 2001:db8::2 lookup main suppress_prefixlength 0 priority 32765 proto 77
			ip -6 rule add from 2001:db8::2 lookup 100002 priority 32765 proto 77`,
	}})
}
