package status

import "encoding/json"

// Change is one operation on the kernel.
type Change struct {
	Command string `json:"command"` // as a command of ip(8)
	Reason  string `json:"reason"`
	Error   string `json:"error,omitempty"` // why the kernel refused it
}

// Plan is the answer to GET /v1/plan: what would change now.
type Plan struct {
	Schema int `json:"schema"`
	// Namespace is the cookie of the network namespace that the plan is for; 0: not known.
	Namespace uint64   `json:"namespace"`
	Changes   []Change `json:"changes"`
	// Kept are changes that wait: endpoints that go once no connection depends on them.
	Kept []Change `json:"kept"`
	// Findings are what the plan could not do, or leaves alone.
	Findings []Finding `json:"findings"`
}

// Finding is a Condition without its history.
type Finding struct {
	Code     string   `json:"code"`
	Severity Severity `json:"severity"`
	Object   string   `json:"object"`
	Text     string   `json:"text"`
	Remedy   string   `json:"remedy"`
}

// Reconciled is the answer to POST /v1/reconcile.
type Reconciled struct {
	Schema          int      `json:"schema"`
	State           State    `json:"state"`
	Changes         []Change `json:"changes"`
	DurationSeconds float64  `json:"duration_seconds"`
}

// Reloaded is the answer to POST /v1/reload.
type Reloaded struct {
	Schema int `json:"schema"`
	// Taken tells whether the daemon follows the files now; if not, what ran
	// before goes on, and Problems say why.
	Taken    bool      `json:"taken"`
	Config   []string  `json:"config"` // the files of the configuration that runs now
	Problems []Problem `json:"problems"`
	// Report is the problems in several lines for a terminal.
	Report  string   `json:"report,omitempty"`
	State   State    `json:"state"`
	Changes []Change `json:"changes"` // that the other configuration brought so far
}

// Problem is one mistake in a configuration.
type Problem struct {
	File    string `json:"file,omitempty"`         // absent: no file's
	Line    int    `json:"line,omitempty"`         // from 1; absent: the file as a whole
	Column  int    `json:"column,omitempty"`       // in characters, from 1
	Text    string `json:"text"`                   // what is wrong
	Meant   string `json:"did_you_mean,omitempty"` // what was probably meant
	Allowed string `json:"allowed,omitempty"`      // what can stand there
	Excerpt string `json:"excerpt,omitempty"`      // the line in question
}

// Waited is the answer to GET /v1/wait.
type Waited struct {
	Schema int      `json:"schema"`
	Done   bool     `json:"done"`
	State  State    `json:"state"`
	Links  []string `json:"links"` // distinct links that are live paths
	// Missing says what is waited for, in words; empty when done.
	Missing []string `json:"missing"`
}

// Version is the answer to GET /v1/version.
type Version struct {
	Schema  int    `json:"schema"`
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
}

// Failure is the body of every answer that is not 2xx.
type Failure struct {
	Schema int    `json:"schema"`
	Error  string `json:"error"`
	Remedy string `json:"remedy,omitempty"`
}

// MarshalJSON writes empty lists as [] and the schema number.
func (p Plan) MarshalJSON() ([]byte, error) {
	type plain Plan
	p.Schema = Schema
	fill(&p.Changes)
	fill(&p.Kept)
	fill(&p.Findings)
	return json.Marshal(plain(p))
}

// MarshalJSON writes empty lists as [] and the schema number.
func (r Reconciled) MarshalJSON() ([]byte, error) {
	type plain Reconciled
	r.Schema = Schema
	fill(&r.Changes)
	return json.Marshal(plain(r))
}

// MarshalJSON writes empty lists as [] and the schema number.
func (r Reloaded) MarshalJSON() ([]byte, error) {
	type plain Reloaded
	r.Schema = Schema
	fill(&r.Config)
	fill(&r.Problems)
	fill(&r.Changes)
	return json.Marshal(plain(r))
}

// MarshalJSON writes empty lists as [] and the schema number.
func (w Waited) MarshalJSON() ([]byte, error) {
	type plain Waited
	w.Schema = Schema
	fill(&w.Links)
	fill(&w.Missing)
	return json.Marshal(plain(w))
}
