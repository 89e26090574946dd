package logging

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
)

const (
	// patience is how long a line may take that nothing waits before: a journal
	// that stands still takes some 170, and then none.
	patience = 100 * time.Millisecond
	// maxWaiting is how many lines are kept for it.
	maxWaiting = 1000
	// lastWait is how long the end of the program waits for it.
	lastWait = time.Second
)

type line struct {
	message  string
	priority journal.Priority
	vars     map[string]string
}

// outbox sends lines in their order. Routes and rules must not wait for a
// journal that waits for its disk: put returns soon even if nothing is taken.
type outbox struct {
	send     func(message string, p journal.Priority, vars map[string]string) error
	fallback io.Writer

	mu      sync.Mutex
	sending chan struct{} // closed when nothing is being sent any more; nil: nothing is
	waiting []line
	lost    int
}

// put sends a line, or has it sent where one before it is still on its way.
func (o *outbox) put(l line) {
	o.mu.Lock()
	if o.sending != nil {
		if len(o.waiting) < maxWaiting {
			o.waiting = append(o.waiting, l)
		} else {
			o.lost++
		}
		o.mu.Unlock()
		return
	}
	done := make(chan struct{})
	o.sending = done
	o.mu.Unlock()
	go o.drain(l, done)
	wait(done, patience)
}

// flush waits until all is sent, for lastWait at most.
func (o *outbox) flush() {
	o.mu.Lock()
	done := o.sending
	o.mu.Unlock()
	if done != nil {
		wait(done, lastWait)
	}
}

func wait(done <-chan struct{}, most time.Duration) {
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
}

// drain sends a line and all that come meanwhile.
func (o *outbox) drain(l line, done chan<- struct{}) {
	for ok := true; ok; l, ok = o.next() {
		// What the journal does not take goes to standard error, which under
		// systemd leads there by another way.
		if o.send(l.message, l.priority, l.vars) != nil {
			_, _ = fmt.Fprintln(o.fallback, l.message)
		}
	}
	close(done)
}

// next is the line to send now. Where there is none, the next put sends again.
func (o *outbox) next() (line, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case len(o.waiting) > 0:
		l := o.waiting[0]
		o.waiting = o.waiting[1:]
		return l, true
	case o.lost > 0:
		l := line{
			fmt.Sprintf("the journal stood still: %d lines were not sent", o.lost), journal.PriWarning,
			map[string]string{"SYSLOG_IDENTIFIER": identifier},
		}
		o.lost = 0
		return l, true
	}
	o.sending, o.waiting = nil, nil
	return line{}, false
}
