package chaos

import (
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// destinations are one of each class: behind the default route, on the links, and where actors put routes.
var destinations = map[string][]string{
	"-4": {
		"10.9.0.2", "10.8.0.2", "198.51.100.1", "10.1.1.99", "10.1.2.99", "10.1.3.99", "192.168.0.99", "10.1.1.222", "10.1.2.201",
		"192.168.0.222", "192.168.0.200", "203.0.113.9",
	},
	"-6": {
		"2001:db8:9::2", "2001:db8:8::2", "2600::1", "2001:db8:1::99", "2001:db8:2::99", "2001:db8:3::99",
		"2001:db8:1:0:8000::9", "2001:db8:2:0:8000::9", "2001:db8:1::700",
	},
}

// probes adds a destination in each route that somebody put somewhere.
func (s *state) probes(family string) []netip.Addr {
	var out []netip.Addr
	for _, d := range destinations[family] {
		out = append(out, netip.MustParseAddr(d))
	}
	local := map[netip.Addr]bool{}
	for _, l := range s.links {
		for _, a := range l.Addrs {
			local[a.Local] = true
		}
	}
	for _, r := range s.routes[family] {
		if !r.ours() && r.Table != "255" && !r.isDefault() && !r.prefix.Addr().IsLinkLocalUnicast() && len(out) < 40 {
			a := r.prefix.Addr()
			if !r.prefix.IsSingleIP() {
				a = a.Next().Next().Next().Next().Next()
			}
			out = append(out, a)
		}
	}
	for _, r := range s.rules[family] {
		if a, err := netip.ParseAddr(r.Dst); err == nil && len(out) < 50 {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.DeleteFunc(slices.Compact(out), func(a netip.Addr) bool {
		return local[a] || s.local(family, a)
	})
}

// local tells whether the table local answers for an address, which comes before all rules: broadcast, anycast.
func (s *state) local(family string, a netip.Addr) bool {
	_, out := s.resolve(family, "255", a, func(*ipRoute) bool { return true })
	return out != nil
}

// checkLookups asks the kernel for the way out from every address to every class of destination.
func (j *judgement) checkLookups() {
	for _, f := range []string{"-4", "-6"} {
		var pairs [][2]netip.Addr
		want := map[[2]netip.Addr]place{}
		for _, u := range j.ups {
			if u.family != f {
				continue
			}
			for _, a := range u.addrs {
				for _, d := range j.probes(f) {
					p := [2]netip.Addr{d, a.Local}
					pairs = append(pairs, p)
					want[p] = j.way(u, a.Local, d)
				}
			}
		}
		if len(pairs) == 0 {
			continue
		}
		found := lookups(j.main.Client, f, pairs)
		for _, p := range pairs {
			got, ok := found[p]
			if !ok {
				got = refusedText
			}
			if !want[p][got] {
				j.wrong("route get %s from %s: wanted %s, found %s", p[0], p[1],
					strings.Join(slices.Sorted(maps.Keys(want[p])), " or "), got)
			}
		}
	}
}

// way is where traffic from an address of an uplink should leave: first what rules of others say, then what main knows
// specifically, then by the uplink itself, whatever main's default route is.
func (j *judgement) way(u *uplink, from, to netip.Addr) place {
	any := func(*ipRoute) bool { return true }
	specific := func(r *ipRoute) bool { return !r.isDefault() }
	for _, r := range j.rules[u.family] {
		if r.Priority == 32766 && j.hasRules(u, from) {
			if out := j.own(u, to, specific); out != nil {
				return out
			}
		}
		if r.Table == "local" || r.ours() || r.Mark != "" && r.Not == nil || !covers(r.Src, r.SrcLen, from) || !covers(r.Dst, r.DstLen, to) {
			continue
		}
		if r.Action != "" {
			return place{refusedText: true}
		}
		table := r.number()
		if table == "main" {
			table = tableMain
		}
		bits, out := j.resolve(u.family, table, to, any)
		switch {
		case out == nil, r.Suppress != nil && bits <= *r.Suppress && !out[refusedText]:
		default:
			return out
		}
	}
	return place{refusedText: true}
}

// own is the way by the rules of an address: the longest match of main and the path table where both are asked, main's
// first where only the uplink has its prefixes.
func (j *judgement) own(u *uplink, to netip.Addr, specific func(*ipRoute) bool) place {
	any := func(*ipRoute) bool { return true }
	inMain := specific
	if j.errorDefault(u.family) {
		inMain = func(r *ipRoute) bool { return specific(r) && r.Protocol != protoBGP }
	}
	mainBits, main := j.resolve(u.family, tableMain, to, inMain)
	tableBits, table := j.resolve(u.family, u.table, to, func(r *ipRoute) bool { return specific(r) && r.Type != typeThrow })
	tableFirst := len(j.shared(u)) > 0 || j.errorDefault(u.family)
	switch {
	case main != nil && (table == nil || mainBits > tableBits || !tableFirst):
		return main
	case table != nil:
		return table
	}
	_, out := j.resolve(u.family, u.table, to, any)
	return out
}

// lookAtTunnels asks where traffic goes that is bound to nothing, to both halves of each family.
func (j *judgement) lookAtTunnels() {
	if !slices.ContainsFunc(j.links, func(l ipLink) bool { return l.Info.Kind == "tun" }) {
		return
	}
	j.unbound = map[netip.Addr]string{}
	for f, to := range map[string][2]string{"-4": {"2.16.0.1", "193.0.0.1"}, "-6": {"2600::1", "3800::1"}} {
		full := true
		for i, d := range to {
			var answers []struct {
				Dev    string     `json:"dev"`
				Source netip.Addr `json:"prefsrc"`
			}
			out, err := j.main.Client.Try("ip", f, "-j", "route", "get", d)
			if err == nil {
				err = json.Unmarshal([]byte(out), &answers)
			}
			if err != nil || len(answers) != 1 {
				full = false
				continue
			}
			full = full && answers[0].Dev == tunnelDev
			if i == 0 {
				j.unbound[answers[0].Source] = answers[0].Dev
			}
		}
		j.guarded = j.guarded || full
	}
}

// checkBeside wants no subflow beside a full tunnel that is bound to a device, as those from the daemon's endpoints are:
// ss shows the device behind the address.
func (j *judgement) checkBeside() {
	if !j.guarded {
		return
	}
	out, err := j.main.Client.Try("ss", "-Htan")
	if err != nil {
		j.wrong("%v", err)
	}
	for _, l := range strings.Split(out, "\n") {
		w := strings.Fields(l)
		if len(w) > 4 && strings.Contains(w[3], "%") && !slices.Contains([]string{"LISTEN", "TIME-WAIT", "UNCONN"}, w[0]) {
			j.wrong("beside the tunnel there is %s", strings.Join(w, " "))
		}
	}
}
