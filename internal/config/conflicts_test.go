package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/subflowd/subflowd/internal/netstate/iptext"
)

const hostLinks = `
link 1 lo loopback
link 2 eth0
link 3 wlan0
route default via 10.1.1.1 dev eth0 metric 100 proto dhcp
route 10.1.1.0/24 dev eth0 proto kernel
`

// ours is what an earlier run left: tables 100002 and 100003 of protocol 77.
const ours = `
route default via 10.1.1.1 dev eth0 table 100002 proto 77 metric 100
route throw 10.1.1.128/25 table 100002 proto 77
route default via 10.1.2.1 dev wlan0 table 100003 proto 77 metric 600
rule 32765: from 10.1.1.2 lookup 100002 suppress_prefixlength 0 proto 78
rule 32765: from 10.1.1.2 lookup main suppress_prefixlength 0 proto 77
rule 32765: from 10.1.1.2 lookup 100002 proto 77
`

func TestConflicts(t *testing.T) {
	for _, c := range []struct {
		name, text, snapshot, want string
		running                    []uint8
	}{
		{name: "nothing there"},
		{name: "ours", snapshot: ours},
		{name: "tables of no link", snapshot: "route default via 10.1.1.9 dev eth0 table 100004 proto static\nrule 100: from all lookup 100000"},
		{
			name: "foreign route in a path table", snapshot: ours + "route 10.9.0.0/16 via 10.1.1.9 dev eth0 table 100003 proto static",
			want: "routing.table_base = 100000: table 100003 would be wlan0's, and others use it: route 10.9.0.0/16 via 10.1.1.9 dev eth0 table 100003 proto static",
		},
		{
			name: "foreign rule to a path table", text: "\nrouting.table_base = 2000", snapshot: "rule 100: from all fwmark 0x1 lookup 2002",
			want: "routing.table_base = 2000 (f.toml:2): table 2002 would be eth0's, and others use it: rule from all fwmark 0x1 lookup 2002 priority 100 proto boot",
		},
		{name: "earlier table base", text: "routing.table_base = 2000", snapshot: ours},
		{
			name: "earlier protocol", text: "routing.protocol = 90", snapshot: ours,
			want: "routing.table_base = 100000: table 100002 would be eth0's, and others use it: route default via 10.1.1.1 dev eth0 table 100002 proto 77 metric 100\n" +
				"routing.table_base = 100000: table 100003 would be wlan0's, and others use it: route default via 10.1.2.1 dev wlan0 table 100003 proto 77 metric 600",
		},
		{name: "protocol of the daemon that runs", text: "routing.protocol = 90", snapshot: ours, running: []uint8{77}},
		{name: "protocol next to that of the daemon that runs", text: "routing.protocol = 78", snapshot: ours, running: []uint8{77}},
		{
			name: "protocol of a route", text: "routing.protocol = 90", snapshot: "route 10.9.0.0/16 via 10.1.1.9 dev eth0 proto 90\nroute 10.8.0.0/16 via 10.1.1.9 dev eth0 proto 90",
			want: "routing.protocol = 90 (f.toml:1): others use protocol 90: route 10.9.0.0/16 via 10.1.1.9 dev eth0 proto 90",
		},
		{
			name: "protocol of a route in a low table", snapshot: "route 10.9.0.0/16 via 10.1.1.9 dev eth0 table 500 proto 77",
			want: "routing.protocol = 77: others use protocol 77: route 10.9.0.0/16 via 10.1.1.9 dev eth0 table 500 proto 77",
		},
		{
			name: "next protocol of a rule", snapshot: "rule 100: from 10.0.0.0/8 lookup 500 proto 78",
			want: "routing.protocol = 77: others use protocol 78: rule from 10.0.0.0/8 lookup 500 priority 100 proto 78",
		},
		{
			name: "protocol of a rule with a mark", snapshot: "rule 100: from 10.1.1.2 fwmark 0x1 lookup 500 proto 77",
			want: "routing.protocol = 77: others use protocol 77: rule from 10.1.1.2 fwmark 0x1 lookup 500 priority 100 proto 77",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			conf, err := readText(c.text)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(conf.Conflicts(iptext.MustSnapshot(hostLinks+c.snapshot), c.running...), "\n")
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
