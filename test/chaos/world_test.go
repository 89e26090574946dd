// Package chaos attacks a running daemon: several actors change a host at random while connections run and the daemon is
// stopped, killed and stalled. Two hosts get the same changes, one with the daemon and one without, the twin: what
// belongs to others must be the same on both, and a connection that lives on the twin must live beside the daemon. What
// should be the daemon's is judged by an oracle of its own, which knows only what ip(8) prints.
package chaos

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

// world is the host under attack, its twin, and what the actors made.
type world struct {
	t         testing.TB
	main      *side
	twin      *side
	oneSubnet bool
	daemon    *lab.Daemon
	logs      []*lab.Daemon // all daemons that ever ran
	stalled   bool
	limits    [2]int // subflows and add_addr_accepted, as others set them last
	conns     []*pair
	routers   map[string]*advert // what they say
	guarded   bool               // a full tunnel was up when the oracle agreed
}

// side is one of the two networks.
type side struct {
	*lab.Net
	mean *lab.Host // a server that refuses joins
	// endpoints are those of others, by address, as the kernel accepted them.
	endpoints map[string]string
	tun       *lab.Tunnel // while it is up
}

const (
	meanAddr  = "10.8.0.2"
	meanAddr6 = "2001:db8:8::2"
)

func newWorld(t testing.TB, oneSubnet bool) *world {
	lab.Need(t, lab.Root) // here: a skip within the goroutines below would end them alone
	w := &world{t: t, oneSubnet: oneSubnet, limits: [2]int{2, 0}, routers: map[string]*advert{}}
	var both sync.WaitGroup
	for _, s := range []**side{&w.main, &w.twin} {
		both.Go(func() { *s = newSide(t, oneSubnet) })
	}
	both.Wait()
	if w.main == nil || w.twin == nil {
		t.FailNow()
	}
	w.dialAll()
	return w
}

func newSide(t testing.TB, oneSubnet bool) *side {
	make := lab.TwoSubnets
	if oneSubnet {
		make = lab.OneSubnet
	}
	s := &side{Net: make(t, lab.IPv6()), endpoints: map[string]string{}}
	// A bridge takes the lowest address of its ports, and links come back: nobody's neighbour entry is to go stale by that.
	if oneSubnet {
		s.Router.IP("link set br0 address 02:00:00:00:00:01")
	}
	for i, p := range []*lab.Path{s.A, s.B} {
		s.Client.IP("link set " + p.Dev + " address " + hardware(i))
	}
	s.mean = s.Host("mean")
	s.mean.Sysctl("net.ipv6.conf.default.accept_dad", "0")
	lab.Veth(s.mean, "eth0", s.Router, "rm")
	s.Router.IP("addr add 10.8.0.1/24 dev rm", "addr add 2001:db8:8::1/64 dev rm nodad")
	s.mean.IP("addr add "+meanAddr+"/24 dev eth0", "addr add "+meanAddr6+"/64 dev eth0 nodad",
		"route add default via 10.8.0.1", "-6 route add default via 2001:db8:8::1",
		"mptcp limits set subflows 0 add_addr_accepted 0")
	for _, c := range routerSetup(oneSubnet, 0) {
		s.Router.IP(c)
	}
	for _, c := range routerSetup(oneSubnet, 1) {
		s.Router.IP(c)
	}
	// The collector of routes whose lifetime is over runs every 30 s by default: too slow to wait for.
	s.Client.Sysctl("net.ipv6.route.gc_interval", "5")
	for _, addr := range signalled {
		bits := map[bool]string{true: "/64 nodad", false: "/24"}[strings.Contains(addr, ":")]
		s.Server.IP("addr add " + addr + bits + " dev eth0")
		s.Server.Listen(net.JoinHostPort(addr, "5001"))
	}
	for _, h := range []*lab.Host{s.Server, s.mean} {
		a, a6 := s.ServerAddr, s.ServerAddr6
		if h == s.mean {
			a, a6 = meanAddr, meanAddr6
		}
		h.Listen(a + ":5001")
		h.Listen("[" + a6 + "]:5001")
	}
	return s
}

func hardware(link int) string { return fmt.Sprintf("02:00:00:00:01:%02d", link) }

// routerSetup gives the router's end of a link a second gateway and an address that a client must find taken.
func routerSetup(oneSubnet bool, link int) []string {
	if oneSubnet {
		return []string{
			"addr replace 192.168.0.254/24 dev br0", "addr replace fe80::fe/64 dev br0 nodad",
			"addr replace 2001:db8:1::dead/64 dev br0 nodad",
		}
	}
	return []string{
		fmt.Sprintf("addr replace 10.1.%d.254/24 dev r%d", link+1, link),
		fmt.Sprintf("addr replace 2001:db8:%d::fe/64 dev r%d nodad", link+1, link),
		fmt.Sprintf("addr replace 2001:db8:%d::dead/64 dev r%d nodad", link+1, link),
	}
}

// both does the same on both sides at once.
func (w *world) both(f func(*side)) {
	var wg sync.WaitGroup
	for _, s := range []*side{w.main, w.twin} {
		wg.Go(func() { f(s) })
	}
	wg.Wait()
}

// ip runs commands of ip(8) on a host. What the kernel refuses is part of the game.
func (s *side) ip(h *lab.Host, commands ...string) {
	for _, c := range commands {
		c = s.expand(h, c)
		if name, value, ok := strings.Cut(c, "="); ok && strings.HasPrefix(c, "sysctl ") {
			setSysctl(h, strings.TrimPrefix(name, "sysctl "), value)
			continue
		}
		if _, err := h.Try("ip", strings.Fields(c)...); err != nil {
			var refused *exec.ExitError
			if !errors.As(err, &refused) {
				s.T.Errorf("%v", err)
			}
		}
	}
}

var placeholder = regexp.MustCompile(`\{table ([^}]+)\}|\{router\}`)

// expand puts the number of a link's path table, or the router's namespace, in place of a placeholder.
func (s *side) expand(h *lab.Host, command string) string {
	return placeholder.ReplaceAllStringFunc(command, func(m string) string {
		if m == "{router}" {
			return s.Router.NS
		}
		for _, l := range links(h) {
			if l.Name == placeholder.FindStringSubmatch(m)[1] {
				return fmt.Sprint(pathTable(l.Index))
			}
		}
		return "99999"
	})
}

// setSysctl sets a sysctl of a link that may be gone: net/ipv4/conf/eth1/rp_filter.
func setSysctl(h *lab.Host, path, value string) {
	_, _ = h.Try("sh", "-c", "test ! -e /proc/sys/"+path+" || echo "+value+" >/proc/sys/"+path)
}

// start starts the daemon unless it runs.
func (w *world) start() {
	if w.daemon != nil && w.daemon.Running() {
		return
	}
	w.daemon = w.main.Client.Daemon()
	w.stalled = false
	w.logs = append(w.logs, w.daemon)
	w.daemon.WaitSocket()
}

// perform carries out a script.
func (w *world) perform(script []action) {
	for _, a := range script {
		switch {
		case a.run != nil:
			a.run(w)
		default:
			w.both(func(s *side) {
				s.ip(s.Router, a.router...)
				s.ip(s.Client, a.ip...)
				s.ip(s.Router, a.routerAfter...)
			})
		}
		time.Sleep(a.pause)
	}
}
