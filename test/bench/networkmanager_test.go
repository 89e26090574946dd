//go:build bench

package bench

import (
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/test/lab"
)

// startNetworkManager starts Debian's NetworkManager with a connection for the new uplink. It makes endpoints of the
// addresses that it sets itself.
func (s *subject) startNetworkManager() {
	s.t.Helper()
	s.h.Cover("/run", "/var/lib/NetworkManager", "/etc/NetworkManager")
	s.h.NetworkManager(nil)
	s.h.Run("nmcli", "connection", "add", "type", "ethernet", "ifname", newLink, "con-name", newLink, "autoconnect", "no",
		"ipv4.method", "manual", "ipv4.addresses", newPrefix, "ipv4.gateway", newGateway, "ipv6.method", "ignore")
}

// byNetworkManager has NetworkManager bring the uplink up, and returns the time from the moment at which the kernel
// shows the address to the endpoint.
func (s *subject) byNetworkManager() time.Duration {
	s.t.Helper()
	s.h.Run("nmcli", "connection", "down", newLink)
	up := s.h.Start("nmcli", "connection", "up", newLink)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	a := netip.MustParseAddr(newAddr)
	var shown time.Time
	for begun := time.Now(); ; {
		if shown.IsZero() && s.hasAddr(a) {
			shown = time.Now()
		}
		if !shown.IsZero() && s.hasEndpoint(a) {
			break
		}
		if time.Since(begun) > giveUp {
			s.t.Fatalf("%s: no endpoint for %s within %v: %s", s.name, newAddr, giveUp, up.Log())
		}
		_ = unix.Nanosleep(&unix.Timespec{Nsec: 5000}, nil)
	}
	took := time.Since(shown)
	lab.Eventually(s.t, giveUp, "nmcli ends", func() error {
		if up.Running() {
			return errRunning
		}
		return nil
	})
	return took
}

// TestNewPathNetworkManager compares the whole path with NetworkManager's endpoint alone.
func TestNewPathNetworkManager(t *testing.T) {
	l := lab.New(t)
	ours, other := newSubject(t, l, "ours"), newSubject(t, l, "nm")
	ours.startOurs()
	other.startNetworkManager()
	other.h.Run("nmcli", "connection", "up", newLink)
	for i := range repetitions(20) + 1 {
		up := ours.bring()
		ours.take()
		theirs := other.byNetworkManager()
		if i > 0 {
			ours.took, other.took = append(ours.took, up), append(other.took, theirs)
		}
	}
	mine, theirs := ours.took.median(), other.took.median()
	report(t, "new path: NetworkManager's endpoint alone, from the address", short(mine), short(theirs), ofTimes(mine, theirs), 0)
}
