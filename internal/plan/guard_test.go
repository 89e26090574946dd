package plan

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/netstate"
)

const withTunnel = twoSubnets + `
link 9 tun0 kind tun p2p
addr 10.8.0.2/24 dev tun0
endpoint 10.1.1.2 dev eth0 id 1 subflow
limits subflows 2 add_addr_accepted 4
`

func TestGuard(t *testing.T) {
	ours := owned(netstate.Endpoint{Addr: netip.MustParseAddr("10.1.1.2"), Link: 2, ID: 1})
	for _, c := range []planCase{
		{name: "full tunnel", have: withTunnel + "outbound 4 tun0 tun0", mod: ours, want: `
			endpoint 10.1.1.2 dev eth0 subflow
			limits subflows 0 add_addr_accepted 0
			finding vpn-guard tun0`},
		{name: "OpenVPN in the kernel", have: strings.ReplaceAll(withTunnel, "kind tun", "kind ovpn") + "outbound 4 tun0 tun0", mod: ours, want: `
			endpoint 10.1.1.2 dev eth0 subflow
			limits subflows 0 add_addr_accepted 0
			finding vpn-guard tun0`},
		{name: "IPv6 only", have: withTunnel + "outbound 4 eth0 eth0\noutbound 6 tun0 tun0", mod: ours, want: `
			endpoint 10.1.1.2 dev eth0 subflow
			limits subflows 0 add_addr_accepted 0
			finding vpn-guard tun0`},
		{name: "split tunnel", have: withTunnel + "outbound 4 tun0 eth0", mod: ours, want: `
			rule 32765: from 10.1.1.2 lookup main suppress_prefixlength 0 proto 77
			rule 32765: from 10.1.1.2 lookup 100002 proto 77
			rule 32765: from 10.1.2.2 lookup main suppress_prefixlength 0 proto 77
			rule 32765: from 10.1.2.2 lookup 100003 proto 77
			endpoint 10.1.1.2 dev eth0 subflow
			endpoint 10.1.2.2 dev eth1 subflow
			limits subflows 2 add_addr_accepted 4`},
		{
			name: "backup", have: withTunnel + "outbound 4 tun0 tun0", only: []string{"endpoint", "limits", "finding"},
			mod: func(in *Input) { ours(in); in.Config.VPN = config.VPNBackup }, want: `
			endpoint 10.1.1.2 dev eth0 subflow backup
			endpoint 10.1.2.2 dev eth1 subflow backup
			limits subflows 2 add_addr_accepted 4
			finding vpn-backup tun0`,
		},
		{
			name: "ignore", have: withTunnel + "outbound 4 tun0 tun0", only: []string{"endpoint", "finding"},
			mod: func(in *Input) { ours(in); in.Config.VPN = config.VPNIgnore }, want: `
			endpoint 10.1.1.2 dev eth0 subflow
			endpoint 10.1.2.2 dev eth1 subflow
			finding vpn-ignored tun0`,
		},
		{
			name: "over again: limits as found", have: withTunnel + "outbound 4 eth0 eth0\nlimits subflows 0 add_addr_accepted 0", only: []string{"limits"},
			mod: func(in *Input) {
				ours(in)
				in.Owned.LimitsFound, in.Owned.LimitsSet = &netstate.Limits{Subflows: 5}, &netstate.Limits{}
			}, want: "limits subflows 5 add_addr_accepted 4",
		},
		{
			name: "over again: kept limits come back", have: withTunnel + "outbound 4 eth0 eth0\nlimits subflows 0 add_addr_accepted 0", only: []string{"limits"},
			mod: func(in *Input) {
				ours(in)
				in.Config.Limits.Mode = config.LimitsKeep
				in.Owned.LimitsFound, in.Owned.LimitsSet = &netstate.Limits{Subflows: 5}, &netstate.Limits{}
			}, want: "limits subflows 5 add_addr_accepted 0",
		},
	} {
		if c.only == nil {
			c.only = []string{"rule", "endpoint", "limits", "finding"}
		}
		t.Run(c.name, c.run)
	}
}
