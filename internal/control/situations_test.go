package control

import (
	"net/netip"
	"time"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/netstate/iptext"
	"github.com/subflowd/subflowd/internal/plan"
	"github.com/subflowd/subflowd/internal/reconcile"
)

var (
	now     = time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("CET", 3600))
	started = now.Add(-3*time.Hour - 12*time.Minute)
)

func ago(d time.Duration) time.Time { return now.Add(-d) }

// view is what the loop shows after a round without news.
func view(snapshot string, paths []plan.Path, wanted ...plan.Endpoint) *reconcile.View {
	s := iptext.MustSnapshot(snapshot)
	p := &plan.Plan{Paths: paths, Endpoints: wanted, Limits: &netstate.Limits{Subflows: 2, AddAddrAccepted: 4}}
	v := &reconcile.View{
		Version: 12, Started: started, Plan: p, Snapshot: s, Names: s.Names(), Converged: true,
		Owned:     netstate.Ownership{Known: true, Endpoints: map[netip.Addr]netstate.Endpoint{}, LimitsFound: &netstate.Limits{Subflows: 2}},
		LastRound: reconcile.Round{Trigger: "resync", Started: ago(14 * time.Second), Took: 1250 * time.Microsecond},
		Counters: reconcile.Counters{
			Rounds: 412, FullReads: 385, Changes: map[netstate.Op]uint64{netstate.RuleAppend: 8, netstate.EndpointAdd: 4},
		},
	}
	for _, e := range wanted {
		e.ID = 0
		v.Owned.Endpoints[e.Addr] = e.Endpoint
	}
	v.Recent = []reconcile.Event{{
		Seq: 16, Time: ago(41 * time.Minute), Text: "ip mptcp endpoint add 10.1.2.2 dev wlan0 subflow", Trigger: "address added on wlan0",
		Change: netstate.Change{Op: netstate.EndpointAdd, Reason: "the kernel's own source for wlan0"},
	}}
	return v
}

func path4(index int, name string, metric uint32, gateway string, addrs ...plan.PathAddr) plan.Path {
	p := plan.Path{
		Link: index, Name: name, Family: netstate.IPv4, State: plan.Live, Table: 100000 + uint32(index), Metric: metric, Preference: 100,
		Source: "default route in main", Addrs: addrs,
	}
	if gateway != "" {
		p.Gateways = []netip.Addr{netip.MustParseAddr(gateway)}
	}
	return p
}

func path6(index int, name string, metric uint32, gateway string, addrs ...plan.PathAddr) plan.Path {
	p := path4(index, name, metric, gateway, addrs...)
	p.Family = netstate.IPv6
	return p
}

func with(ip string) plan.PathAddr {
	return plan.PathAddr{IP: netip.MustParseAddr(ip), Rules: true, Endpoint: true, Reason: "the kernel's own source"}
}

func without(ip, reason string) plan.PathAddr {
	return plan.PathAddr{IP: netip.MustParseAddr(ip), Rules: true, Reason: reason}
}

func want(ip string, link int, flags netstate.EndpointFlags) plan.Endpoint {
	return plan.Endpoint{Endpoint: netstate.Endpoint{Addr: netip.MustParseAddr(ip), Link: link, Flags: flags}, Reason: "the kernel's own source"}
}

func none(index int, name string, f netstate.Family, reason string) plan.Ignored {
	return plan.Ignored{Link: index, Name: name, Family: f, Reason: reason}
}

func finding(age time.Duration, severity plan.Severity, code, object, text, remedy string) reconcile.Finding {
	return reconcile.Finding{Finding: plan.Finding{Code: code, Severity: severity, Object: object, Text: text, Remedy: remedy}, Since: ago(age)}
}

const stable, temporary = "2001:db8:1:0:5054:ff:fe12:3456", "2001:db8:1:0:91bc:8a3f:1122:7788"

// situations are the views whose documents are in testdata; the text that
// subflowctl makes of each is tested in internal/cli.
var situations = map[string]func() *reconcile.View{
	"start": func() *reconcile.View { return &reconcile.View{Started: ago(0)} },
	"nothing": func() *reconcile.View {
		v := view("link 1 lo loopback\nlink 2 eth0 no-carrier\nlink 3 wlan0", nil)
		v.Plan.Limits = nil
		v.Owned.LimitsFound = nil
		v.Recent = nil
		v.Plan.Ignored = []plan.Ignored{
			none(1, "lo", netstate.IPv4, "is the loopback"), none(1, "lo", netstate.IPv6, "is the loopback"),
			none(2, "eth0", netstate.IPv4, "no carrier"), none(2, "eth0", netstate.IPv6, "no carrier"),
			none(3, "wlan0", netstate.IPv4, "no default route"), none(3, "wlan0", netstate.IPv6, "no usable address"),
		}
		return v
	},
	"laptop": func() *reconcile.View {
		v := view(`
link 1 lo loopback
link 2 eth0
link 3 wlan0
link 4 docker0 kind bridge
endpoint 10.1.1.2 dev eth0 id 1 subflow
endpoint 2001:db8:1:0:91bc:8a3f:1122:7788 dev eth0 id 2 subflow
endpoint 10.1.2.2 dev wlan0 id 3 subflow backup
endpoint 2001:db8:2::43 dev wlan0 id 4 subflow backup
limits subflows 2 add_addr_accepted 4`,
			[]plan.Path{
				path4(2, "eth0", 100, "10.1.1.1", with("10.1.1.2")),
				path6(2, "eth0", 100, "fe80::5054:ff:fe00:1", without(stable, "the kernel prefers another source"), with(temporary)),
				path4(3, "wlan0", 600, "10.1.2.1", with("10.1.2.2")),
				path6(3, "wlan0", 600, "fe80::5054:ff:fe00:2", with("2001:db8:2::43")),
			},
			want("10.1.1.2", 2, netstate.SubflowFlag), want(temporary, 2, netstate.SubflowFlag),
			want("10.1.2.2", 3, netstate.SubflowFlag|netstate.BackupFlag), want("2001:db8:2::43", 3, netstate.SubflowFlag|netstate.BackupFlag))
		v.Plan.Paths[2].Backup, v.Plan.Paths[3].Backup = true, true
		v.Plan.Ignored = []plan.Ignored{
			none(4, "docker0", netstate.IPv4, "no default route"), none(4, "docker0", netstate.IPv6, "no usable address"),
		}
		return v
	},
	"one-subnet": func() *reconcile.View {
		v := view(`
link 2 enp2s0
link 3 wlp3s0
endpoint 192.168.0.37 dev enp2s0 id 1 subflow
endpoint 192.168.0.43 dev wlp3s0 id 2 subflow
limits subflows 2 add_addr_accepted 4`,
			[]plan.Path{
				path4(2, "enp2s0", 100, "192.168.0.1", with("192.168.0.37")),
				path4(3, "wlp3s0", 600, "192.168.0.1", with("192.168.0.43")),
			},
			want("192.168.0.37", 2, netstate.SubflowFlag), want("192.168.0.43", 3, netstate.SubflowFlag))
		for i := range v.Plan.Paths {
			v.Plan.Paths[i].Shared = []netip.Prefix{netip.MustParsePrefix("192.168.0.0/24")}
		}
		return v
	},
	"no-mptcp": func() *reconcile.View {
		v := view("link 2 eth0\nlink 3 wwan0\nmptcp absent", []plan.Path{
			path4(2, "eth0", 100, "10.1.1.1", without("10.1.1.2", "the kernel has no Multipath TCP")),
			path4(3, "wwan0", 700, "", without("100.64.3.9", "the kernel has no Multipath TCP")),
		})
		v.Plan.Limits = nil
		v.Owned.LimitsFound = nil
		v.Findings = []reconcile.Finding{finding(time.Hour, plan.Error, "mptcp-absent", "kernel",
			"has no Multipath TCP; routing is kept, endpoints cannot be made", "use a kernel built with CONFIG_MPTCP=y (5.15 or newer)")}
		return v
	},
	"lingering": func() *reconcile.View {
		v := view(`
link 2 eth0
link 3 wlan0 no-carrier
endpoint 10.1.1.2 dev eth0 id 1 subflow
endpoint 10.1.2.2 dev wlan0 id 3 subflow
endpoint 10.9.9.9 dev if7 id 4 subflow
limits subflows 2 add_addr_accepted 4`,
			[]plan.Path{
				path4(2, "eth0", 100, "10.1.1.1", with("10.1.1.2")),
				path4(3, "wlan0", 600, "10.1.2.1", without("10.1.2.2", "no carrier; answers by another path")),
			},
			want("10.1.1.2", 2, netstate.SubflowFlag))
		v.Plan.Paths[1].State = plan.Dark
		v.Owned.Endpoints[netip.MustParseAddr("10.1.2.2")] = netstate.Endpoint{Addr: netip.MustParseAddr("10.1.2.2"), Link: 3, ID: 3}
		v.Owned.Endpoints[netip.MustParseAddr("10.9.9.9")] = netstate.Endpoint{Addr: netip.MustParseAddr("10.9.9.9"), Link: 7, ID: 4}
		v.Lingering = []reconcile.Lingering{{
			Endpoint: v.Snapshot.Endpoints[1], Reason: "wlan0 has no carrier", Since: ago(25 * time.Second), Blocking: 2,
			Why: "the only subflow of a connection to 192.0.2.80:443", Looks: 6,
		}}
		return v
	},
	"foreign": func() *reconcile.View {
		v := view(`
link 2 eth0
link 3 eth1
endpoint 10.1.1.2 dev eth0 id 1 signal
endpoint 172.16.0.9 id 9 subflow fullmesh
endpoint 10.1.1.2 port 8443 id 10 signal
endpoint 10.1.2.2 dev eth1 id 11 subflow
endpoint 2001:db8::77 id 12 implicit
limits subflows 8 add_addr_accepted 8`,
			[]plan.Path{
				path4(2, "eth0", 100, "10.1.1.1", with("10.1.1.2")),
				path4(3, "eth1", 200, "10.1.2.1", with("10.1.2.2"), without("10.1.2.3", "only one endpoint for a path")),
			},
			want("10.1.1.2", 2, netstate.SubflowFlag), want("10.1.2.2", 3, netstate.SubflowFlag))
		v.Owned = netstate.Ownership{}
		v.Findings = []reconcile.Finding{finding(3*24*time.Hour, plan.Info, "foreign-endpoint", "10.1.1.2",
			`Another program made the endpoint "10.1.1.2 dev eth0 id 1 signal"; it is used as it is.`, "")}
		return v
	},
	"failing": failing,
}

func failing() *reconcile.View {
	v := view(`
link 2 eth0
link 3 enx00e04c680001
endpoint 10.1.1.2 dev eth0 id 1 subflow
limits subflows 2 add_addr_accepted 0`,
		[]plan.Path{
			path4(2, "eth0", 100, "10.1.1.1", with("10.1.1.2")),
			path6(3, "enx00e04c680001", 4294967295, "2001:db8:ffff:eeee:dddd:cccc:bbbb:aaaa", with("2001:db8:1234:5678:9abc:def0:1234:5678"),
				without("2001:db8:1234:5678:9abc:def0:1234:5679", "the kernel prefers another source, and only one address of a path has an endpoint")),
		},
		want("10.1.1.2", 2, netstate.SubflowFlag), want("2001:db8:1234:5678:9abc:def0:1234:5678", 3, netstate.SubflowFlag|netstate.FullmeshFlag))
	v.Converged = false
	v.Plan.Paths[1].Backup = true
	v.Plan.Paths[1].State = plan.Grace
	rule := netstate.Rule{
		Family: netstate.IPv6, Priority: 32765, From: netip.MustParsePrefix("2001:db8:1234:5678:9abc:def0:1234:5678/128"),
		Action: netstate.ActLookup, Table: 100003, Suppress: netstate.NoSuppress, Protocol: 77,
	}
	v.Left = []reconcile.Left{
		{
			Change: netstate.Change{Op: netstate.RuleAppend, Rule: rule, Reason: "address of enx00e04c680001"},
			Err:    "operation not permitted", Since: ago(90 * time.Second), Tries: 7, Next: now.Add(12 * time.Second),
		},
		{Change: netstate.Change{Op: netstate.LimitsSet, Limits: netstate.Limits{Subflows: 2, AddAddrAccepted: 4}, Reason: "a client takes addresses"}, Since: ago(time.Second)},
	}
	v.Contentions = []reconcile.Contention{{Object: "rules of 10.1.1.2", Count: 9, Since: ago(4 * time.Minute), Last: ago(6 * time.Second), Pause: 30 * time.Second}}
	v.Findings = []reconcile.Finding{
		finding(95*time.Second, plan.Error, "change-failed", "rules of 2001:db8:1234:5678:9abc:def0:1234:5678", "the kernel refuses: operation not permitted",
			"give the daemon CAP_NET_ADMIN: systemctl show -p AmbientCapabilities subflowd"),
		finding(5*time.Second, plan.Warning, "evil", "a\x1b[31mb", "has a name that a terminal would obey", ""),
	}
	v.Recent = append(v.Recent, reconcile.Event{Seq: 17, Time: ago(time.Second), Text: "ip -6 rule add", Err: "operation not permitted"})
	for i := range 8 {
		name := "veth" + string(rune('a'+i))
		v.Plan.Ignored = append(v.Plan.Ignored,
			none(10+i, name, netstate.IPv4, "is a port of the bridge br0"), none(10+i, name, netstate.IPv6, "is a port of the bridge br0"))
	}
	return v
}
