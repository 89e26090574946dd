package netstate

// Op is a kind of change.
type Op uint8

// All kinds of changes. Each is idempotent: adding what is there with the same
// content, and deleting what is gone, succeed.
const (
	RouteAdd     Op = iota + 1 // never replaces: a foreign route of the same key makes it fail
	RouteReplace               // of our own route of the same key
	RouteDelete
	RuleAppend // behind all rules of its priority, a duplicate included
	RuleDelete // the first that matches the full key
	LimitsSet
	EndpointAdd
	EndpointSet    // backup and fullmesh, in place, by id
	EndpointDelete // by id, after the id was read again
)

// Change is one operation that brings the kernel nearer to the plan. Only the
// noun that the Op names is meaningful.
type Change struct {
	Op       Op
	Route    Route
	Rule     Rule
	Limits   Limits
	Found    Limits // what the limits were when they were read
	Checked  bool   // limits are set only if they are still as Found
	Endpoint Endpoint
	Reason   string // why, in words that follow "because"
}

// Family is the family of the change's object; IPv4 for limits.
func (c Change) Family() Family {
	switch c.Op {
	case RouteAdd, RouteReplace, RouteDelete:
		return c.Route.Family
	case RuleAppend, RuleDelete:
		return c.Rule.Family
	case EndpointAdd, EndpointSet, EndpointDelete:
		return FamilyOf(c.Endpoint.Addr)
	}
	return IPv4
}

// Link is the ifindex that the change is about; 0 where there is none.
func (c Change) Link() int {
	switch c.Op {
	case RouteAdd, RouteReplace, RouteDelete:
		return c.Route.Link
	case EndpointAdd, EndpointSet, EndpointDelete:
		return c.Endpoint.Link
	}
	return 0
}

// Text is the change as a command of ip(8).
func (c Change) Text(n Names) string {
	ip := "ip " + c.Family().Flag()
	switch c.Op {
	case RouteAdd:
		return ip + " route add " + c.Route.Text(n)
	case RouteReplace:
		return ip + " route replace " + c.Route.Text(n)
	case RouteDelete:
		return ip + " route del " + c.Route.Text(n)
	case RuleAppend:
		return ip + " rule add " + c.Rule.Text()
	case RuleDelete:
		return ip + " rule del " + c.Rule.Text()
	case LimitsSet:
		return "ip mptcp limits set " + c.Limits.Text()
	case EndpointAdd:
		return "ip mptcp endpoint add " + c.Endpoint.Text(n)
	case EndpointSet:
		return "ip mptcp endpoint change " + c.Endpoint.changeText()
	case EndpointDelete:
		return "ip mptcp endpoint delete " + c.Endpoint.deleteText()
	}
	return "nothing"
}

// String is Text with numbers for links.
func (c Change) String() string { return c.Text(nil) }
