package status

import (
	"encoding/json"
	"time"
)

// State is how far the kernel is from what the daemon wants.
type State string

// States of the daemon.
const (
	Converged  State = "converged"  // the kernel holds what it should
	Converging State = "converging" // changes are under way, or nothing has been read yet
	Failing    State = "failing"    // changes were refused and are tried again
)

// Document is the answer to GET /v1/status.
type Document struct {
	Schema int       `json:"schema"`
	Time   time.Time `json:"time"` // when the document was made
	Daemon Daemon    `json:"daemon"`
	State  State     `json:"state"`
	// Paths are the uplinks, one entry for each link and family.
	Paths []Path `json:"paths"`
	// Ignored are the links that are no path in a family, with the reason.
	Ignored []Link `json:"ignored"`
	// Endpoints are all that the path manager holds or should hold.
	Endpoints  []Endpoint  `json:"endpoints"`
	Limits     Limits      `json:"limits"`
	Probe      *Probe      `json:"probe,omitempty"` // absent: no target is configured
	MPTCP      MPTCP       `json:"mptcp"`
	Conditions []Condition `json:"conditions"` // the worst first
	// Pending are the changes that are still to be made; empty when converged.
	Pending []Pending `json:"pending"`
	// Contentions name what somebody else keeps undoing.
	Contentions []Contention `json:"contentions"`
	LastRound   Round        `json:"last_round"`
	LastChange  *LastChange  `json:"last_change,omitempty"` // absent: nothing was changed since the start
	Counters    Counters     `json:"counters"`
}

// Daemon says who answers.
type Daemon struct {
	Version string    `json:"version"`
	Commit  string    `json:"commit,omitempty"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	// Namespace is the network namespace's cookie (SO_NETNS_COOKIE, socket(7)); 0 where the kernel has none.
	Namespace uint64 `json:"namespace"`
	// Config lists the files that were read; empty: built-in defaults.
	Config []string `json:"config"`
}

// PathState says what a path can do now.
type PathState string

// States of paths.
const (
	Live  PathState = "live"
	Grace PathState = "grace" // lost its carrier less than 10 s ago
	Dark  PathState = "dark"  // has no carrier
)

// Family is "ipv4" or "ipv6".
type Family string

// Families.
const (
	IPv4 Family = "ipv4"
	IPv6 Family = "ipv6"
)

// Path is one uplink in one family.
type Path struct {
	Link       string    `json:"link"`
	Ifindex    int       `json:"ifindex"`
	Family     Family    `json:"family"`
	State      PathState `json:"state"`
	Source     string    `json:"source"`     // what makes it an uplink
	Table      uint32    `json:"table"`      // its routing table
	Metric     uint32    `json:"metric"`     // of its best default route
	Preference int       `json:"preference"` // lower first, before the metric
	Backup     bool      `json:"backup"`
	Gateways   []string  `json:"gateways"` // best first; empty: the peer of a point-to-point link
	Addresses  []Address `json:"addresses"`
	// SharedPrefixes are on-link prefixes that another link has too.
	SharedPrefixes []string `json:"shared_prefixes"`
	// Probe is what the daemon's tests found; absent: the path is not tested.
	Probe *PathProbe `json:"probe,omitempty"`
	// Traffic is what the path carries; absent where the kernel could not be asked.
	Traffic *Traffic `json:"traffic,omitempty"`
}

// Traffic is what a path carries.
type Traffic struct {
	// Bytes of the link since it was made, of all protocols and both families.
	LinkSentBytes     uint64 `json:"link_sent_bytes"`
	LinkReceivedBytes uint64 `json:"link_received_bytes"`
	// Omitted: there are too many connections to look at, or the kernel hides them;
	// what follows is then 0.
	Omitted bool `json:"omitted"`
	// Connections and Subflows count those that use the path now; the bytes are
	// those of these subflows.
	Connections   int    `json:"connections"`
	Subflows      int    `json:"subflows"`
	SentBytes     uint64 `json:"sent_bytes"`
	ReceivedBytes uint64 `json:"received_bytes"`
}

// Address is one address of a path.
type Address struct {
	Address  string `json:"address"`
	Rules    bool   `json:"rules"`    // has source rules
	Endpoint bool   `json:"endpoint"` // is meant to have an endpoint
	Reason   string `json:"reason"`   // why it has or lacks them
}

// Link is a link that is no path in a family.
type Link struct {
	Link    string `json:"link"`
	Ifindex int    `json:"ifindex"`
	Family  Family `json:"family"`
	Reason  string `json:"reason"`
}

// EndpointState says where an endpoint stands.
type EndpointState string

// States of endpoints.
const (
	Wanted    EndpointState = "wanted"    // ours, in the kernel, as it should be
	Missing   EndpointState = "missing"   // should be in the kernel and is not yet
	Foreign   EndpointState = "foreign"   // somebody else's, left alone
	Lingering EndpointState = "lingering" // unwanted, kept until no connection depends on it
)

// Endpoint is one address of the path manager.
type Endpoint struct {
	ID      uint8         `json:"id"` // 0: not in the kernel
	Address string        `json:"address"`
	Port    uint16        `json:"port,omitempty"`
	Link    string        `json:"link"`    // empty: bound to none
	Ifindex int           `json:"ifindex"` // 0: bound to none
	Flags   []string      `json:"flags"`   // words of ip-mptcp(8)
	State   EndpointState `json:"state"`
	Reason  string        `json:"reason"`
	// Since is when a lingering endpoint became unwanted, Connections how many
	// connections need it, and WaitsFor what keeps it, in words.
	Since       *time.Time `json:"since,omitempty"`
	Connections int        `json:"connections,omitempty"`
	WaitsFor    string     `json:"waits_for,omitempty"`
}

// Limits are the path manager's limits for each connection.
type Limits struct {
	Current LimitValues  `json:"current"`
	Wanted  *LimitValues `json:"wanted,omitempty"` // absent: left alone
	// Found are the limits before the daemon's first change; absent: it changed none.
	Found *LimitValues `json:"found,omitempty"`
	// Maximum is the highest value of each limit that the kernel takes; 0: not known.
	Maximum uint32 `json:"maximum"`
	// MaxEndpoints is how many endpoints the kernel takes; 0: not known.
	MaxEndpoints int `json:"max_endpoints"`
}

// LimitValues are one pair of limits.
type LimitValues struct {
	Subflows        uint32 `json:"subflows"`
	AddAddrAccepted uint32 `json:"add_addr_accepted"`
}

// MPTCP is the state of Multipath TCP in the kernel.
type MPTCP struct {
	Present     bool `json:"present"`      // the kernel has it
	Enabled     bool `json:"enabled"`      // net.mptcp.enabled
	UserspacePM bool `json:"userspace_pm"` // net.mptcp.pm_type chose another path manager
}

// Severity of a condition.
type Severity string

// Severities.
const (
	Info    Severity = "info"
	Warning Severity = "warning"
	Error   Severity = "error"
)

// Condition is something that a person should know.
type Condition struct {
	Code     string    `json:"code"` // stable, lower case with dashes
	Severity Severity  `json:"severity"`
	Object   string    `json:"object"` // a link, an address, "kernel"
	Text     string    `json:"text"`   // one sentence
	Remedy   string    `json:"remedy"` // what to do; may be empty
	Since    time.Time `json:"since"`
}

// Pending is a change that is still to be made.
type Pending struct {
	Command string     `json:"command"` // as a command of ip(8)
	Reason  string     `json:"reason"`
	Error   string     `json:"error,omitempty"` // of the last attempt; absent: not tried
	Tries   int        `json:"tries"`
	Since   time.Time  `json:"since"`
	Next    *time.Time `json:"next,omitempty"` // the next attempt
}

// Contention is an object that somebody else keeps undoing.
type Contention struct {
	Object string    `json:"object"` // "rules of 10.1.1.2"
	Count  int       `json:"count"`  // how often it was undone since it last kept still
	Since  time.Time `json:"since"`
	Last   time.Time `json:"last"` // when it was last found undone
	// PauseSeconds is how long the next repair is put off; 0: not at all.
	PauseSeconds float64 `json:"pause_seconds"`
}

// Round is one pass of the daemon's loop, from the hint to the verification.
type Round struct {
	Trigger     string     `json:"trigger"`           // why it ran
	Started     *time.Time `json:"started,omitempty"` // absent: no round is over yet
	TookSeconds float64    `json:"took_seconds"`
	Changed     int        `json:"changed"` // changes that were made
	Failed      int        `json:"failed"`
}

// LastChange is the newest change that the kernel took.
type LastChange struct {
	Time    time.Time `json:"time"`
	Command string    `json:"command"` // as a command of ip(8)
	Reason  string    `json:"reason"`
	Trigger string    `json:"trigger"` // of the round that made it
}

// Counters count since the daemon's start.
type Counters struct {
	Rounds    uint64 `json:"rounds"`
	FullReads uint64 `json:"full_reads"`
	Overflows uint64 `json:"overflows"` // lost notifications, each followed by a full read
	// LastOverflow is when the last of them was noticed; absent: there was none.
	LastOverflow *time.Time `json:"last_overflow,omitempty"`
	ReadErrors   uint64     `json:"read_errors"`
	Changes      uint64     `json:"changes"`
	Failures     uint64     `json:"failures"`
	Kicks        uint64     `json:"kicks"` // idle connections that were offered a path late
}

// Links are the names of the distinct links among the live paths, in order of
// appearance. Links in grace and dark ones do not count: nothing leaves by them.
func (d *Document) Links() []string {
	var names []string
	seen := map[int]bool{}
	for _, p := range d.Paths {
		if p.State == Live && !seen[p.Ifindex] {
			seen[p.Ifindex] = true
			names = append(names, p.Link)
		}
	}
	return names
}

// MarshalJSON writes empty lists as [] and the schema number.
func (d Document) MarshalJSON() ([]byte, error) {
	type plain Document
	d.Schema = Schema
	fill(&d.Paths)
	fill(&d.Ignored)
	fill(&d.Endpoints)
	fill(&d.Conditions)
	fill(&d.Pending)
	fill(&d.Contentions)
	fill(&d.Daemon.Config)
	return json.Marshal(plain(d))
}

// MarshalJSON writes empty lists as [].
func (p Path) MarshalJSON() ([]byte, error) {
	type plain Path
	fill(&p.Gateways)
	fill(&p.Addresses)
	fill(&p.SharedPrefixes)
	return json.Marshal(plain(p))
}

// MarshalJSON writes empty lists as [].
func (e Endpoint) MarshalJSON() ([]byte, error) {
	type plain Endpoint
	fill(&e.Flags)
	return json.Marshal(plain(e))
}

func fill[T any](s *[]T) {
	if *s == nil {
		*s = []T{}
	}
}
