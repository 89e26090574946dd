package status

import (
	"encoding/json"
	"time"
)

// Probe is the daemon's test of its paths ([probe] in subflowd.toml(5)).
type Probe struct {
	Target string `json:"target"` // host:port
	// Addresses are those that are tried now, one of each family, with port.
	Addresses       []string `json:"addresses"`
	IntervalSeconds float64  `json:"interval_seconds"` // between tests while all is well
	Error           string   `json:"error,omitempty"`  // why the name cannot be looked up
}

// ProbeState says whether the target answers over a path.
type ProbeState string

// States of paths for the probe.
const (
	ProbeUnknown ProbeState = "unknown" // not tested, or not often enough
	ProbeAnswers ProbeState = "answers"
	ProbeSilent  ProbeState = "silent" // over this path not, over another one it does
	ProbeDown    ProbeState = "down"   // over no path of the family, which says nothing of this one
)

// PathProbe is what the tests of a path found.
type PathProbe struct {
	State  ProbeState `json:"state"`
	Since  time.Time  `json:"since"`            // of the state
	Tested *time.Time `json:"tested,omitempty"` // the last test; absent: none
	// RTTSeconds is how long connecting took at the last answer; 0: none yet.
	RTTSeconds float64 `json:"rtt_seconds"`
	Failures   int     `json:"failures"` // tests in a row without an answer
	// HoldSeconds is how long a silent path must answer before it is used again.
	HoldSeconds float64 `json:"hold_seconds"`
}

// ProbeReport is what `subflowctl probe` found out about a server. It is no
// answer of the daemon.
type ProbeReport struct {
	Schema int       `json:"schema"`
	Time   time.Time `json:"time"`   // when it began
	Target string    `json:"target"` // as it was asked for
	// OK tells that Multipath TCP works with the server, over every path.
	OK bool `json:"ok"`
	// Verdict is what was found, in sentences, the most important first.
	Verdict []string `json:"verdict"`
	// Families are those in which the server has an address and this host a path.
	Families []ProbeFamily `json:"families"`
}

// ProbeFamily is the part of a ProbeReport about one address of the server.
type ProbeFamily struct {
	Family  Family `json:"family"`
	Address string `json:"address"` // of the server, with port
	// Connection is bound to nothing, as those of other programs are.
	Connection ProbeConnection `json:"connection"`
	// Joins are the further subflows of that connection that should be, and
	// those that were.
	Joins []ProbeJoin `json:"joins"`
	// Paths are connections of their own, each bound to a path.
	Paths []ProbeConnection `json:"paths"`
}

// ProbeOutcome says how an attempt ended.
type ProbeOutcome string

// Outcomes. The first is good for a connection, the second for a join.
const (
	ProbeMPTCP       ProbeOutcome = "mptcp"
	ProbeJoined      ProbeOutcome = "joined"
	ProbeFallback    ProbeOutcome = "fallback"    // to TCP: the server, or all that leads to it, speaks no Multipath TCP
	ProbeStripped    ProbeOutcome = "stripped"    // something on this path takes the options away
	ProbeBlocked     ProbeOutcome = "blocked"     // something on this path drops packets with the option, and lets TCP through
	ProbeRefused     ProbeOutcome = "refused"     // a reset in place of an answer
	ProbeTimeout     ProbeOutcome = "timeout"     // no answer
	ProbeUnreachable ProbeOutcome = "unreachable" // no route, or a router said so
	ProbeAbsent      ProbeOutcome = "absent"      // a join that this host has not tried
	ProbeFailed      ProbeOutcome = "failed"      // anything else; the text says what
)

// ProbeConnection is one connection of a probe.
type ProbeConnection struct {
	Link    string       `json:"link"`   // empty: none is known
	Source  string       `json:"source"` // the local address; empty: it got none
	Outcome ProbeOutcome `json:"outcome"`
	// HandshakeSeconds is how long connecting took, EchoSeconds how long until
	// the server had acknowledged the first data; 0: it did not come to that.
	HandshakeSeconds float64 `json:"handshake_seconds"`
	EchoSeconds      float64 `json:"echo_seconds"`
	Text             string  `json:"text"` // what the outcome means here; may be empty
}

// ProbeJoin is one further subflow.
type ProbeJoin struct {
	Link    string       `json:"link"`
	Source  string       `json:"source"`
	Remote  string       `json:"remote"` // address and port; empty: none was tried
	Outcome ProbeOutcome `json:"outcome"`
	// HandshakeSeconds is the round trip that the kernel measured; 0: none.
	HandshakeSeconds float64 `json:"handshake_seconds"`
	Text             string  `json:"text"` // what the outcome means here; may be empty
}

// MarshalJSON writes empty lists as [] and the schema number.
func (r ProbeReport) MarshalJSON() ([]byte, error) {
	type plain ProbeReport
	r.Schema = Schema
	fill(&r.Verdict)
	fill(&r.Families)
	return json.Marshal(plain(r))
}

// MarshalJSON writes empty lists as [].
func (f ProbeFamily) MarshalJSON() ([]byte, error) {
	type plain ProbeFamily
	fill(&f.Joins)
	fill(&f.Paths)
	return json.Marshal(plain(f))
}

// MarshalJSON writes empty lists as [].
func (p Probe) MarshalJSON() ([]byte, error) {
	type plain Probe
	fill(&p.Addresses)
	return json.Marshal(plain(p))
}
