package kernel

import "github.com/subflowd/subflowd/internal/netstate"

// fewIdle is up to how many links that may get an address have their path tables
// read before they do: then the reading is no part of what a new path waits for.
const fewIdle = 4

// pathLinks are the links whose path tables matter. Ports have none, nor do links
// without an address that can be an uplink's: a host with hundreds of containers
// has hundreds of them. What is left of ours in the table of such a link is found
// as stale.
func (k *Kernel) pathLinks() []int {
	addressed := make(map[int]bool, 8)
	for i := range k.addrs {
		if a := &k.addrs[i]; netstate.Routable(a.IP()) {
			addressed[a.Link] = true
		}
	}
	var links, idle []int
	for i := range k.links {
		l := &k.links[i]
		if l.Loopback() || l.Master != 0 {
			continue
		}
		switch {
		case addressed[l.Index]:
			links = append(links, l.Index)
		case l.Up() && l.Carrier():
			idle = append(idle, l.Index)
		}
	}
	if len(idle) > fewIdle {
		idle = nil
	}
	return append(links, idle...)
}

// wantedTables maps every table that matters to the link whose path table it
// is, or to 0.
func (k *Kernel) wantedTables() map[tableID]int {
	links, base := k.pathLinks(), k.options.Load().TableBase
	wanted := make(map[tableID]int, 2+2*len(links)+len(k.rules)/8)
	for _, f := range k.families {
		for _, i := range links {
			wanted[tableID{f, base + uint32(i)}] = i
		}
		wanted[tableID{f, netstate.TableMain}] = 0
	}
	for _, r := range k.rules {
		if r.Action != netstate.ActLookup || r.Table == 0 || r.Table == netstate.TableLocal {
			continue
		}
		if _, path := wanted[tableID{r.Family, r.Table}]; !path {
			wanted[tableID{r.Family, r.Table}] = 0
		}
	}
	return wanted
}
