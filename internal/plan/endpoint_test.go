package plan

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/netstate/iptext"
)

const oneLink = `
link 2 eth0
route 10.1.1.0/24 dev eth0 proto kernel
route default via 10.1.1.1 dev eth0
`

const oneLink6 = `
link 2 eth0
route 2001:db8::/64 dev eth0 proto kernel
route default via fe80::1 dev eth0
`

// owned says that the record names these endpoints as ours.
func owned(eps ...netstate.Endpoint) func(*Input) {
	return func(in *Input) {
		in.Owned = netstate.Ownership{Known: true, Endpoints: map[netip.Addr]netstate.Endpoint{}}
		for _, e := range eps {
			in.Owned.Endpoints[e.Addr] = e
		}
	}
}

func TestAddressChoice(t *testing.T) {
	for _, c := range []planCase{
		{
			name: "the kernel's choice", have: oneLink + "addr 10.1.1.2/24 dev eth0\naddr 10.1.1.3/24 dev eth0 secondary\npreferred 10.1.1.3 dev eth0",
			want: "endpoint 10.1.1.3 dev eth0 subflow",
		},
		{
			name: "the kernel's choice is on another link: src", have: oneLink + "addr 10.1.1.2/24 dev eth0\naddr 10.1.1.3/24 dev eth0\nroute default via 10.1.1.9 dev eth0 metric 5 src 10.1.1.3\npreferred 10.9.9.9 dev eth0",
			want: "endpoint 10.1.1.3 dev eth0 subflow",
		},
		{
			name: "first usable, no link-local", have: oneLink + "addr 169.254.3.4/16 dev eth0\naddr 10.1.1.2/24 dev eth0",
			want: "endpoint 10.1.1.2 dev eth0 subflow",
		},
		{
			name: "none whose scope keeps it to the link", have: oneLink + "addr 10.1.1.3/24 dev eth0 scope link\naddr 10.1.1.2/24 dev eth0",
			want: "endpoint 10.1.1.2 dev eth0 subflow",
		},
		{
			name: "not deprecated before deprecated, global before unique-local", have: oneLink6 +
				"addr fd00::2/64 dev eth0\naddr 2001:db8::2/64 dev eth0 deprecated\naddr 2001:db8::3/64 dev eth0",
			want: "endpoint 2001:db8::3 dev eth0 subflow",
		},
		{
			name: "unique-local alone", have: oneLink6 + "addr fd00::2/64 dev eth0\naddr fe80::2/64 dev eth0",
			want: "endpoint fd00::2 dev eth0 subflow",
		},
		{
			name: "point-to-point: the local address", have: "link 2 ppp0 kind ppp p2p\naddr 10.64.1.2 peer 10.64.64.64 dev ppp0\nroute default dev ppp0",
			want: "endpoint 10.64.1.2 dev ppp0 subflow",
		},
		{
			name: "an endpoint of ours stays", have: oneLink6 + "addr 2001:db8::2/64 dev eth0 temporary\naddr 2001:db8::3/64 dev eth0 temporary\npreferred 2001:db8::3 dev eth0\nendpoint 2001:db8::2 dev eth0 id 4 subflow",
			mod:  owned(netstate.Endpoint{Addr: netip.MustParseAddr("2001:db8::2"), Link: 2, ID: 4}),
			want: "endpoint 2001:db8::2 dev eth0 subflow",
		},
		{
			name: "until it is deprecated", have: oneLink6 + "addr 2001:db8::2/64 dev eth0 temporary deprecated\naddr 2001:db8::3/64 dev eth0 temporary\npreferred 2001:db8::3 dev eth0\nendpoint 2001:db8::2 dev eth0 id 4 subflow",
			mod:  owned(netstate.Endpoint{Addr: netip.MustParseAddr("2001:db8::2"), Link: 2, ID: 4}),
			want: "endpoint 2001:db8::3 dev eth0 subflow",
		},
		{
			name: "a unique-local one yields to a global one that came later", have: oneLink6 + "addr fd00::2/64 dev eth0\naddr 2001:db8::3/64 dev eth0\npreferred 2001:db8::3 dev eth0\nendpoint fd00::2 dev eth0 id 4 subflow",
			mod:  owned(netstate.Endpoint{Addr: netip.MustParseAddr("fd00::2"), Link: 2, ID: 4}),
			want: "endpoint 2001:db8::3 dev eth0 subflow",
		},
		{
			name: "unless the host prefers it", have: oneLink6 + "addr fd00::2/64 dev eth0\naddr 2001:db8::3/64 dev eth0\npreferred fd00::2 dev eth0\nendpoint fd00::2 dev eth0 id 4 subflow",
			mod:  owned(netstate.Endpoint{Addr: netip.MustParseAddr("fd00::2"), Link: 2, ID: 4}),
			want: "endpoint fd00::2 dev eth0 subflow",
		},
		{
			name: "a stable one yields to a temporary one that came later", have: oneLink6 + "addr 2001:db8::2/64 dev eth0\naddr 2001:db8::3/64 dev eth0 temporary\npreferred 2001:db8::3 dev eth0\nendpoint 2001:db8::2 dev eth0 id 4 subflow",
			mod:  owned(netstate.Endpoint{Addr: netip.MustParseAddr("2001:db8::2"), Link: 2, ID: 4}),
			want: "endpoint 2001:db8::3 dev eth0 subflow",
		},
		{
			name: "unless the host has use_tempaddr at 1", have: oneLink6 + "addr 2001:db8::2/64 dev eth0\naddr 2001:db8::3/64 dev eth0 temporary\npreferred 2001:db8::2 dev eth0\nendpoint 2001:db8::2 dev eth0 id 4 subflow",
			mod:  owned(netstate.Endpoint{Addr: netip.MustParseAddr("2001:db8::2"), Link: 2, ID: 4}),
			want: "endpoint 2001:db8::2 dev eth0 subflow",
		},
		{
			name: "a foreign endpoint satisfies", have: oneLink + "addr 10.1.1.2/24 dev eth0\naddr 10.1.1.3/24 dev eth0\npreferred 10.1.1.2 dev eth0\nendpoint 10.1.1.3 dev eth0 id 9 signal",
			want: "endpoint 10.1.1.3 dev eth0 subflow",
		},
		{
			name: "all addresses", have: oneLink + "addr 10.1.1.2/24 dev eth0\naddr 10.1.1.3/24 dev eth0\npreferred 10.1.1.3 dev eth0",
			mod:  func(in *Input) { in.Config.Links = []config.LinkEntry{{Addresses: ptr(config.AddressesAll)}} },
			want: "endpoint 10.1.1.3 dev eth0 subflow\nendpoint 10.1.1.2 dev eth0 subflow",
		},
		{
			name: "cellular is backup", have: "link 2 wwan0 type wwan\naddr 10.1.1.2/24 dev wwan0\nroute default via 10.1.1.1 dev wwan0",
			want: "endpoint 10.1.1.2 dev wwan0 subflow backup",
		},
		{
			name: "the same address on two links", have: twoSubnets + "addr 10.1.1.2/24 dev eth1",
			want: "endpoint 10.1.1.2 dev eth0 subflow\nendpoint 10.1.2.2 dev eth1 subflow\nfinding same-address 10.1.1.2",
		},
		{
			name: "server: private beside public", have: twoSubnets + "addr 198.51.100.7/24 dev eth0",
			mod:  func(in *Input) { in.Config.Role = config.RoleServer },
			want: "endpoint 198.51.100.7 dev eth0 signal",
		},
		{
			name: "server: fullmesh is left out, and said to be", have: oneLink + "addr 10.1.1.2/24 dev eth0",
			mod: func(in *Input) {
				in.Config.Role, in.Config.Links = config.RoleServer, []config.LinkEntry{{Fullmesh: ptr(true)}}
			},
			want: "endpoint 10.1.1.2 dev eth0 signal\nfinding no-fullmesh eth0",
		},
		{name: "no kernel support", have: twoSubnets + "mptcp absent", want: "finding mptcp-absent kernel"},
		{name: "switched off", have: oneLink + "addr 10.1.1.2/24 dev eth0\nmptcp disabled", want: "endpoint 10.1.1.2 dev eth0 subflow\nfinding mptcp-disabled kernel"},
	} {
		c.only = []string{"endpoint", "finding"}
		t.Run(c.name, c.run)
	}
}

func ptr[T any](v T) *T { return &v }

func TestSlots(t *testing.T) {
	var b strings.Builder
	b.WriteString("link 2 eth0\nlink 3 eth1\n")
	for i := range 12 {
		fmt.Fprintf(&b, "addr 10.1.1.%d/24 dev eth0\n", i+10)
	}
	b.WriteString("addr 10.1.2.2/24 dev eth1\nroute default via 10.1.1.1 dev eth0 metric 1\nroute default via 10.1.2.1 dev eth1 metric 2\n")
	b.WriteString("mptcp slots 4\nendpoint 10.1.1.20 dev eth0 id 1 subflow\nendpoint 192.0.2.1 id 7 signal\n")
	planCase{
		have: b.String(), only: []string{"endpoint", "limits"},
		mod: func(in *Input) {
			owned(netstate.Endpoint{Addr: netip.MustParseAddr("10.1.1.20"), Link: 2, ID: 1})(in)
			in.Config.Links = []config.LinkEntry{{Name: "eth0", Addresses: ptr(config.AddressesAll)}}
		}, want: `
			endpoint 10.1.1.20 dev eth0 subflow
			endpoint 10.1.2.2 dev eth1 subflow
			endpoint 10.1.1.10 dev eth0 subflow
			limits subflows 4 add_addr_accepted 4`,
	}.run(t)
}

func TestLimits(t *testing.T) {
	for _, c := range []planCase{
		{
			name: "numbers of an earlier configuration go, what was there before them comes back", have: twoSubnets + "limits subflows 1 add_addr_accepted 0",
			mod: func(in *Input) {
				in.Owned.LimitsFound, in.Owned.LimitsSet = &netstate.Limits{Subflows: 7, AddAddrAccepted: 5}, &netstate.Limits{Subflows: 1}
			},
			want: "limits subflows 7 add_addr_accepted 5",
		},
		{name: "never lowered", have: twoSubnets + "limits subflows 7 add_addr_accepted 8", want: "limits subflows 7 add_addr_accepted 8"},
		{
			name: "the server accepts no addresses", have: twoSubnets, mod: func(in *Input) { in.Config.Role = config.RoleServer },
			want: "limits subflows 2 add_addr_accepted 0",
		},
		{name: "keep", have: twoSubnets, mod: func(in *Input) { in.Config.Limits.Mode = config.LimitsKeep }, want: ""},
		{
			name: "numbers, at most the maximum", have: twoSubnets, want: "limits subflows 8 add_addr_accepted 1\nfinding limits-capped limits",
			mod: func(in *Input) {
				in.Config.Limits = config.Limits{Mode: config.LimitsFixed, Values: netstate.Limits{Subflows: 99, AddAddrAccepted: 1}}
			},
		},
	} {
		c.only = []string{"limits", "finding"}
		t.Run(c.name, c.run)
	}
}

// Equal input gives an equal plan, whatever the order in which links are listed.
func TestDesiredIsAFunction(t *testing.T) {
	for _, have := range []string{twoSubnets, oneSubnet} {
		var first string
		for range 20 {
			c := planCase{have: have}
			snap := iptext.MustSnapshot(c.have)
			got := text(Desired(Input{Config: config.Default(), Snapshot: snap}), snap.Names())
			if first == "" {
				first = got
			}
			if got != first {
				t.Fatalf("two plans of one snapshot\n%s\n---\n%s", first, got)
			}
			snap.Links[0], snap.Links[1] = snap.Links[1], snap.Links[0]
			if swapped := text(Desired(Input{Config: config.Default(), Snapshot: snap}), snap.Names()); swapped != first {
				t.Fatalf("the order of links matters\n%s\n---\n%s", first, swapped)
			}
		}
	}
}
