package reconcile

import (
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/subflowd/subflowd/internal/netstate"
)

// maxRecent is how many changes a view remembers at least, beside those of its
// own round; it may be twice as many.
const maxRecent = 512

// apply carries the changes out in order and returns the kinds of state that
// they touched. The deletes of an exchange of rules are left out when one of
// its appends failed: the old set is better than none.
func (l *Loop) apply(r *round, list []netstate.Change) netstate.Kinds {
	var touched netstate.Kinds
	appended := map[object]bool{} // has appends in the batch
	start := 0
	flush := func(end int) {
		if start < end {
			touched |= l.batch(r, list[start:end])
		}
		start = end
		clear(appended)
	}
	for i, c := range list {
		o := objectOf(c)
		switch c.Op {
		case netstate.RuleAppend:
			appended[o] = true
		case netstate.RuleDelete:
			if appended[o] {
				flush(i)
			}
			if r.failed[o] {
				flush(i)
				start = i + 1
			}
		}
	}
	flush(len(list))
	return touched
}

// batch carries changes out together, and keeps the record true before and
// after.
func (l *Loop) batch(r *round, list []netstate.Change) netstate.Kinds {
	l.announce(list)
	return l.account(r, list, l.o.Kernel.Apply(list))
}

// announce writes into the record what has to be there before the changes are made.
func (l *Loop) announce(list []netstate.Change) {
	l.claim(list)
	var adds []netstate.Endpoint
	for i := range list {
		switch c := &list[i]; c.Op {
		case netstate.EndpointAdd:
			adds = append(adds, c.Endpoint)
		case netstate.LimitsSet:
			l.recorded(l.o.Record.SetLimits(l.snap.Limits, c.Limits))
		}
	}
	if len(adds) > 0 {
		l.recorded(l.o.Record.Announce(adds...))
	}
}

// account notes what became of changes that were made, and returns the kinds of
// state that they touched.
func (l *Loop) account(r *round, list []netstate.Change, errs []error) (touched netstate.Kinds) {
	var added, failed []netstate.Endpoint
	for i, c := range list {
		o, err := objectOf(c), errs[i]
		r.now[o] = true
		touched |= o.kinds()
		l.note(r, c, err)
		switch {
		case c.Op != netstate.EndpointAdd:
		case err != nil && !unanswered(err):
			failed = append(failed, c.Endpoint)
		default:
			added = append(added, c.Endpoint)
		}
	}
	r.reread = r.reread && touched&netstate.KindEndpoints == 0
	if len(failed) > 0 {
		// Announced and never made, it would pass for ours when somebody else
		// makes it.
		l.recorded(l.o.Record.Forget(failed...))
	}
	if len(added) > 0 {
		l.settle(r, added)
	}
	return touched
}

// unanswered tells whether a request may have been carried out though it failed:
// its answer did not come, or not whole. An endpoint that was announced stays so
// until the next look says whether it is there.
func unanswered(err error) bool {
	return slices.ContainsFunc([]error{
		syscall.ETIMEDOUT, syscall.ENOBUFS, syscall.EMSGSIZE, syscall.EINTR, syscall.EAGAIN,
	}, func(e error) bool { return errors.Is(err, e) })
}

// settle writes the ids of endpoints that were just added into the record.
func (l *Loop) settle(r *round, adds []netstate.Endpoint) {
	if !l.read(netstate.Hints{Kinds: netstate.KindEndpoints, Reason: r.Trigger}, time.Now()) {
		return
	}
	r.reread = true
	added := make(map[netip.Addr]netstate.Endpoint, len(adds))
	for _, e := range adds {
		added[e.Addr] = e
	}
	var found []netstate.Endpoint
	for _, e := range l.snap.Endpoints {
		if a, ok := added[e.Addr]; ok && a.Link == e.Link && e.Port == 0 && e.Flags&netstate.ImplicitFlag == 0 {
			if _, known := l.o.Record.Owned().Endpoints[e.Addr]; known {
				found = append(found, e)
			}
		}
	}
	if len(found) > 0 {
		l.recorded(l.o.Record.Settle(found...))
	}
}

// tidy makes the record agree with the kernel, and tells whether anything was
// written. Without a record, endpoints are taken for ours that are exactly what
// the plan wants. What a killed daemon announced gets its id, or is forgotten
// like what somebody else deleted: whoever makes such an endpoint next owns it.
func (l *Loop) tidy() bool {
	owned := l.o.Record.Owned()
	there := make(map[netip.Addr]netstate.Endpoint, len(l.snap.Endpoints))
	for _, e := range l.snap.Endpoints {
		if e.Port == 0 && e.Flags&netstate.ImplicitFlag == 0 {
			there[e.Addr] = e
		}
	}
	var settle, forget []netstate.Endpoint
	if !owned.Known {
		for _, w := range l.plan.Endpoints {
			if e, ok := there[w.Addr]; ok && e.Link == w.Link && e.Flags == w.Flags {
				settle = append(settle, e)
			}
		}
	}
	for _, o := range owned.Endpoints {
		e, ok := there[o.Addr]
		switch {
		case !ok || e.Link != o.Link:
			forget = append(forget, o)
		case o.ID == 0:
			settle = append(settle, e)
		}
	}
	if len(settle) > 0 {
		l.recorded(l.o.Record.Settle(settle...))
	}
	if len(forget) > 0 {
		l.recorded(l.o.Record.Forget(forget...))
	}
	return len(settle)+len(forget) > 0
}

// recorded notes the outcome of a write to the record. A record that cannot be
// written does not stop the work: it only makes endpoints ours by their looks
// alone after the next start.
func (l *Loop) recorded(err error) {
	if err != nil && (l.recordErr == nil || l.recordErr.Error() != err.Error()) {
		l.log.Error("write state record", zap.Error(err))
	}
	l.recordErr = err
}

// note counts one change, and keeps it to be told. A failure that is the same
// as before is only counted.
func (l *Loop) note(r *round, c netstate.Change, err error) {
	if err != nil && r.unread {
		r.refused = append(r.refused, refusal{c, err})
		return
	}
	e := Event{Time: time.Now(), Change: c}
	if err != nil {
		r.Failed++
		l.counters.Failures[c.Op]++
		e.Err = err.Error()
		before := l.failures[objectOf(c)]
		l.fail(r, c, err)
		if before != nil {
			return
		}
	} else {
		r.Changed++
		l.counters.Changes[c.Op]++
	}
	l.untold = append(l.untold, e)
}

// forget drops the oldest changes. Views share the list and see no more of it
// than was there when they were made, so that it only grows, and is replaced.
func (l *Loop) forget() {
	if n := len(l.recent); n > 2*maxRecent {
		l.recent = slices.Clone(l.recent[n-maxRecent:])
	}
}

// tell remembers the changes that were made, and logs them; a failure has a line
// already. A line wakes up whoever reads the log (with two cores that costs a new
// path more than its rules and routes do), so they wait until the endpoints have
// been added.
func (l *Loop) tell(r *round) {
	for _, e := range l.untold {
		l.seq++
		e.Seq, e.Text, e.Trigger = l.seq, e.Change.Text(l.names), r.Trigger
		l.recent = append(l.recent, e)
		if e.Err == "" {
			l.log.Info(e.Text, l.fields(e.Change, e.Trigger)...)
		}
	}
	clear(l.untold)
	l.untold = l.untold[:0]
}

// fields are the details of a change that logs can be searched by.
func (l *Loop) fields(c netstate.Change, trigger string) []zap.Field {
	f := []zap.Field{zap.String("reason", c.Reason), zap.String("trigger", trigger)}
	if i := l.linkOf(c); i != 0 {
		f = append(f, zap.String("link", l.names.Name(i)))
	}
	switch o := objectOf(c); o.kind {
	case objectRoute:
		f = append(f, zap.Uint32("table", o.table))
	case objectRules:
		f = append(f, zap.Stringer("address", o.addr))
		if c.Rule.Table != 0 {
			f = append(f, zap.Uint32("table", c.Rule.Table))
		}
	case objectEndpoint:
		f = append(f, zap.Stringer("address", o.addr))
	}
	return f
}

// linkOf is the link that a change serves; 0: not known. Rules and throw routes
// name none: it is that of their path table, or of the address.
func (l *Loop) linkOf(c netstate.Change) int {
	if i := c.Link(); i != 0 {
		return i
	}
	for _, table := range []uint32{c.Route.Table, c.Rule.Table} {
		if i := int(int64(table) - int64(l.cfg.Routing.TableBase)); i > 0 && l.names[i] != "" {
			return i
		}
	}
	if l.plan == nil || !c.Rule.From.IsValid() {
		return 0
	}
	for _, s := range l.plan.RuleSets {
		if s.Addr == c.Rule.From.Addr() {
			return s.Link
		}
	}
	return 0
}
