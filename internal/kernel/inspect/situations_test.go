package inspect

import (
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/subflowd/subflowd/internal/check"
	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/kernel"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
	"github.com/subflowd/subflowd/internal/record"
)

// twice is a rule that is added again without NLM_F_EXCL, as some programs do.
var twice = netstate.Rule{
	Family: netstate.IPv4, Priority: 500, From: netip.MustParsePrefix("10.5.5.5/32"), Action: netstate.ActLookup, Table: 301,
	Suppress: netstate.NoSuppress, Protocol: 99,
}

// situations are the faults of a host that can be taken back.
var situations = []situation{
	// The kernel.
	{
		code: "mptcp-absent", severity: plan.Error,
		// The running kernel has it: this is what internal/kernel reads where there
		// is no generic netlink family.
		inject: read(func(s *netstate.Snapshot) error {
			s.MPTCP, s.Endpoints, s.Limits = netstate.MPTCP{}, nil, netstate.Limits{}
			return nil
		}),
	},
	{
		code: "no-policy-routing", severity: plan.Error,
		// The running kernel has it: this is what internal/kernel makes of its
		// answer on one that has none (TestNoRules there).
		inject: read(func(*netstate.Snapshot) error { return fmt.Errorf("read rules: %w", kernel.ErrNoRules) }),
	},
	{
		code: "mptcp-disabled", severity: plan.Error,
		inject: sysctl("net.mptcp.enabled", "0"), undo: sysctl("net.mptcp.enabled", "1"),
	},
	{
		code: "mptcp-userspace-pm", severity: plan.Warning,
		inject: sysctl("net.mptcp.pm_type", "1"), undo: sysctl("net.mptcp.pm_type", "0"),
	},
	{
		code: "limits-low", severity: plan.Error, near: ip("mptcp limits set subflows 6 add_addr_accepted 5"),
		inject: ip("mptcp limits set subflows 0 add_addr_accepted 4"), undo: ip("mptcp limits set subflows 4 add_addr_accepted 4"),
	},
	{
		code: "limits-low", name: " for some", severity: plan.Warning,
		inject: ip("mptcp limits set subflows 1 add_addr_accepted 4"), undo: ip("mptcp limits set subflows 4 add_addr_accepted 4"),
	},
	{
		code: "limits-capped", severity: plan.Info,
		inject: func(w *world) {
			w.cfg.Limits = config.Limits{Mode: config.LimitsFixed, Values: netstate.Limits{Subflows: 200, AddAddrAccepted: 4}}
		},
	},
	{
		// Source rules make strict filtering harmless.
		code: "rp-filter", severity: plan.Error, object: "10.1.2.2",
		near:   sysctl("net.ipv4.conf.all.rp_filter", "1", "net.ipv4.conf.eth1.rp_filter", "1"),
		inject: ip("rule add from 10.1.2.2 lookup main pref 1000"),
		undo:   do(ip("rule del pref 1000"), sysctl("net.ipv4.conf.all.rp_filter", "0", "net.ipv4.conf.eth1.rp_filter", "0")),
	},
	{
		code: "accept-ra", severity: plan.Warning, object: "eth1",
		near: do(sysctl("net.ipv6.conf.eth1.accept_ra", "2", "net.ipv6.conf.eth1.forwarding", "1"),
			ip("-6 route del default dev eth1", "-6 route add default via 2001:db8:2::1 dev eth1 metric 200 proto ra")),
		inject: sysctl("net.ipv6.conf.eth1.accept_ra", "1"),
		undo: do(sysctl("net.ipv6.conf.eth1.forwarding", "0"),
			ip("-6 route del default dev eth1", "-6 route add default via 2001:db8:2::1 dev eth1 metric 200")),
	},
	{
		code: "arp-flux", severity: plan.Warning,
		near:   do(sysctl("net.ipv4.conf.all.arp_filter", "1"), ip("addr add 10.1.1.3/24 dev eth1")),
		inject: sysctl("net.ipv4.conf.all.arp_filter", "0"), undo: ip("addr del 10.1.1.3/24 dev eth1"),
	},
	{
		code: "nexthop-compat", severity: plan.Info,
		near:   ip("nexthop add id 7 via 10.1.2.1 dev eth1", "route add 10.77.0.0/16 nhid 7"),
		inject: sysctl("net.ipv4.nexthop_compat_mode", "0"),
		undo:   do(sysctl("net.ipv4.nexthop_compat_mode", "1"), ip("route del 10.77.0.0/16", "nexthop del id 7")),
	},

	// Routing.
	{
		// A bridge for containers and the like leads nowhere by intention.
		code: "no-default-route", severity: plan.Info, object: "eth2",
		near: ip("link add lan0 type bridge", "addr add 10.1.4.1/24 dev lan0", "link set lan0 up"),
		inject: func(w *world) {
			w.Client.IP("link add eth2 type veth peer name peer2", "link set eth2 up", "link set peer2 up", "addr add 10.1.3.2/24 dev eth2")
			w.Client.WaitCarrier("eth2", true)
		},
		undo: ip("link del eth2", "link del lan0"),
	},
	{
		code: "no-default-route", name: " beside one path", severity: plan.Warning, object: "eth1",
		inject: ip("route del default dev eth1", "-6 route del default dev eth1"),
		undo:   ip("route add default via 10.1.2.1 dev eth1 metric 200", "-6 route add default via 2001:db8:2::1 dev eth1 metric 200"),
	},
	{
		code: "wrong-link", severity: plan.Warning, object: "10.1.2.2",
		inject: func(w *world) {
			w.Client.IP(fmt.Sprintf("rule del from 10.1.2.2 lookup %d pref 32765 proto 77", w.table("eth1")))
		},
		undo: func(w *world) {
			w.Client.IP(fmt.Sprintf("rule add from 10.1.2.2 lookup %d pref 32765 proto 77", w.table("eth1")))
		},
	},
	{
		// A rule that leads the same way is somebody's own source routing.
		code: "rules-overruled", severity: plan.Warning, object: "10.1.2.2",
		near:   ip("rule add from 10.1.2.2 lookup 200 pref 1000", "route add default via 10.1.2.1 dev eth1 table 200"),
		inject: ip("route replace default via 10.1.1.1 dev eth0 table 200"),
		undo:   ip("rule del pref 1000", "route flush table 200"),
	},
	{
		code: "rules-overruled", name: " for subflows", severity: plan.Error, object: "10.1.2.2",
		inject: do(ip("rule add from 10.1.2.2 lookup 200 pref 1000", "route add default via 10.1.1.1 dev eth0 table 200"),
			func(w *world) { w.endpoint("10.1.2.2", "10.1.2.2 dev eth1 subflow signal") }),
		undo: do(ip("rule del pref 1000", "route flush table 200"), func(w *world) { w.endpoint("10.1.2.2", "10.1.2.2 dev eth1 subflow") }),
	},
	{
		// A rule that leaves main's default routes aside decides nothing here.
		code: "rules-overruled", name: " by main", severity: plan.Warning, object: "10.1.2.2",
		near:   ip("rule add from 10.1.2.2 lookup main suppress_prefixlength 0 pref 999"),
		inject: ip("rule add from 10.1.2.2 lookup main pref 1000"),
		undo:   ip("rule del pref 999", "rule del pref 1000"),
	},
	{
		code: "rules-overruled", name: " by an end", severity: plan.Error, object: "10.1.2.2",
		near:   ip("rule add from 10.1.3.0/24 blackhole pref 1000"),
		inject: ip("rule add from 10.1.2.0/24 blackhole pref 1001"),
		undo:   ip("rule del pref 1000", "rule del pref 1001"),
	},
	{
		code: "duplicate-rule", severity: plan.Warning,
		near:   func(w *world) { w.apply(netstate.Change{Op: netstate.RuleAppend, Rule: twice}) },
		inject: func(w *world) { w.apply(netstate.Change{Op: netstate.RuleAppend, Rule: twice}) },
		undo:   ip("rule del pref 500", "rule del pref 500"),
	},
	{
		code: "shadowed-rule", severity: plan.Warning,
		near:   ip("rule add from 10.5.5.5 lookup 301 pref 500", "rule add from 10.5.5.5 lookup 302 pref 501"),
		inject: ip("route add default via 10.1.1.1 dev eth0 table 301"),
		undo:   ip("rule del pref 500", "rule del pref 501", "route flush table 301"),
	},
	{
		code: "local-rule-behind", severity: plan.Error,
		near:   ip("rule add pref 32766 lookup local"),
		inject: ip("rule del pref 0"), undo: ip("rule add pref 0 lookup local", "rule del pref 32766 lookup local"),
	},
	{
		code: "error-default", severity: plan.Warning, near: ip("route add unreachable default metric 900"),
		inject: ip("route add unreachable default metric 1"),
		undo:   ip("route del unreachable default metric 1", "route del unreachable default metric 900"),
	},
	{
		code: "same-address", severity: plan.Warning, object: "10.1.1.2",
		inject: ip("addr add 10.1.1.2/32 dev eth1"), undo: ip("addr del 10.1.1.2/32 dev eth1"),
	},
	{
		code: "too-many-routes", severity: plan.Warning, object: "eth1",
		near: routes("add", 64), inject: routes("add", 1), undo: routes("del", 65),
	},
	{
		code: "foreign-rule", severity: plan.Warning, object: "10.6.6.6",
		near:   ip("rule add from 10.6.6.6 iif lo lookup 303 pref 32765 proto 77"),
		inject: ip("rule add from 10.6.6.6 lookup 303 pref 32765 proto 77"),
		undo:   ip("rule del from 10.6.6.6 iif lo lookup 303 pref 32765 proto 77", "rule del from 10.6.6.6 lookup 303 pref 32765 proto 77"),
	},
	{
		code: "foreign-route", severity: plan.Warning,
		inject: inTable("route replace default via 10.1.2.99 dev eth1 metric 200 proto static table %d"),
		undo:   inTable("route replace default via 10.1.2.1 dev eth1 metric 200 proto 77 table %d"),
	},
	{
		code: "table-in-use", severity: plan.Warning, object: "eth1",
		near:   ip("route add 10.66.0.0/16 dev eth1 table 400"),
		inject: inTable("route add 10.66.0.0/16 dev eth1 table %d"),
		undo:   do(inTable("route del 10.66.0.0/16 dev eth1 table %d"), ip("route flush table 400")),
	},
	{
		code: "numbers-in-use", severity: plan.Error,
		inject: inTable("rule add from 10.7.7.7 lookup %d pref 600"), undo: ip("rule del pref 600"),
	},
	{
		// A tunnel for some destinations is none for all.
		code: "vpn-guard", severity: plan.Info, object: "tun0",
		near:   do(func(w *world) { w.VPN() }, ip("route add 10.99.0.0/16 dev tun0")),
		inject: ip("route add default dev tun0 metric 1"), undo: ip("route del default dev tun0"),
	},
	{
		code: "vpn-backup", severity: plan.Info, object: "tun0",
		inject: do(ip("route add default dev tun0 metric 1"), func(w *world) { w.cfg.VPN = config.VPNBackup }),
		undo:   ip("route del default dev tun0"),
	},
	{
		code: "vpn-ignored", severity: plan.Info, object: "tun0",
		inject: do(ip("route add default dev tun0 metric 1"), func(w *world) { w.cfg.VPN = config.VPNIgnore }),
		undo:   ip("route del default dev tun0", "link del tun0"),
	},

	// The path manager.
	{
		code: "no-slot", severity: plan.Warning,
		inject: func(w *world) {
			w.Client.IP("mptcp endpoint flush")
			for i := range 8 {
				w.Client.IP(fmt.Sprintf("mptcp endpoint add 10.1.1.%d dev eth0 subflow", 50+i))
			}
		},
		undo: func(w *world) {
			w.Client.IP("mptcp endpoint flush")
			for _, p := range []string{"10.1.1.2 dev eth0", "10.1.2.2 dev eth1", "2001:db8:1::2 dev eth0", "2001:db8:2::2 dev eth1"} {
				w.Client.IP("mptcp endpoint add " + p + " subflow")
			}
		},
	},
	{
		code: "no-fullmesh", severity: plan.Warning,
		inject: func(w *world) {
			yes, both := true, config.RoleBoth
			w.cfg.Links = []config.LinkEntry{{Name: "eth1", Role: &both, Fullmesh: &yes}}
		},
	},
	{
		code: "foreign-endpoint", severity: plan.Warning, object: "10.1.2.2",
		inject: func(w *world) { w.endpoint("10.1.2.2", "10.1.2.2 subflow") },
		undo:   func(w *world) { w.endpoint("10.1.2.2", "10.1.2.2 dev eth1 subflow") },
	},
	{
		code: "endpoint-gone", severity: plan.Warning, object: "10.250.0.1",
		near:   ip("addr add 10.250.0.1/32 dev eth0", "mptcp endpoint add 10.250.0.1 dev eth0 subflow id 99"),
		inject: ip("addr del 10.250.0.1/32 dev eth0"), undo: ip("mptcp endpoint delete id 99"),
	},
	{
		code: "endpoint-gone", name: " from its link", severity: plan.Warning, object: "10.250.0.1",
		near:   ip("addr add 10.250.0.1/32 dev eth0", "mptcp endpoint add 10.250.0.1 dev eth0 subflow id 99"),
		inject: ip("addr del 10.250.0.1/32 dev eth0", "addr add 10.250.0.1/32 dev eth1"),
		undo:   ip("mptcp endpoint delete id 99", "addr del 10.250.0.1/32 dev eth1"),
	},
	{
		code: "private-signalled", severity: plan.Info, object: "10.1.2.2",
		near:   func(w *world) { w.endpoint("2001:db8:2::2", "2001:db8:2::2 dev eth1 subflow signal") },
		inject: func(w *world) { w.endpoint("10.1.2.2", "10.1.2.2 dev eth1 subflow signal") },
		undo: func(w *world) {
			w.endpoint("10.1.2.2", "10.1.2.2 dev eth1 subflow")
			w.endpoint("2001:db8:2::2", "2001:db8:2::2 dev eth1 subflow")
		},
	},
	{
		code: "private-signalled", name: " beside a public address", severity: plan.Warning, object: "fd00::5",
		inject: ip("addr add fd00::5/64 dev eth1 nodad", "mptcp endpoint add fd00::5 dev eth1 signal id 98"),
		undo:   ip("mptcp endpoint delete id 98", "addr del fd00::5/64 dev eth1"),
	},

	// Programs.
	{
		code: "daemon-absent", severity: plan.Warning,
		near: func(w *world) {
			w.Client.IP("mptcp limits set add_addr_accepted 0")
			w.seen = func(f *check.Facts) { f.Daemon = &check.Daemon{} }
		},
		inject: func(w *world) { w.seen = nil }, undo: ip("mptcp limits set add_addr_accepted 4"),
	},
	{
		// What the command line learns by itself before it looks at the kernel.
		code: "config-rejected", severity: plan.Error,
		inject: func(w *world) {
			file := filepath.Join(w.TempDir(), "bad.toml")
			writeFile(w.T, file, "role = \"sever\"\n")
			_, _, err := config.Load(file)
			w.seen = func(f *check.Facts) { f.ConfigError = fmt.Sprint(err) }
		},
	},
	{
		code: "record-unusable", severity: plan.Warning,
		inject: func(w *world) {
			dir := w.TempDir()
			writeFile(w.T, filepath.Join(dir, record.FileName), "{")
			_, _, err := record.Open(dir, "", 0)
			w.seen = func(f *check.Facts) { f.RecordError = fmt.Sprint(err) }
		},
	},

	// Firewalls.
	nftRuleCase("firewall-drops", " by nft, joins", plan.Error, "output", "tcp option mptcp subtype 1 drop"),
	nftRuleCase("firewall-drops", " by nft, all", plan.Error, "input", "tcp option 30 exists reject"),
	nftRuleCase("firewall-drops", " by nft, of others", plan.Warning, "forward", "tcp option mptcp subtype 0 counter drop"),
	nftRuleCase("firewall-drops", " by nft, in a map", plan.Error, "postrouting", "tcp option mptcp subtype vmap { 1 : drop }"),
	nftRuleCase("firewall-strips", " by nft", plan.Error, "output", "reset tcp option mptcp"),
	nftRuleCase("firewall-strips", " by nft, SYNPROXY", plan.Error, "input", "tcp flags syn synproxy mss 1460 wscale 7"),
	iptablesCase("firewall-drops", "iptables", "filter", "INPUT -p tcp --tcp-option 30 -j DROP", "INPUT -p tcp ! --tcp-option 30 -j DROP"),
	iptablesCase("firewall-drops", "ip6tables", "filter", "OUTPUT -p tcp --tcp-option 30 -j REJECT", "OUTPUT -p tcp --tcp-option 8 -j REJECT"),
	iptablesCase("firewall-drops", "iptables-legacy", "filter", "INPUT -p tcp --tcp-option 30 -j DROP", "INPUT -p tcp ! --tcp-option 30 -j DROP"),
	iptablesCase("firewall-strips", "iptables", "mangle", "POSTROUTING -p tcp -j TCPOPTSTRIP --strip-options 4,30", "POSTROUTING -p tcp -j TCPOPTSTRIP --strip-options 4"),
	iptablesCase("firewall-strips", "ip6tables-legacy", "mangle", "POSTROUTING -p tcp -j TCPOPTSTRIP --strip-options 30", "POSTROUTING -p tcp -j TCPOPTSTRIP --strip-options 5"),
	iptablesCase("firewall-strips", "iptables-legacy", "filter", "INPUT -p tcp -j SYNPROXY --mss 1460", "INPUT -p tcp -j ACCEPT"),
}
