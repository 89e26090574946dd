package control

import (
	"encoding/json"
	"net/http"
	"time"
)

// events sends what happens, a line of JSON each, until the client goes or the
// daemon stops. Nothing is queued: each reader looks at what the loop has
// published when it is ready to. One that is slow, or stopped, finds later what
// the daemon still remembers, and how much it missed.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	recent, err := number(r, "recent", 0, MaxRecent)
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error(), "")
		return
	}
	c, ok := r.Context().Value(connKey{}).(*conn)
	if !ok || !s.streams.take(c.peer.uid, c.privileged) {
		w.Header().Set("Retry-After", "1")
		fail(w, http.StatusServiceUnavailable, "too many streams of events are open", "end some, or try again later")
		return
	}
	defer s.streams.giveBack(c.peer.uid)
	// A reader may take as long as it likes: it holds a place and nobody waits.
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Time{})
	_ = rc.SetReadDeadline(time.Time{})
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	lines := json.NewEncoder(w)
	f := s.backend.Follow(int(recent))
	for {
		changed := s.backend.Changed() // before the look, so that no change falls between
		for _, e := range f.Next() {
			if lines.Encode(e) != nil {
				return
			}
		}
		if rc.Flush() != nil {
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}
