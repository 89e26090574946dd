package chaos

import (
	"fmt"
	"strings"
)

// routing adds, changes and deletes routes of main and of tables of others.
func (a *author) routing() action {
	l := a.uplink()
	if len(a.routes) > 0 && a.IntN(4) == 0 {
		i := a.IntN(len(a.routes))
		r := a.routes[i]
		a.routes = append(a.routes[:i:i], a.routes[i+1:]...)
		return action{ip: []string{strings.Replace(r, "route ", "route del ", 1)}}
	}
	n := a.next()
	add := func(route string) action {
		a.routes = append(a.routes, route)
		return action{ip: []string{strings.Replace(route, "route ", "route add ", 1)}}
	}
	f, gw, gw2, dst := "", l.gw, l.gw2, fmt.Sprintf("10.50.%d.0/%d", n%250, pick(a, 24, 25, 32))
	if a.IntN(2) == 0 {
		f, gw, gw2, dst = "-6 ", l.gw6, l.gw62, fmt.Sprintf("2001:db8:50:%x::/%d", n, pick(a, 64, 80))
	}
	switch a.IntN(14) {
	case 0:
		return a.metric(l)
	case 1:
		return a.gateway(l)
	case 2: // another default by the same link
		return add(fmt.Sprintf("%sroute default via %s dev %s metric %d", f, gw2, l.dev, 1000+n))
	case 3:
		return add(fmt.Sprintf("%sroute %s via %s dev %s proto %s", f, dst, gw, l.dev, pick(a, "static", "dhcp", "bgp", "boot")))
	case 4:
		return add(fmt.Sprintf("%sroute %s dev %s", f, dst, l.dev))
	case 5:
		return add(fmt.Sprintf("%sroute %s %s", f, pick(a, "blackhole", "unreachable", "prohibit"), dst))
	case 6: // the best default, and one that never counts
		return add(fmt.Sprintf("%sroute unreachable default metric %d", f, pick(a, 7, 4278198272)))
	case 7: // inside a subnet that may be shared
		inside := []string{"10.1.1.192/26", "10.1.2.192/27", "192.168.0.192/26", "192.168.0.200/32"}
		return add("route " + pick(a, inside...) + " dev " + l.dev)
	case 8:
		return add("-6 route " + pick(a, "2001:db8:1:0:8000::/65", "2001:db8:2:0:8000::/66", "2001:db8:1::700/128") + " dev " + l.dev)
	case 9:
		o := a.uplink()
		ogw := o.gw
		if f != "" {
			ogw = o.gw6
		}
		if o == l {
			return action{}
		}
		return add(fmt.Sprintf("%sroute default metric %d nexthop via %s dev %s nexthop via %s dev %s", f, 2000+n, gw, l.dev, ogw, o.dev))
	case 10, 11:
		return a.table(l, f, gw)
	case 12: // in the table of the daemon
		return add(fmt.Sprintf("%sroute %s via %s dev %s table {table %s} proto static", f, dst, gw, l.dev, l.dev))
	}
	return add(fmt.Sprintf("%sroute %s via %s dev %s mtu 1400 %s", f, dst, gw, l.dev, pick(a, "", "onlink")))
}

// metric moves a link's default routes before or behind the others.
func (a *author) metric(l *link) action {
	old4, old6 := l.default4(), l.default6()
	l.metric = 50 + a.IntN(30)*25
	return action{ip: []string{"route add " + l.default4(), "-6 route add " + l.default6(), "route del " + old4, "-6 route del " + old6}}
}

// gateway has a link's router replaced in place.
func (a *author) gateway(l *link) action {
	old6 := l.default6()
	l.gw, l.gw2, l.gw6, l.gw62 = l.gw2, l.gw, l.gw62, l.gw6
	return action{ip: []string{"route replace " + l.default4(), "-6 route del " + old6, "-6 route add " + l.default6()}}
}

// table puts a default route into a table of its own, often with a rule that leads there.
func (a *author) table(l *link, f, gw string) action {
	a.tables++
	t := 900 + a.tables
	route := fmt.Sprintf("%sroute default via %s dev %s table %d", f, gw, l.dev, t)
	a.routes = append(a.routes, route)
	x := action{ip: []string{strings.Replace(route, "route ", "route add ", 1)}}
	if a.IntN(3) > 0 {
		x.ip = append(x.ip, a.addRule(a.rule(l, f, t))...)
	}
	return x
}

// rule selects in all the ways that others do.
func (a *author) rule(l *link, f string, table int) string {
	addr, net, to := l.addr, fmt.Sprintf("10.77.%d.0/24", a.next()%250), fmt.Sprintf("203.0.113.%d", a.next()%250)
	if f != "" {
		addr, net, to = l.addr6, fmt.Sprintf("2001:db8:77:%x::/64", a.next()), fmt.Sprintf("2001:db8:88::%x", a.next())
	}
	selector := pick(a, "from "+addr, "from "+addr, "from "+net, "to "+to, "from "+addr+" to "+to,
		fmt.Sprintf("fwmark %d", 1+a.next()), "from all")
	priority := pick(a, "", "", " pref 32765", " pref 32765", fmt.Sprintf(" pref %d", 1000+a.next()))
	return fmt.Sprintf("%srule %s lookup %d%s", f, selector, table, priority)
}

// ruling adds and deletes rules of others.
func (a *author) ruling() action {
	if len(a.rules) > 0 && a.IntN(3) == 0 {
		i := a.IntN(len(a.rules))
		r := a.rules[i]
		a.rules = append(a.rules[:i:i], a.rules[i+1:]...)
		return action{ip: []string{strings.Replace(r, "rule ", "rule del ", 1)}}
	}
	l, f := a.uplink(), pick(a, "", "-6 ")
	var rule string
	switch a.IntN(5) {
	case 0:
		rule = f + "rule from all lookup main suppress_prefixlength 0 pref " + fmt.Sprint(500+a.next())
	case 1:
		addr := l.addr
		if f != "" {
			addr = l.addr6
		}
		rule = fmt.Sprintf("%srule from %s lookup main suppress_prefixlength 0 pref 32765 protocol %d", f, addr, pick(a, 3, 4))
	case 2:
		to := fmt.Sprintf("203.0.113.%d", a.next()%250)
		if f != "" {
			to = fmt.Sprintf("2001:db8:88::%x", a.next())
		}
		rule = fmt.Sprintf("%srule to %s %s%s", f, to, pick(a, "blackhole", "prohibit", "unreachable"), pick(a, "", " pref 32765"))
	default:
		rule = a.rule(l, f, 900+a.IntN(a.tables+1))
	}
	return action{ip: a.addRule(rule)}
}

// addRule adds a rule unless there is one like it: the kernel refuses the same rule of the same priority, and the one
// that it gives by default is another one beside the daemon.
func (a *author) addRule(rule string) []string {
	like := func(r string) string {
		r, _, _ = strings.Cut(r, " pref ")
		return r
	}
	for _, r := range a.rules {
		if like(r) == like(rule) {
			return nil
		}
	}
	if f := family(rule); a.local[f] == behind && !strings.Contains(rule, " pref ") {
		// The priority that the kernel gives is the one before the second rule's: beside the daemon it is then before the
		// rule local, without it behind that.
		rule += fmt.Sprintf(" pref %d", 1000+a.next())
	}
	a.rules = append(a.rules, rule)
	return []string{strings.Replace(rule, "rule ", "rule add ", 1)}
}

func family(command string) string {
	if strings.HasPrefix(command, "-6 ") {
		return "-6"
	}
	return "-4"
}
