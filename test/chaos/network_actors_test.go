package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

// halves are what a full tunnel covers of each family, as OpenVPN does. IPv6: the global space.
var halves = map[string][2]string{"-4": {"0.0.0.0/1", "128.0.0.0/1"}, "-6": {"2000::/4", "3000::/4"}}

const tunnelDev = "tun0"

// tunnels brings a VPN up and down, in the ways of several programs, and has it carry only a part.
func (a *author) tunnels() action {
	f := pick(a, "-4", "-6")
	switch {
	case a.tunnel && a.IntN(3) > 0:
		return a.tunnelDown()
	case a.tunnel: // one half more or less; the first may be there already, or not
		half := halves[f][a.IntN(2)]
		return action{ip: []string{f + " route " + pick(a, "del ", "replace ") + half + " dev " + tunnelDev}}
	}
	a.tunnel = true
	families := pick(a, []string{"-4"}, []string{"-6"}, []string{"-4", "-6"}, []string{"-4", "-6"})
	var cmds []string
	style := a.IntN(5)
	if style == 3 && (a.local["-4"] == behind || a.local["-6"] == behind) { // see addRule
		style = 0
	}
	for _, f := range families {
		dev := " dev " + tunnelDev
		switch style {
		case 0, 1: // OpenVPN
			cmds = append(cmds, f+" route add "+halves[f][0]+dev, f+" route add "+halves[f][1]+dev)
		case 2: // a plain default route
			cmds = append(cmds, f+" route add default"+dev+" metric 5")
		case 3: // wg-quick: rules that stay for a moment when the device is gone
			rules := []string{f + " rule not fwmark 0xca6c lookup 51820", f + " rule from all lookup main suppress_prefixlength 0"}
			cmds = append(cmds, f+" route add default"+dev+" table 51820")
			for _, r := range rules {
				cmds = append(cmds, strings.Replace(r, " rule ", " rule add ", 1))
				a.tunnelRules = append(a.tunnelRules, strings.Replace(r, " rule ", " rule del ", 1))
			}
		default: // a split tunnel: no reason to step aside
			net := map[string]string{"-4": "203.0.113.0/24", "-6": "2001:db8:7700::/40"}[f]
			cmds = append(cmds, f+" route add "+net+dev)
		}
	}
	return action{text: "tunnel up: " + strings.Join(cmds, "; "), run: func(w *world) { w.tunnelUp(cmds) }}
}

func (a *author) tunnelDown() action {
	cmds := a.tunnelRules
	a.tunnel, a.tunnelRules = false, nil
	return action{text: "tunnel down; " + strings.Join(cmds, "; "), run: func(w *world) { w.tunnelDown(cmds) }}
}

func (w *world) tunnelUp(cmds []string) {
	w.excuseJoined()
	w.both(func(s *side) {
		s.tun = lab.NewTunnel(s.Client, tunnelDev, s.Router, tunnelDev)
		s.ip(s.Router, "addr add 10.88.0.1/24 dev "+tunnelDev, "addr add 2001:db8:88::1/64 dev "+tunnelDev+" nodad")
		s.ip(s.Client, "addr add 10.88.0.2/24 dev "+tunnelDev, "addr add 2001:db8:88::2/64 dev "+tunnelDev+" nodad")
		s.ip(s.Client, cmds...)
	})
	w.excuseJoined()
}

func (w *world) tunnelDown(cmds []string) {
	w.both(func(s *side) {
		if s.tun != nil {
			s.tun.Close()
			s.tun = nil
		}
		s.ip(s.Client, cmds...)
	})
}

// excuseJoined takes the connections out of the claim that live by nothing but subflows of the path manager, the first
// one being gone: beside a full tunnel those are closed.
func (w *world) excuseJoined() {
	for _, p := range w.conns {
		first := p.main.LocalAddr().String()
		if p.excused == "" && !slices.ContainsFunc(living(p.main), func(s lab.Subflow) bool { return s.Local.String() == first }) {
			p.excused = "a full tunnel closed what the path manager had made"
		}
	}
}

// living leaves out the first subflow of a connection after its end: the kernel keeps the socket, closed.
func living(f *flow) []lab.Subflow {
	const closed = 7 // TCP_CLOSE
	return slices.DeleteFunc(f.Subflows(), func(s lab.Subflow) bool { return s.State == closed })
}

// advert is what a router says on one link.
type advert struct {
	lab.RA
	from   string
	ears   []string // the client's links that should hear it
	silent bool     // the router is dead: it is not heard again
}

// adverts lets a router advertise, withdraw itself, renumber, die, or repeat itself without pause.
func (a *author) adverts() action {
	l := a.uplink()
	dev, from := l.router(), ""
	if a.oneSubnet && l.n < 2 {
		dev, from = "br0", pick(a, "fe80::1", "fe80::fe")
	}
	ra := a.routers[dev+from]
	if ra == nil {
		ra = &advert{RA: lab.RA{Dev: dev}, from: from}
		a.routers[dev+from] = ra
	}
	ra.silent, ra.Lifetime, ra.Preference, ra.ears = false, 1800, pick(a, "", "", "high", "low"), nil
	for _, o := range a.links {
		if o.there && o.up && !o.cut && !o.port && (o == l || dev == "br0" && o.n < 2) {
			ra.ears = append(ra.ears, o.dev)
		}
	}
	times, what := 1, "advertises"
	switch a.IntN(6) {
	case 0:
		ra.Lifetime, what = 0, "is no default router any more"
	case 1:
		ra.Lifetime, ra.silent, what = 1+a.IntN(2), true, "dies"
	case 2, 3:
		what = "renumbers"
		if len(ra.Prefixes) < 3 {
			for i := range ra.Prefixes { // two hours are the least that a host may be told (RFC 4862, 5.5.3)
				ra.Prefixes[i].Preferred, ra.Prefixes[i].Valid = 0, 7200
			}
			ra.Prefixes = append(slices.Clip(ra.Prefixes), lab.RAPrefix{
				Prefix: fmt.Sprintf("2001:db8:a%x::/64", a.next()), Valid: 7200, Preferred: 3600, OffLink: a.IntN(4) == 0,
			})
		}
	case 4:
		times, what = 20, "repeats itself"
	}
	now := *ra
	now.Prefixes = slices.Clone(ra.Prefixes)
	text := fmt.Sprintf("router %s%s %s: lifetime %d preference %q prefixes %+v", dev, from, what, now.Lifetime, now.Preference, now.Prefixes)
	return action{text: text, run: func(w *world) {
		w.routers[dev+from] = &now
		for range times {
			w.advertise(&now)
		}
	}}
}

// advertise sends what a router says on both sides, and gives the clients a moment to hear it: what follows must not come
// before it on one side only.
func (w *world) advertise(ra *advert) {
	w.both(func(s *side) {
		for _, p := range ra.Prefixes { // what is advertised is routed
			s.ip(s.Router, "addr replace "+strings.Replace(p.Prefix, "::/", "::1/", 1)+" dev "+ra.Dev+" nodad")
		}
		before := heard(s.Client, ra.ears)
		_ = s.Router.Advertise(ra.RA, ra.from) // its link may be down, or gone
		for late := time.Now().Add(200 * time.Millisecond); time.Now().Before(late) && heard(s.Client, ra.ears) < before+len(ra.ears); {
			time.Sleep(5 * time.Millisecond)
		}
	})
}

// heard counts the advertisements that came in by the links.
func heard(h *lab.Host, devs []string) (n int) {
	for _, d := range devs {
		out, _ := h.Try("cat", "/proc/net/dev_snmp6/"+d)
		for _, l := range strings.Split(out, "\n") {
			var v int
			if _, err := fmt.Sscanf(l, "Icmp6InRouterAdvertisements %d", &v); err == nil {
				n += v
			}
		}
	}
	return n
}

// repeatAdverts is what routers do every few seconds.
func (w *world) repeatAdverts() {
	for _, ra := range w.routers {
		if !ra.silent {
			quiet := *ra
			quiet.ears = nil
			w.advertise(&quiet)
		}
	}
}

// signalled are further addresses of the server.
var signalled = []string{"10.9.0.3", "10.9.0.4", "2001:db8:9::3", "2001:db8:9::4"}

// signals has the server announce further addresses to its connections (ADD_ADDR), and take them back (RM_ADDR).
func (a *author) signals() action {
	addr := pick(a, signalled...)
	if a.announced[addr] {
		delete(a.announced, addr)
		return action{text: "[server] mptcp endpoint delete " + addr, run: func(w *world) {
			w.excuseOnly(addr)
			w.both(func(s *side) { s.deleteEndpointOf(s.Server, addr) })
		}}
	}
	a.announced[addr] = true
	return action{text: "[server] mptcp endpoint add " + addr + " signal", run: func(w *world) {
		w.both(func(s *side) { s.ip(s.Server, "mptcp endpoint add "+addr+" signal") })
	}}
}

// excuseOnly takes the connections out of the claim that have no subflow but to one address of the server's, which takes
// it back.
func (w *world) excuseOnly(addr string) {
	for _, p := range w.conns {
		if p.excused == "" && !slices.ContainsFunc(living(p.main), func(s lab.Subflow) bool { return s.Remote.Addr().String() != addr }) {
			p.excused = "the server took back the address to which its last subflow led"
		}
	}
}

// behind is where the recipe for VRFs puts the rule local.
const behind = 32765

// localRule moves the first of the kernel's rules: to 100, to the place that the recipe for VRFs gives it, or back.
func (a *author) localRule() action {
	f := pick(a, "-4", "-6")
	to := pick(a, 0, 0, 100, 100, behind)
	from := a.local[f]
	if from == to {
		return action{}
	}
	a.local[f] = to
	return action{ip: []string{fmt.Sprintf("%s rule add lookup local pref %d", f, to), fmt.Sprintf("%s rule del lookup local pref %d", f, from)}}
}
