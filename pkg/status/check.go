package status

import "encoding/json"

// Checked is what `subflowctl check` found.
type Checked struct {
	Schema int `json:"schema"`
	// Namespace is the cookie of the network namespace that was looked at; 0: not known.
	Namespace uint64 `json:"namespace"`
	// Daemon tells whether a daemon of this namespace answered.
	Daemon bool `json:"daemon"`
	// Links are the names of the distinct links that are paths.
	Links    []string       `json:"links"`
	Findings []CheckFinding `json:"findings"`
	// Unseen is what could not be looked at, and why.
	Unseen   []Unseen  `json:"unseen"`
	Services []Service `json:"services"`
}

// CheckFinding is a Finding with what was seen and what follows from it.
type CheckFinding struct {
	Code        string   `json:"code"`
	Severity    Severity `json:"severity"`
	Object      string   `json:"object"`
	Text        string   `json:"text"`
	Evidence    []string `json:"evidence"`
	Consequence string   `json:"consequence"`
	Remedy      string   `json:"remedy"` // a command where there is one; may be empty
}

// Unseen is something that was not looked at.
type Unseen struct {
	What   string `json:"what"`
	Reason string `json:"reason"` // "needs CAP_NET_ADMIN"
}

// Service is a program that waits for connections from outside.
type Service struct {
	Address string `json:"address"` // "0.0.0.0", "::": every one
	Port    uint16 `json:"port"`
	MPTCP   bool   `json:"mptcp"` // whether it takes Multipath TCP
	// Program and PID are absent where they may not be seen.
	Program string `json:"program,omitempty"`
	PID     int    `json:"pid,omitempty"`
}

// MarshalJSON writes empty lists as [] and the schema number.
func (c Checked) MarshalJSON() ([]byte, error) {
	type plain Checked
	c.Schema = Schema
	fill(&c.Links)
	fill(&c.Findings)
	fill(&c.Unseen)
	fill(&c.Services)
	return json.Marshal(plain(c))
}

// MarshalJSON writes empty lists as [].
func (f CheckFinding) MarshalJSON() ([]byte, error) {
	type plain CheckFinding
	fill(&f.Evidence)
	return json.Marshal(plain(f))
}
