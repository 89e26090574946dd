package lab

import (
	"strings"
	"testing"
)

// TestUplinks gives both hosts of the standard topologies, by hand, what a daemon should give them.
func TestUplinks(t *testing.T) {
	for name, topology := range map[string]func(testing.TB, ...Option) *Net{"two subnets": TwoSubnets, "one subnet": OneSubnet} {
		for family, opt := range map[string]Option{"fixed": IPv6(), "advertised": SLAAC()} {
			t.Run(name+" "+family, func(t *testing.T) {
				t.Parallel()
				n := topology(t, opt, ArpIgnore())
				before := n.Client.Settled()
				if err := n.CheckUplinks("subflow", n.A, n.B); err == nil {
					t.Fatal("an untouched host passes for a finished one")
				}
				for i, p := range []*Path{n.A, n.B} {
					table := []string{"101", "102"}[i]
					n.sourceRules(p, table)
				}
				n.Client.must(n.CheckUplinks("subflow", n.A, n.B))
				if err := n.CheckUplinks("subflow", n.B); err == nil {
					t.Error("an endpoint too many is not found")
				}
				for _, c := range []string{"-4 rule del pref 1000", "-6 rule del pref 1000"} {
					for _, err := n.Client.TryIP(c); err == nil; _, err = n.Client.TryIP(c) {
					}
				}
				for _, c := range []string{
					"-4 route flush table 101", "-4 route flush table 102",
					"-6 route flush table 101", "-6 route flush table 102", "mptcp endpoint flush",
				} {
					n.Client.IP(c)
				}
				n.Client.WantSnapshot(before)
			})
		}
	}
}

func (n *Net) sourceRules(p *Path, table string) {
	n.T.Helper()
	n.Client.IP("route add default via "+p.Gateway+" dev "+p.Dev+" table "+table,
		"rule add from "+p.Addr+" lookup "+table+" pref 1000",
		"mptcp endpoint add "+p.Addr+" dev "+p.Dev+" subflow",
		"mptcp endpoint add "+p.preferred6()+" dev "+p.Dev+" subflow")
	n.Client.IP("route add "+p.Addr[:strings.LastIndexByte(p.Addr, '.')]+".0/24 dev "+p.Dev+" table "+table,
		"-6 route add "+p.Prefix6+" dev "+p.Dev+" table "+table)
	via := p.Gateway6
	if n.RA != nil {
		via = n.Router.linkLocal(p.routerDev)
	}
	n.Client.IP("-6 route add default via " + via + " dev " + p.Dev + " table " + table)
	for _, temporary := range []bool{true, false} {
		for _, a := range n.Client.Addrs6(p.Dev, temporary) {
			n.Client.IP("-6 rule add from " + a + " lookup " + table + " pref 1000")
		}
	}
}
