// Package control serves the daemon's control socket: HTTP with JSON on a Unix
// socket that any local user may read and that root and the members of a group
// may write.
//
// The files: control (what is served, and the limits), listen (the socket file),
// bound (how many connections, and whose), peer (who may write), server (the
// life of the server), routes and handlers (the requests), events (the stream),
// loop and follow (answers from the loop's views).
package control

import (
	"context"
	"time"

	"github.com/subflowd/subflowd/pkg/status"
)

// Group is the name of the group whose members may write.
const Group = "subflowd"

// Paths that are served.
const (
	PathStatus    = "/v1/status"    // GET: status.Document
	PathPlan      = "/v1/plan"      // GET: status.Plan
	PathWait      = "/v1/wait"      // GET: status.Waited; paths=N, timeout=SECONDS
	PathVersion   = "/v1/version"   // GET: status.Version
	PathExplain   = "/v1/explain"   // GET: status.Explanation; what=WHAT
	PathEvents    = "/v1/events"    // GET: status.Event, a line each until the client goes; recent=N
	PathReconcile = "/v1/reconcile" // POST: status.Reconciled
	PathReload    = "/v1/reload"    // POST: status.Reloaded
	PathMetrics   = "/metrics"      // GET: the text format of Prometheus
)

// MaxWait is how long one request to PathWait may last; a client that wants
// more asks again.
const MaxWait = 30 * time.Second

// The limits of what any local user can make the daemon hold: each connection
// costs a descriptor, a goroutine and two buffers of 4 KiB.
const (
	maxConns      = 128
	maxOtherConns = 112 // the rest is for root and the daemon's own user
	maxUserConns  = 32  // of one user who is neither

	// Those that are one too many and wait to be told.
	maxBusy      = 24
	maxOtherBusy = 16
	maxUserBusy  = 8

	maxHeaderBytes = 4 << 10

	// Streams of events stay open, and must leave room for questions.
	maxStreams      = 96
	maxOtherStreams = 64
	maxUserStreams  = 16

	maxBodyBytes = 4 << 10

	readTimeout      = 10 * time.Second // of a whole request
	writeTimeout     = 10 * time.Second
	idleTimeout      = 10 * time.Second
	reconcileTimeout = time.Minute
	shutdownTimeout  = 500 * time.Millisecond
)

// MaxRecent is how many changes a daemon remembers at least, for a stream that
// begins with them.
const MaxRecent = 128

// Follower is one reader of events. It is for one goroutine.
type Follower interface {
	// Next lists what happened since the last call, and never waits. What the
	// daemon does not remember any more is one event that says how much was lost.
	Next() []status.Event
}

// Backend answers the requests. Its methods may be called by several goroutines
// at once.
type Backend interface {
	// Status describes what the daemon knows and wants now.
	Status() status.Document
	// Traffic adds to the paths of a status what they carry.
	Traffic(paths []status.Path)
	// Plan lists what would change now.
	Plan() status.Plan
	// Reconcile reads everything again, puts it right and returns what it did.
	// Changes that the kernel refused are no error.
	Reconcile(ctx context.Context) (status.Reconciled, error)
	// Explain says what the daemon makes of a link, an address or a destination;
	// false: there is no such thing.
	Explain(what string) (status.Explanation, bool)
	// Reload reads the configuration again. One that is wrong is no error: the
	// answer says so.
	Reload(ctx context.Context) (status.Reloaded, error)
	// Follow begins a stream of events, with the last recent changes first.
	Follow(recent int) Follower
	// Changed returns a channel that is closed once Status may answer otherwise
	// than at the time of the call.
	Changed() <-chan struct{}
}
