package status

import (
	"encoding/json"
	"time"
)

// CounterLevel says how much a counter that is not zero means.
type CounterLevel string

// Levels of counters.
const (
	CounterUsual   CounterLevel = "usual"   // counts what happens all day
	CounterNotable CounterLevel = "notable" // worth a look when it grows
	CounterTrouble CounterLevel = "trouble" // something is wrong here or on the way
	CounterUnknown CounterLevel = "unknown" // this program does not know it
)

// KernelCounters is what `subflowctl -o json counters` prints: counters of the
// kernel that have to do with Multipath TCP, of this network namespace.
type KernelCounters struct {
	Schema int       `json:"schema"`
	Time   time.Time `json:"time"`
	// IntervalSeconds is the time that Added counts; 0: since the namespace was made.
	IntervalSeconds float64         `json:"interval_seconds"`
	Counters        []KernelCounter `json:"counters"`
}

// KernelCounter is one counter with its meaning.
type KernelCounter struct {
	Group  string       `json:"group"` // of /proc/net/netstat: "MPTcpExt", "TcpExt"
	Name   string       `json:"name"`  // the kernel's own
	Value  uint64       `json:"value"` // since the namespace was made; MPCurrEstab: now
	Added  uint64       `json:"added"` // during the interval
	Level  CounterLevel `json:"level"`
	Text   string       `json:"text"`   // what it counts
	Remedy string       `json:"remedy"` // what to do when it grows; may be empty
}

// MarshalJSON writes an empty list as [] and the schema number.
func (c KernelCounters) MarshalJSON() ([]byte, error) {
	type plain KernelCounters
	c.Schema = Schema
	fill(&c.Counters)
	return json.Marshal(plain(c))
}
