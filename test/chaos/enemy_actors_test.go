package chaos

import (
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

// others keeps endpoints and limits of other programs. The twin has no endpoints: to delete one closes subflows, and its
// connections say what lives without that. On one of the daemon's addresses the kernel refuses them where it was first.
func (a *author) others() action {
	switch {
	// Not while the daemon is stopped: that may be between its look at the limits and their change, and the kernel knows
	// no change that depends on what was there.
	case a.IntN(3) == 0 && !a.stalled:
		sub, add := 1+a.IntN(8), a.IntN(4) // the daemon makes 4 of the second, beside a tunnel 0 of both: what it set can be told from what others set
		return limited(sub, add)
	case len(a.endpoints) > 0 && a.IntN(2) == 0 || len(a.endpoints) >= 2:
		i := a.IntN(len(a.endpoints))
		addr := a.endpoints[i]
		a.endpoints = append(a.endpoints[:i:i], a.endpoints[i+1:]...)
		return action{text: "mptcp endpoint delete " + addr + ", of others", run: func(w *world) {
			if w.main.endpoints[addr] != "" {
				w.excuse(addr, "another program deleted its endpoint")
				w.main.deleteEndpoint(addr)
				delete(w.main.endpoints, addr)
			}
		}}
	}
	l := a.uplink()
	addr := pick(a, l.addr, l.addr6, fmt.Sprintf("10.99.0.%d", 1+a.next()%250), fmt.Sprintf("2001:db8:99::%x", a.next()))
	words := pick(a, "subflow", "signal", "subflow backup", "subflow fullmesh") + pick(a, "", " dev "+l.dev)
	a.endpoints = append(a.endpoints, addr)
	return action{text: "mptcp endpoint add " + addr + " " + words, run: func(w *world) {
		if _, err := w.main.Client.TryIP("mptcp endpoint add " + addr + " " + words); err == nil {
			w.main.endpoints[addr] = endpointLine(w.main.Client, addr)
		}
	}}
}

func (s *side) deleteEndpoint(addr string) { s.deleteEndpointOf(s.Client, addr) }

func (s *side) deleteEndpointOf(h *lab.Host, addr string) {
	for _, e := range endpointsOf(h) {
		if e.Address == addr {
			s.ip(h, fmt.Sprintf("mptcp endpoint delete id %d", e.ID))
		}
	}
}

// enemy deletes what is the daemon's.
func (a *author) enemy() action {
	f := pick(a, "-4", "-6")
	var cmd string
	switch a.IntN(8) {
	case 0:
		cmd = f + " route flush table all proto 77"
	case 1:
		cmd = f + " rule flush proto 77"
	case 2:
		cmd = f + " rule flush proto 78"
	case 3:
		cmd = f + " rule del lookup main suppress_prefixlength 0 proto 77"
	case 4:
		l := a.uplink()
		cmd = f + " route flush table {table " + l.dev + "} proto 77"
	case 5: // what is left of a daemon of old
		l := a.uplink()
		cmd = fmt.Sprintf("rule add from 10.88.0.%d lookup {table %s} pref 32765 protocol 77", 1+a.next()%250, l.dev)
		if f == "-6" {
			cmd = fmt.Sprintf("-6 route add 2001:db8:8%x::/64 dev %s table 100099 proto 77", a.next()%15, l.dev)
		}
	case 6:
		if a.deleted++; a.deleted > 3 {
			return action{}
		}
		return a.deleteOurs()
	default:
		l := a.uplink()
		cmd = "-4 route del default table {table " + l.dev + "} proto 77"
	}
	return action{text: "ip " + cmd + ", of the daemon", run: func(w *world) { w.main.ip(w.main.Client, cmd) }}
}

// deleteOurs deletes an endpoint of the daemon, or all endpoints there are.
func (a *author) deleteOurs() action {
	if a.IntN(10) == 0 {
		a.endpoints = nil
		return action{text: "mptcp endpoint flush", run: func(w *world) {
			w.excuse("", "another program flushed the endpoints")
			w.main.ip(w.main.Client, "mptcp endpoint flush")
			clear(w.main.endpoints)
		}}
	}
	l := a.uplink()
	addr := pick(a, append([]string{l.addr, l.addr6}, l.extra...)...)
	addr, _, _ = strings.Cut(addr, "/")
	return action{text: "mptcp endpoint delete " + addr + ", of the daemon", run: func(w *world) {
		if w.main.endpoints[addr] == "" {
			w.excuse(addr, "another program deleted the daemon's endpoint")
			w.main.deleteEndpoint(addr)
		}
	}}
}

// daemons stops, kills, stalls and reloads the daemon.
func (a *author) daemons() action {
	do := func(text string, f func(*world)) action { return action{text: text, run: f} }
	switch {
	case a.stalled:
		a.stalled = false
		return do("continue", (*world).resume)
	case !a.running:
		a.running = true
		return do("start", (*world).start)
	}
	switch a.IntN(6) {
	case 0:
		a.running = false
		return do("stop", func(w *world) { w.daemon.Stop() })
	case 1:
		a.running = false
		return do("kill", func(w *world) { w.daemon.Kill() })
	case 2:
		return do("kill and start", func(w *world) { w.daemon.Kill(); w.start() })
	case 3:
		return do("reload", func(w *world) { w.daemon.Reload() })
	case 4:
		a.stalled = true
		l := a.uplink()
		return do("stall, and overflow by addresses of "+l.dev, func(w *world) {
			w.stall()
			w.both(func(s *side) { burst(s.Client, l.dev, 6000) })
		})
	}
	a.stalled = true
	return do("stall", (*world).stall)
}

// stall stops the daemon's process: its sockets fill.
func (w *world) stall() {
	if w.daemon.Running() {
		_ = w.daemon.Signal(syscall.SIGSTOP)
		w.stalled = true
	}
}

func (w *world) resume() {
	if w.stalled {
		_ = w.daemon.Signal(syscall.SIGCONT)
		w.stalled = false
	}
}

// burst adds and deletes addresses as fast as ip(8) can; none stays.
func burst(h *lab.Host, dev string, changes int) {
	var b strings.Builder
	for i := range changes / 2 {
		addr := fmt.Sprintf("10.%d.%d.%d/32", 200+i/62500, i/250%250, 1+i%250)
		fmt.Fprintf(&b, "addr add %s dev %s\naddr del %s dev %s\n", addr, dev, addr, dev)
	}
	batch(h, b.String())
}

// batch runs ip -force -batch and returns how long it took.
func batch(h *lab.Host, commands string) time.Duration {
	begun := time.Now()
	cmd := h.Command("ip", "-force", "-batch", "-")
	cmd.Stdin = strings.NewReader(commands)
	h.Do(func() { _ = cmd.Run() })
	return time.Since(begun)
}

// limited sets the limits as another program.
func limited(subflows, accepted int) action {
	cmd := fmt.Sprintf("mptcp limits set subflows %d add_addr_accepted %d", subflows, accepted)
	return action{text: cmd, run: func(w *world) {
		w.limits = [2]int{subflows, accepted}
		w.main.ip(w.main.Client, cmd)
	}}
}
