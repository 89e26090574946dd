package chaos

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// action is one step of a script. Commands go to the router and to the client of both sides; run is for what concerns
// the daemon alone.
type action struct {
	who         string
	router      []string
	ip          []string
	routerAfter []string
	run         func(*world)
	text        string // of run
	pause       time.Duration
}

func (a action) String() string {
	s := a.text
	if s == "" {
		s = strings.Join(a.ip, "; ")
		if len(a.router) > 0 {
			s = "[router] " + strings.Join(a.router, "; ") + " [client] " + s
		}
		if len(a.routerAfter) > 0 {
			s += " [router] " + strings.Join(a.routerAfter, "; ")
		}
	}
	return fmt.Sprintf("%-9s %s (then %v)", a.who, s, a.pause)
}

// link is what the actors believe of one of the client's links.
type link struct {
	n                    int // 0 and 1 are the uplinks, 2 comes and goes
	dev                  string
	addr, gw, gw2        string // IPv4
	addr6, gw6, gw62     string
	metric               int
	there, up, cut, port bool
	extra                []string // further addresses with their prefix length, and words of ip
}

// author writes a script. It knows nothing but its seed and what it wrote before, so that a seed is a script.
type author struct {
	*rand.Rand
	oneSubnet bool
	links     []*link
	routes    []string // commands that undo what was added, without "del"
	rules     []string
	tables    int
	endpoints []string
	routers   map[string]*advert
	announced map[string]bool // addresses of the server
	local     map[string]int  // the priority of the rule that leads to the table local, by family
	tunnel    bool
	// tunnelRules are the commands that delete the rules of the tunnel.
	tunnelRules []string
	// roaming is a host on which little happens but that links lose their leases and get them again.
	roaming bool
	running bool // the daemon, as ordered
	stalled bool
	deleted int // how often endpoints of the daemon were deleted
	serial  int
}

func newAuthor(seed uint64, oneSubnet bool) *author {
	a := &author{
		Rand: rand.New(rand.NewPCG(seed, 0x5ced)), oneSubnet: oneSubnet, running: true,
		routers: map[string]*advert{}, announced: map[string]bool{}, local: map[string]int{},
		roaming: !oneSubnet && seed%4 == 1,
	}
	a.links = []*link{
		{n: 0, dev: "eth0", addr: "10.1.1.2", gw: "10.1.1.1", gw2: "10.1.1.254", addr6: "2001:db8:1::2", gw6: "2001:db8:1::1", gw62: "2001:db8:1::fe", metric: 100},
		{n: 1, dev: "eth1", addr: "10.1.2.2", gw: "10.1.2.1", gw2: "10.1.2.254", addr6: "2001:db8:2::2", gw6: "2001:db8:2::1", gw62: "2001:db8:2::fe", metric: 200},
		{n: 2, dev: "eth2", addr: "10.1.3.2", gw: "10.1.3.1", gw2: "10.1.3.1", addr6: "2001:db8:3::2", gw6: "2001:db8:3::1", gw62: "2001:db8:3::1", metric: 300},
	}
	if oneSubnet {
		for i, x := range []struct {
			dev, addr, addr6 string
			metric           int
		}{{"enp2s0", "192.168.0.37", "2001:db8:1::37", 100}, {"wlp3s0", "192.168.0.43", "2001:db8:1::43", 600}} {
			l := a.links[i]
			l.dev, l.addr, l.addr6, l.metric = x.dev, x.addr, x.addr6, x.metric
			l.gw, l.gw2, l.gw6, l.gw62 = "192.168.0.1", "192.168.0.254", "fe80::1", "fe80::fe"
		}
	}
	for _, l := range a.links[:2] {
		l.there, l.up = true, true
	}
	return a
}

// write makes a script of n actions, without the healing at its end.
func (a *author) write(n int) []action {
	type actor struct {
		name   string
		weight int
		act    func() action
	}
	actors := []actor{
		{"addresses", 22, a.addresses},
		{"leases", 8, a.leases},
		{"routes", 22, a.routing},
		{"rules", 14, a.ruling},
		{"links", 14, a.linking},
		{"others", 8, a.others},
		{"enemy", 8, a.enemy},
		{"sysctls", 4, a.sysctls},
		{"tunnels", 7, a.tunnels},
		{"adverts", 7, a.adverts},
		{"signals", 4, a.signals},
		{"local", 3, a.localRule},
		{"daemon", 10, a.daemons},
	}
	if a.roaming {
		actors = []actor{{"leases", 30, a.leases}, {"links", 4, a.linking}, {"tunnels", 4, a.tunnels}, {"adverts", 2, a.adverts}, {"daemon", 4, a.daemons}}
	}
	total := 0
	for _, x := range actors {
		total += x.weight
	}
	var script []action
	if a.roaming {
		script = append(script, limited(8, 3)) // room for what lingers
	}
	for len(script) < n {
		k := a.IntN(total)
		i := 0
		for ; k >= actors[i].weight; i++ {
			k -= actors[i].weight
		}
		x := actors[i].act()
		if x.run == nil && len(x.ip)+len(x.router) == 0 {
			continue
		}
		x.who = actors[i].name
		if a.IntN(3) > 0 {
			x.pause = time.Duration(a.IntN(60)) * time.Millisecond
		}
		script = append(script, x)
	}
	return append(script, a.awake()...)
}

// awake has the daemon run at the end of a script.
func (a *author) awake() []action {
	return []action{{who: "daemon", text: "continue and start", run: func(w *world) { w.resume(); w.start() }}}
}

func pick[T any](a *author, list ...T) T { return list[a.IntN(len(list))] }

// uplink picks one of the links that exist.
func (a *author) uplink() *link {
	for {
		if l := a.links[a.IntN(len(a.links))]; l.there {
			return l
		}
	}
}

// next gives numbers for names and addresses that nobody used before.
func (a *author) next() int {
	a.serial++
	return a.serial
}

func (l *link) default4() string {
	return fmt.Sprintf("default via %s dev %s metric %d", l.gw, l.dev, l.metric)
}

func (l *link) default6() string {
	return fmt.Sprintf("default via %s dev %s metric %d", l.gw6, l.dev, l.metric)
}

// address6 is how the link's own IPv6 address is added.
func (a *author) address6(l *link) string {
	s := fmt.Sprintf("addr replace %s/64 dev %s nodad", l.addr6, l.dev)
	if a.oneSubnet && l.n < 2 {
		s += " mngtmpaddr"
	}
	return s
}

// configure gives a link all that a network manager gives it.
func (a *author) configure(l *link) []string {
	return []string{
		fmt.Sprintf("addr replace %s/24 brd + dev %s", l.addr, l.dev),
		a.address6(l),
		"route replace " + l.default4(),
		"-6 route replace " + l.default6(),
	}
}

func (l *link) router() string { return fmt.Sprintf("r%d", l.n) }

// heal makes the two uplinks whole, so that every connection has a way again; what else was made stays.
func (a *author) heal() []action {
	var x action
	x.who, x.pause = "heal", 0
	for _, l := range a.links[:2] {
		if !l.there {
			r := a.recreate(l)
			x.router, x.ip, x.routerAfter = append(x.router, r.router...), append(x.ip, r.ip...), append(x.routerAfter, r.routerAfter...)
		}
		x.router = append(x.router, "link set "+l.router()+" up")
		conf := "/conf/" + l.dev + "/"
		x.ip = append(x.ip,
			"sysctl net/ipv6"+conf+"disable_ipv6=0", "sysctl net/ipv4"+conf+"rp_filter=0", "sysctl net/ipv4"+conf+"arp_filter=0",
			"link set "+l.dev+" nomaster", "link set "+l.dev+" up")
		l.up, l.cut, l.port = true, false, false
		x.ip = append(x.ip, a.configure(l)...)
	}
	// An error route or another's rule may stand before the way out.
	for _, r := range a.rules {
		x.ip = append(x.ip, strings.Replace(r, "rule ", "rule del ", 1))
	}
	for _, r := range a.routes {
		x.ip = append(x.ip, strings.Replace(r, "route ", "route del ", 1))
	}
	a.rules, a.routes = nil, nil
	for _, f := range []string{"-4", "-6"} {
		if p := a.local[f]; p != 0 {
			x.ip = append(x.ip, f+" rule add lookup local pref 0", fmt.Sprintf("%s rule del lookup local pref %d", f, p))
		}
	}
	down := a.tunnelDown()
	down.who = x.who
	return []action{down, x}
}
