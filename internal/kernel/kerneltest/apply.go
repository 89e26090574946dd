package kerneltest

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/subflowd/subflowd/internal/netstate"
)

// Apply carries the changes out like the real kernel.
func (f *Fake) Apply(changes []netstate.Change) []error {
	errs := make([]error, len(changes))
	for i, c := range changes {
		if errs[i] = f.applyOne(c); errs[i] != nil {
			errs[i] = fmt.Errorf("%s: %w", c.Text(f.names()), errs[i])
		}
	}
	return errs
}

func (f *Fake) names() netstate.Names {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now.Names()
}

func (f *Fake) applyOne(c netstate.Change) error {
	f.mu.Lock()
	f.requests++
	var err error
	if f.fail != nil {
		err = f.fail(f.requests, c)
	}
	var lost LostAnswer
	switch {
	case errors.As(err, &lost):
		_ = f.change(c)
	case errors.Is(err, ErrIgnored):
		f.mu.Unlock()
		return nil
	case err == nil:
		err = f.change(c)
	}
	if err == nil {
		f.applied = append(f.applied, c)
	}
	after := f.after
	f.mu.Unlock()
	if err == nil && after != nil {
		after(c)
	}
	return err
}

func (f *Fake) change(c netstate.Change) error {
	switch c.Op {
	case netstate.RouteAdd:
		return f.addRoute(c.Route, false)
	case netstate.RouteReplace:
		return f.addRoute(c.Route, true)
	case netstate.RouteDelete:
		return f.deleteRoute(c.Route)
	case netstate.RuleAppend:
		return f.appendRule(c.Rule)
	case netstate.RuleDelete:
		return f.deleteRule(c.Rule)
	}
	if !f.now.MPTCP.Present {
		return syscall.EOPNOTSUPP
	}
	switch c.Op {
	case netstate.LimitsSet:
		if c.Checked && c.Found != f.now.Limits {
			return syscall.EAGAIN
		}
		return f.setLimits(c.Limits)
	case netstate.EndpointAdd:
		return f.addEndpoint(c.Endpoint)
	case netstate.EndpointSet:
		return f.setEndpoint(c.Endpoint)
	case netstate.EndpointDelete:
		return f.deleteEndpoint(c.Endpoint)
	}
	return syscall.EINVAL
}
