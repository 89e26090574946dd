package kerneltest

import (
	"slices"

	"github.com/subflowd/subflowd/internal/netstate"
)

// DestroySubflows closes what match picks like SOCK_DESTROY: nothing else of
// the connection is touched.
func (f *Fake) DestroySubflows(match func(netstate.Subflow) bool) ([]netstate.Subflow, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dumps++
	if f.failDestroy != nil {
		return nil, f.failDestroy
	}
	var closed []netstate.Subflow
	for i := range f.conns {
		f.conns[i].Subflows = slices.DeleteFunc(f.conns[i].Subflows, func(s netstate.Subflow) bool {
			if !match(s) {
				return false
			}
			closed = append(closed, s)
			return true
		})
	}
	if len(closed) > 0 {
		f.destroyed = append(f.destroyed, closed...)
		f.emitConnections()
	}
	return closed, nil
}

// Destroyed lists the subflows that DestroySubflows closed, and forgets them;
// dumps is how often it was called since.
func (f *Fake) Destroyed() (closed []netstate.Subflow, dumps int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	closed, dumps = f.destroyed, f.dumps
	f.destroyed, f.dumps = nil, 0
	return closed, dumps
}

// FailDestroy makes DestroySubflows fail; nil ends it.
func (f *Fake) FailDestroy(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failDestroy = err
}
