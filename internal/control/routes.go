package control

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"

	"github.com/subflowd/subflowd/pkg/status"
)

// route is one path with the one method and the parameters that it takes.
type route struct {
	method string
	params []string
	write  bool // changes the daemon's state
	handle func(*Server, http.ResponseWriter, *http.Request)
}

var routes = map[string]route{
	PathStatus:    {method: http.MethodGet, handle: (*Server).status},
	PathPlan:      {method: http.MethodGet, handle: (*Server).plan},
	PathWait:      {method: http.MethodGet, params: []string{"paths", "timeout"}, handle: (*Server).wait},
	PathVersion:   {method: http.MethodGet, handle: (*Server).version},
	PathExplain:   {method: http.MethodGet, params: []string{"what"}, handle: (*Server).explain},
	PathEvents:    {method: http.MethodGet, params: []string{"recent"}, handle: (*Server).events},
	PathMetrics:   {method: http.MethodGet, handle: (*Server).metrics},
	PathReload:    {method: http.MethodPost, write: true, handle: (*Server).reload},
	PathReconcile: {method: http.MethodPost, write: true, handle: (*Server).reconcile},
}

// route takes a request apart; paths match exactly, nothing is redirected.
func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	if c, ok := r.Context().Value(connKey{}).(*conn); ok && c.busy {
		w.Header().Set("Connection", "close")
		w.Header().Set("Retry-After", "1")
		fail(w, http.StatusServiceUnavailable, busyText, busyRemedy)
		return
	}
	to, ok := routes[r.URL.Path]
	switch {
	case !ok:
		fail(w, http.StatusNotFound, "no such path: "+r.URL.Path, "compare the versions of subflowctl and subflowd: subflowctl version")
		return
	case r.Method != to.method:
		w.Header().Set("Allow", to.method)
		fail(w, http.StatusMethodNotAllowed, r.URL.Path+" takes "+to.method+", not "+r.Method, "")
		return
	}
	for name := range r.URL.Query() {
		if !slices.Contains(to.params, name) {
			fail(w, http.StatusBadRequest, r.URL.Path+" has no parameter "+name, "")
			return
		}
	}
	if to.write && !s.permitted(r) {
		fail(w, http.StatusForbidden, "only root and members of group "+s.opts.Group+" may do this",
			"use sudo, or join the group: sudo usermod -aG "+s.opts.Group+" USER, then log in again")
		return
	}
	if code, text := checkBody(w, r); text != "" {
		fail(w, code, text, "")
		return
	}
	to.handle(s, w, r)
}

func (s *Server) permitted(r *http.Request) bool {
	c, ok := r.Context().Value(connKey{}).(*conn)
	return ok && s.mayWrite(c)
}

// checkBody wants none: no request needs one.
func checkBody(w http.ResponseWriter, r *http.Request) (code int, text string) {
	if r.ContentLength > maxBodyBytes {
		w.Header().Set("Connection", "close")
		return http.StatusRequestEntityTooLarge, "the request's body is too large"
	}
	n, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxBodyBytes))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return http.StatusRequestEntityTooLarge, "the request's body is too large"
	case err != nil:
		return http.StatusBadRequest, "read the request's body: " + err.Error()
	case n > 0:
		return http.StatusBadRequest, r.URL.Path + " takes no body"
	}
	return 0, ""
}

func fail(w http.ResponseWriter, code int, text, remedy string) {
	answer(w, code, status.Failure{Schema: status.Schema, Error: text, Remedy: remedy})
}

func answer(w http.ResponseWriter, code int, document any) {
	body, err := json.Marshal(document)
	if err != nil {
		// A document of ours that cannot be written down, such as a time of year 10000.
		code, body = http.StatusInternalServerError, []byte(`{"schema":1,"error":"the answer cannot be written as JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(append(body, '\n'))
}
