package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/subflowd/subflowd/test/lab"
)

// answer is where the kernel sends a packet: "dev eth0 via 10.1.1.1 src 10.1.1.2", or its refusal. Without "from" it is
// that of connect(2), which asks again with the source that the first answer gave.
func answer(h *lab.Host, lookup string) string {
	out, err := h.TryIP("route get " + lookup)
	if err != nil {
		return "refused"
	}
	w := strings.Fields(strings.SplitN(out, "\n", 2)[0])
	value := func(key string) string {
		for i := 1; i < len(w); i++ {
			if w[i-1] == key {
				return w[i]
			}
		}
		return ""
	}
	if src := value("src"); src != "" && !strings.Contains(lookup, " from ") {
		return src + " " + answer(h, lookup+" from "+src)
	}
	return fmt.Sprintf("%s dev %s via %s", w[0], value("dev"), value("via"))
}

// TestOddHosts lists hosts whose own routes and rules decide more than two default routes do. What works without the
// daemon goes the same way beside it: by the kernel's answers before and after.
func TestOddHosts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		opts  []lab.Option
		setup []string
		same  []string // lookups of ip route get
	}{
		{
			name: "a second address with a table and a gateway of its own",
			setup: []string{
				"addr add 10.1.7.2/24 dev eth0", "route add default via 10.1.7.1 dev eth0 table 7",
				"route add 10.5.0.0/16 via 10.1.7.9 dev eth0 table 7", "rule add from 10.1.7.2 lookup 7",
			},
			same: []string{"10.9.0.2", "10.9.0.2 from 10.1.1.2", "10.9.0.2 from 10.1.7.2", "10.5.0.1", "10.5.0.1 from 10.1.1.2"},
		},
		{
			name: "an address of the local network beside one with a table", opts: []lab.Option{lab.NoDefault("eth1")},
			setup: []string{"addr add 10.1.7.2/24 dev eth1", "route add default via 10.1.7.1 dev eth1 table 7", "rule add from 10.1.7.2 lookup 7"},
			same:  []string{"10.9.0.2", "10.9.0.2 from 10.1.2.2", "10.9.0.2 from 10.1.7.2", "10.1.2.9 from 10.1.2.2"},
		},
		{
			name:  "a table behind main",
			setup: []string{"route add default via 10.1.1.9 dev eth0 table 7", "rule add pref 32766 lookup 7"},
			same:  []string{"10.9.0.2", "10.9.0.2 from 10.1.1.2"},
		},
		{
			name: "the script with tables 1 and 2", opts: []lab.Option{lab.NoDefault("eth1")},
			setup: []string{
				"route add 10.1.1.0/24 dev eth0 src 10.1.1.2 table 1", "route add default via 10.1.1.9 table 1", "rule add from 10.1.1.2 table 1",
				"route add 10.1.2.0/24 dev eth1 src 10.1.2.2 table 2", "route add default via 10.1.2.9 table 2", "rule add from 10.1.2.2 table 2",
			},
			same: []string{"10.9.0.2", "10.9.0.2 from 10.1.1.2", "10.9.0.2 from 10.1.2.2", "10.1.1.7 from 10.1.2.2"},
		},
		{
			name: "everything in a table for everybody", opts: []lab.Option{lab.NoDefault("eth0"), lab.NoDefault("eth1")},
			setup: []string{
				"link add docker0 type bridge", "link set docker0 up", "addr add 172.17.0.1/16 dev docker0", "route flush table main",
				"route add 10.1.1.0/24 dev eth0 table 7", "route add 10.1.2.0/24 dev eth1 table 7", "route add 172.17.0.0/16 dev docker0 table 7",
				"route add default via 10.1.1.1 dev eth0 metric 100 table 7", "route add default via 10.1.2.1 dev eth1 metric 200 table 7",
				"rule add pref 40000 lookup 7",
			},
			same: []string{"10.9.0.2", "10.9.0.2 from 10.1.1.2", "172.17.0.5 from 10.1.1.2", "172.17.0.5 from 10.1.2.2", "10.1.1.7 from 10.1.2.2"},
		},
		{
			name: "main moved before ours", setup: []string{"rule add pref 1000 lookup main", "rule del pref 32766"},
			same: []string{"10.9.0.2", "10.9.0.2 from 10.1.1.2", "10.9.0.2 from 10.1.2.2"},
		},
		{
			name:  "unbound traffic with the address of the other link",
			setup: []string{"route replace default via 10.1.1.1 dev eth0 metric 100 src 10.1.2.2"},
			same:  []string{"10.9.0.2", "10.9.0.2 from 10.1.1.2"},
		},
		{
			name:  "an address that its scope keeps to the link, by which unbound traffic goes",
			setup: []string{"addr flush dev eth1", "addr add 10.1.2.2/24 dev eth1 scope link", "route add default via 10.1.2.1 dev eth1 metric 50"},
			same:  []string{"10.9.0.2", "10.9.0.2 from 10.1.2.2", "10.1.2.9"},
		},
		{
			name:  "an address that its scope keeps to the link, on the first link",
			setup: []string{"addr flush dev eth0", "addr add 10.1.1.2/24 dev eth0 scope link", "route add default via 10.1.1.1 dev eth0 metric 100"},
			same:  []string{"10.9.0.2", "10.9.0.2 from 10.1.1.2", "10.1.1.9"},
		},
		{
			name: "a default for some sources beside one for all", opts: []lab.Option{lab.IPv6Only()},
			setup: []string{"addr add 2001:db8:7::2/64 dev eth0 nodad", "route add default from 2001:db8:7::/64 via fe80::7 dev eth0 metric 50"},
			same:  []string{"2001:db8:9::2", "2001:db8:9::2 from 2001:db8:1::2", "2001:db8:9::2 from 2001:db8:7::2"},
		},
		{
			name: "gateways outside of the prefix", opts: []lab.Option{lab.NoDefault("eth0"), lab.NoDefault("eth1")},
			setup: []string{"addr flush dev eth0", "addr add 10.1.1.2/32 dev eth0", "route add default via 172.31.1.1 dev eth0 onlink metric 100"},
			same:  []string{"10.9.0.2", "10.9.0.2 from 10.1.1.2", "10.1.2.9 from 10.1.1.2"},
		},
		{
			name:  "blackholes",
			setup: []string{"route add blackhole 10.0.0.0/8", "route add unreachable 172.16.0.0/12", "route add blackhole default metric 5000"},
			same:  []string{"192.0.2.1", "192.0.2.1 from 10.1.1.2", "10.200.0.1 from 10.1.2.2", "172.20.0.1 from 10.1.1.2", "172.20.0.1"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := lab.TwoSubnets(t, c.opts...)
			n.Client.IP(c.setup...)
			before := n.Client.Settled()
			ways := make([]string, len(c.same))
			for i, l := range c.same {
				ways[i] = answer(n.Client, l)
			}
			d := n.Client.Daemon()
			settled(d)
			if len(n.Client.Endpoints()) == 0 {
				t.Error("no path was found")
			}
			for i, l := range c.same {
				if w := answer(n.Client, l); w != ways[i] {
					t.Errorf("%s: was %s, is %s", l, ways[i], w)
				}
			}
			d.Stop()
			cleanup(n.Client)
			n.Client.WantSnapshot(before)
		})
	}
}
