package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// addresses adds, deletes and changes addresses of the uplinks.
func (a *author) addresses() action {
	l := a.uplink()
	if len(l.extra) > 0 && a.IntN(3) == 0 {
		i := a.IntN(len(l.extra))
		addr := strings.Fields(l.extra[i])[0]
		l.extra = append(l.extra[:i:i], l.extra[i+1:]...)
		return action{ip: []string{"addr del " + addr + " dev " + l.dev}}
	}
	n := a.next()
	add := func(addr, words string) action {
		l.extra = append(l.extra, addr)
		return action{ip: []string{strings.TrimSpace("addr add " + addr + " dev " + l.dev + " " + words)}}
	}
	base := l.addr[:strings.LastIndexByte(l.addr, '.')]
	prefix6 := l.addr6[:strings.LastIndexByte(l.addr6, ':')+1]
	switch a.IntN(11) {
	case 0:
		return add(fmt.Sprintf("%s.%d/24", base, 100+n%80), "")
	case 1:
		return add(fmt.Sprintf("%s.%d/%d", base, 100+n%80, pick(a, 25, 26, 32)), "")
	case 2:
		return add(fmt.Sprintf("10.66.%d.2/24", n%250), "")
	case 3:
		return add(fmt.Sprintf("%s%x/64", prefix6, 0x1000+n), "nodad")
	case 4:
		return add(fmt.Sprintf("%s%x/%d", prefix6, 0x1000+n, pick(a, 64, 128)), pick(a, "nodad noprefixroute", "nodad"))
	case 5:
		return add(fmt.Sprintf("fd00:%x::2/64", n), "nodad")
	case 6: // tentative for a while, or for good where the router has it
		x := add(fmt.Sprintf("%s%s/64", prefix6, pick(a, "dead", fmt.Sprintf("%x", 0x1000+n))), "")
		conf := "sysctl net/ipv6/conf/" + l.dev
		x.ip = append([]string{conf + "/accept_dad=1", conf + "/dad_transmits=1"}, x.ip...)
		return x
	case 7: // the same address on another link
		o := a.links[(l.n+1)%2]
		if !o.there || len(l.extra) == 0 {
			return action{}
		}
		addr := pick(a, l.extra...)
		o.extra = append(o.extra, addr)
		return action{ip: []string{"addr add " + addr + " dev " + o.dev + pick(a, "", " nodad")}}
	case 8:
		return a.age(l)
	case 9: // renumbering within moments
		return action{ip: append([]string{"addr del " + l.addr + "/24 dev " + l.dev}, a.configure(l)...)}
	}
	// The prefix length changes: the kernel knows only another address.
	if len(l.extra) == 0 {
		return action{}
	}
	i := a.IntN(len(l.extra))
	old := l.extra[i]
	ip, bits, _ := strings.Cut(old, "/")
	other := ip + "/" + pick(a, "25", "27", "24")
	if strings.Contains(ip, ":") {
		other = ip + "/" + pick(a, "64", "80", "128")
	}
	if other == ip+"/"+bits {
		return action{}
	}
	l.extra[i] = other
	return action{ip: []string{"addr add " + other + " dev " + l.dev, "addr del " + old + " dev " + l.dev}}
}

// leases are lost and come again, the address and the router at once as from a DHCP client, and may be over or changed
// before anybody has looked.
func (a *author) leases() action {
	l := a.uplink()
	lose, given := "-4 addr flush dev "+l.dev+" scope global", l.addr+"/24"
	l.extra = slices.DeleteFunc(l.extra, func(x string) bool { return !strings.Contains(x, ":") })
	if a.IntN(2) == 0 { // another one
		given = fmt.Sprintf("%s.%d/24", l.addr[:strings.LastIndexByte(l.addr, '.')], 180+a.next()%60)
		l.extra = append(l.extra, given)
	}
	addr := given + " dev " + l.dev
	batch := []string{"addr add " + addr, "route append " + l.default4()}
	switch a.IntN(7) {
	case 0:
		batch = append(batch, "addr del "+addr)
	case 1:
		batch = append(batch, "route del "+l.default4())
	case 2:
		batch = append(batch, "addr del "+addr, "addr add "+addr, "route append "+l.default4())
	case 3: // the address moves
		o := a.links[(l.n+1)%2]
		if o.there {
			o.extra = append(o.extra, given)
			batch = append(batch, "addr add "+given+" dev "+o.dev, "addr del "+addr)
		}
	case 4:
		batch = append(batch, "route append "+strings.Replace(l.default4(), l.gw, l.gw2, 1))
	}
	pause := time.Duration(a.IntN(60)) * time.Millisecond
	return action{text: lose + "; " + pause.String() + "; batch: " + strings.Join(batch, "; "), run: func(w *world) {
		w.both(func(s *side) {
			s.ip(s.Client, lose)
			time.Sleep(pause)
			_, _ = s.Client.TryIP(batch...)
		})
	}}
}

// age deprecates an address, or makes it young again.
func (a *author) age(l *link) action {
	all := append([]string{l.addr + "/24", l.addr6 + "/64"}, l.extra...)
	left := pick(a, "0", "0", "forever")
	return action{ip: []string{"addr change " + pick(a, all...) + " dev " + l.dev + " preferred_lft " + left + " valid_lft forever"}}
}

// sysctls turns the knobs that matter to addresses and routes.
func (a *author) sysctls() action {
	l := a.uplink()
	v4, v6 := "sysctl net/ipv4/conf/"+l.dev, "sysctl net/ipv6/conf/"+l.dev
	switch a.IntN(6) {
	case 0:
		return action{ip: []string{v4 + "/rp_filter=" + pick(a, "0", "1", "2")}}
	case 1: // all its IPv6 goes; a network manager brings it back
		return action{ip: append([]string{v6 + "/disable_ipv6=1", v6 + "/disable_ipv6=0"}, a.configure(l)...)}
	case 2: // never 0: an advertisement that only one of the two hosts missed could not be repeated
		return action{ip: []string{v6 + "/accept_ra=" + pick(a, "1", "2"), v6 + "/use_tempaddr=" + pick(a, "0", "2")}}
	case 3:
		return action{ip: []string{v6 + "/keep_addr_on_down=" + pick(a, "0", "1")}}
	case 4:
		return action{ip: []string{v4 + "/promote_secondaries=" + pick(a, "0", "1")}}
	}
	return action{ip: []string{v4 + "/arp_filter=" + pick(a, "0", "1"), v4 + "/ignore_routes_with_linkdown=0"}}
}

// linking moves the links themselves.
func (a *author) linking() action {
	l := a.links[a.IntN(len(a.links))]
	if !l.there {
		return a.recreate(l)
	}
	switch a.IntN(9) {
	case 0: // restarted by a network manager
		l.up = true
		return action{ip: append([]string{"link set " + l.dev + " down", "link set " + l.dev + " up"}, a.configure(l)...)}
	case 1:
		l.up = false
		return action{ip: []string{"link set " + l.dev + " down"}}
	case 2, 3:
		l.up = true
		return action{ip: append([]string{"link set " + l.dev + " up"}, a.configure(l)...)}
	case 4:
		l.cut = !l.cut
		return action{router: []string{"link set " + l.router() + pick(a, " down", " up")}}
	case 5:
		return action{router: []string{"link set " + l.router() + " up"}}
	case 6:
		return a.renamed(l)
	case 7:
		br := "br" + fmt.Sprint(l.n)
		if l.port {
			l.port = false
			return action{ip: append([]string{"link set " + l.dev + " nomaster"}, a.configure(l)...)}
		}
		l.port = true
		return action{ip: []string{"link add " + br + " type bridge", "link set " + br + " up", "link set " + l.dev + " master " + br}}
	}
	others := slices.ContainsFunc(a.links, func(o *link) bool { return o != l && o.there })
	if l.n == 0 && a.IntN(2) == 0 || !others {
		return action{}
	}
	l.there, l.up, l.port, l.extra = false, false, false, nil
	gone := action{ip: []string{"link del " + l.dev}}
	if a.IntN(2) == 0 { // another link takes the number at once
		back := a.recreate(l)
		gone.ip, gone.routerAfter = append(gone.ip, back.ip...), back.routerAfter
	}
	return gone
}

func (a *author) renamed(l *link) action {
	old := l.dev
	l.dev = fmt.Sprintf("lan%d", a.next())
	cmds := []string{"link set " + old + " name " + l.dev}
	if a.IntN(2) == 0 {
		cmds = append([]string{"link set " + old + " down"}, cmds...)
		cmds = append(cmds, "link set "+l.dev+" up")
		cmds = append(cmds, a.configure(l)...)
	}
	for i, r := range a.routes {
		a.routes[i] = strings.NewReplacer(" dev "+old+" ", " dev "+l.dev+" ", "{table "+old+"}", "{table "+l.dev+"}").Replace(r + " ")
	}
	return action{ip: cmds}
}

// recreate makes a link that is gone, with a new number, and configures it.
func (a *author) recreate(l *link) action {
	l.there, l.up, l.cut, l.port = true, true, false, false
	r := l.router()
	x := action{ip: []string{"link add " + l.dev + " address " + hardware(l.n) + " type veth peer name " + r + " netns {router}", "link set " + l.dev + " up"}}
	x.routerAfter = []string{"link set " + r + " up"}
	switch {
	case a.oneSubnet && l.n < 2:
		x.routerAfter = append(x.routerAfter, "link set "+r+" master br0")
	default:
		x.routerAfter = append(x.routerAfter, "addr replace "+l.gw+"/24 dev "+r, "addr replace "+l.gw6+"/64 dev "+r+" nodad",
			"addr replace "+l.gw2+"/24 dev "+r, "addr replace "+l.gw62+"/64 dev "+r+" nodad")
		if l.n < 2 {
			x.routerAfter = append(x.routerAfter, routerSetup(false, l.n)...)
		}
	}
	x.ip = append(x.ip, a.configure(l)...)
	return x
}
