package control

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/subflowd/subflowd/internal/version"
	"github.com/subflowd/subflowd/pkg/status"
)

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	doc := s.backend.Status()
	s.backend.Traffic(doc.Paths)
	answer(w, http.StatusOK, doc)
}

func (s *Server) plan(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, s.backend.Plan())
}

func (s *Server) version(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, status.Version{Schema: status.Schema, Version: version.Version(), Commit: version.Commit()})
}

func (s *Server) reconcile(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), reconcileTimeout)
	defer cancel()
	extend(w, reconcileTimeout)
	done, err := s.backend.Reconcile(ctx)
	if err != nil {
		fail(w, http.StatusInternalServerError, "reconcile: "+err.Error(), "see the daemon's log: journalctl -u subflowd")
		return
	}
	answer(w, http.StatusOK, done)
}

func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	// A client that goes away must not leave a reload half done.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), reconcileTimeout)
	defer cancel()
	extend(w, reconcileTimeout)
	done, err := s.backend.Reload(ctx)
	if err != nil {
		fail(w, http.StatusInternalServerError, "reload: "+err.Error(), "see the daemon's log: journalctl -u subflowd")
		return
	}
	answer(w, http.StatusOK, done)
}

func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	if s.opts.Metrics == nil {
		fail(w, http.StatusNotFound, "there are no metrics", "")
		return
	}
	s.opts.Metrics.ServeHTTP(w, r)
}

// maxWhat is longer than any name of a link or address.
const maxWhat = 128

func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	what := r.URL.Query().Get("what")
	if what == "" || len(what) > maxWhat {
		fail(w, http.StatusBadRequest, "parameter what wants a link, an address or a destination", "")
		return
	}
	e, ok := s.backend.Explain(what)
	if !ok {
		fail(w, http.StatusNotFound, fmt.Sprintf("there is no link or address %q", what), "see what there is: subflowctl status")
		return
	}
	answer(w, http.StatusOK, e)
}

// wait answers when what the client waits for is there, or its time is over.
func (s *Server) wait(w http.ResponseWriter, r *http.Request) {
	paths, err := number(r, "paths", 0, 1<<16)
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error(), "")
		return
	}
	seconds, err := number(r, "timeout", MaxWait.Seconds(), MaxWait.Seconds())
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error(), "")
		return
	}
	limit := time.Duration(seconds * float64(time.Second))
	extend(w, limit)
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for over := false; ; {
		changed := s.backend.Changed() // before the look, so that no change falls between
		doc := s.backend.Status()
		waited := Waited(&doc, int(paths))
		if waited.Done || over {
			answer(w, http.StatusOK, waited)
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			over = true
		case <-r.Context().Done():
			fail(w, http.StatusServiceUnavailable, "subflowd is stopping", "")
			return
		}
	}
}

// number reads a parameter between 0 and most.
func number(r *http.Request, name string, without, most float64) (float64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return without, nil
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n >= 0 && n <= most) {
		return 0, fmt.Errorf("parameter %s wants a number from 0 to %v, not %q", name, most, text)
	}
	return n, nil
}

// extend gives an answer that is meant to take a while its time on top of the
// usual.
func extend(w http.ResponseWriter, d time.Duration) {
	c := http.NewResponseController(w)
	end := time.Now().Add(d)
	_ = c.SetWriteDeadline(end.Add(writeTimeout))
	// The server reads on to learn of a client that goes away.
	_ = c.SetReadDeadline(end.Add(readTimeout))
}

// Waited tells whether the kernel is as wanted and at least so many distinct
// links are live paths, and if not, what is missing.
func Waited(d *status.Document, paths int) status.Waited {
	links := d.Links()
	w := status.Waited{Schema: status.Schema, State: d.State, Links: links}
	if len(links) < paths {
		have := "none"
		if len(links) > 0 {
			have = strings.Join(links, ", ")
		}
		w.Missing = append(w.Missing, fmt.Sprintf("links that are paths: %d wanted, %d there (%s)", paths, len(links), have))
	}
	switch d.State {
	case status.Converged:
	case status.Failing:
		w.Missing = append(w.Missing, "the kernel refuses changes: see subflowctl status")
	default:
		w.Missing = append(w.Missing, "the kernel does not match yet")
	}
	w.Done = len(w.Missing) == 0
	return w
}
