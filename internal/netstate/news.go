package netstate

// News is what an event says that made something: an address, or a route of main
// with one nexthop. One of the two is set; nobody changes what they point to.
type News struct {
	Addr  *Addr
	Route *Route
}

// maxNews is how many events a hint tells of. A new uplink has three: its address,
// the route to its subnet and the default route.
const maxNews = 8

// Link is the ifindex that it is about.
func (n News) Link() int {
	if n.Addr != nil {
		return n.Addr.Link
	}
	return n.Route.Link
}

// Family is the family that it is about.
func (n News) Family() Family {
	if n.Addr != nil {
		return n.Addr.Family()
	}
	return n.Route.Family
}

// Text says what came: "address added on eth0".
func (n News) Text(names Names) string {
	if n.Addr != nil {
		return "address " + n.Addr.IP().String() + " added on " + names.Name(n.Addr.Link)
	}
	return "route added: " + n.Route.Brief(names)
}

// Why is the reason of the hints, for the log.
func (h *Hints) Why(names Names) string {
	if h.Reason == "" && len(h.News) > 0 {
		return h.News[0].Text(names)
	}
	return h.Reason
}

// hear adds the news of other hints. What is not told whole is not told at all,
// but for the first of it, which is the reason.
func (h *Hints) hear(other Hints) {
	if h.Told = h.Told && other.Told && len(h.News)+len(other.News) <= maxNews; h.Told {
		h.News = append(h.News, other.News...)
	} else if len(h.News) > 1 {
		h.News = h.News[:1:1]
	}
}
