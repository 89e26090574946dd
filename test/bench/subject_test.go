//go:build bench

package bench

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/pkg/mptcp"
	"github.com/subflowd/subflowd/test/lab"
)

// What comes and goes: a second uplink. The first one is there all the time.
const (
	newLink    = "eth1"
	newAddr    = "10.1.2.2"
	newPrefix  = newAddr + "/24"
	newGateway = "10.1.2.1"
	newMetric  = 200
)

// giveUp bounds one repetition.
const giveUp = time.Minute

// subject is a host with one program that makes endpoints.
type subject struct {
	t     *testing.T
	name  string
	h     *lab.Host
	alone bool // it looks at addresses only: the address is the last message, and no default route follows

	nl   *netlink.Handle
	pm   *mptcp.Client
	link netlink.Link
	took samples
}

// newSubject makes the host with its first uplink; the program is still to be started.
func newSubject(t *testing.T, l *lab.Lab, name string) *subject {
	t.Helper()
	s := &subject{t: t, name: name, h: l.Host(name)}
	other := l.Host(name + "r")
	for _, dev := range []string{"eth0", "eth1"} {
		lab.Veth(s.h, dev, other, "r"+dev)
	}
	for _, dev := range []string{"eth0", "eth1"} {
		s.h.WaitCarrier(dev, true)
	}
	s.h.IP("addr add 10.1.1.2/24 dev eth0", "route add default via 10.1.1.1 dev eth0 metric 100")
	s.open()
	return s
}

// open makes the sockets that trigger and measure.
func (s *subject) open() {
	s.t.Helper()
	s.h.Do(func() {
		var err error
		if s.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
			s.t.Fatal(err)
		}
		if s.pm, err = mptcp.Dial(); err != nil {
			s.t.Fatal(err)
		}
		if s.link, err = s.nl.LinkByName(newLink); err != nil {
			s.t.Fatal(err)
		}
	})
	s.t.Cleanup(func() {
		s.pm.Close()
		s.nl.Close()
	})
}

// hasEndpoint tells whether GET_ADDR shows the address.
func (s *subject) hasEndpoint(a netip.Addr) bool {
	list, err := s.pm.Endpoints()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range list {
		if e.Addr == a {
			return true
		}
	}
	return false
}

// hasAddr tells whether the new uplink has the address.
func (s *subject) hasAddr(a netip.Addr) bool {
	list, err := s.nl.AddrList(s.link, netlink.FAMILY_V4)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, x := range list {
		if x.IP.String() == a.String() {
			return true
		}
	}
	return false
}

var errRunning = errors.New("it runs")

func (s *subject) addr() *netlink.Addr {
	a, err := netlink.ParseAddr(newPrefix)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

func (s *subject) defaultRoute() *netlink.Route {
	_, all, _ := net.ParseCIDR("0.0.0.0/0")
	return &netlink.Route{LinkIndex: s.link.Attrs().Index, Dst: all, Gw: net.ParseIP(newGateway), Priority: newMetric, Protocol: unix.RTPROT_DHCP}
}

// bring adds the address and the default route, as a DHCP client does, and returns the time from the request that makes
// the kernel's last message about them to the endpoint. A listener of our own would read that message late by the time
// that a wake-up takes, which is as much as what is measured; the request itself takes the kernel some 10 us.
func (s *subject) bring() time.Duration {
	s.t.Helper()
	last := time.Now()
	if err := s.nl.AddrAdd(s.link, s.addr()); err != nil {
		s.t.Fatalf("%s: add the address: %v", s.name, err)
	}
	if !s.alone {
		route := s.defaultRoute()
		last = time.Now()
		if err := s.nl.RouteAdd(route); err != nil {
			s.t.Fatalf("%s: add the default route: %v", s.name, err)
		}
	}
	return s.awaitEndpoint().Sub(last)
}

// awaitEndpoint looks at GET_ADDR every few microseconds and returns when it shows the endpoint.
func (s *subject) awaitEndpoint() time.Time {
	s.t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	a := netip.MustParseAddr(newAddr)
	for begun := time.Now(); ; {
		if s.hasEndpoint(a) {
			return time.Now()
		}
		if time.Since(begun) > giveUp {
			s.t.Fatalf("%s: no endpoint for %s within %v", s.name, newAddr, giveUp)
		}
		// Two processors may be two threads of one core: a loop without a pause would slow the subject down.
		_ = unix.Nanosleep(&unix.Timespec{Nsec: 5000}, nil)
	}
}

// take removes the address again and waits until the program has taken back what it made.
func (s *subject) take() time.Duration {
	s.t.Helper()
	if err := s.nl.AddrDel(s.link, s.addr()); err != nil {
		s.t.Fatalf("%s: delete the address: %v", s.name, err)
	}
	begun := time.Now()
	for s.hasEndpoint(netip.MustParseAddr(newAddr)) {
		if time.Since(begun) > giveUp {
			s.t.Fatalf("%s: the endpoint of %s is still there after %v", s.name, newAddr, giveUp)
		}
		time.Sleep(200 * time.Microsecond)
	}
	gone := time.Since(begun)
	lab.Eventually(s.t, giveUp, s.name+": no rules of "+newAddr, func() error {
		rules, err := s.nl.RuleList(netlink.FAMILY_V4)
		if err != nil {
			return err
		}
		for _, r := range rules {
			if r.Src != nil && r.Src.IP.String() == newAddr {
				return fmt.Errorf("rule %v", r)
			}
		}
		return nil
	})
	// What programs do after their last change is no part of the next repetition.
	time.Sleep(20 * time.Millisecond)
	return gone
}

// startOurs starts the daemon with its state record on a tmpfs and the log level of the service.
func (s *subject) startOurs(args ...string) *lab.Daemon {
	s.t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "subflowd-bench-")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { os.RemoveAll(dir) })
	d := s.h.Daemon(append([]string{"--state-dir", dir, "--log-level", "info"}, args...)...)
	d.WaitSocket()
	return d
}

// startLoop starts the bare loop.
func (s *subject) startLoop() {
	s.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := s.h.Command(exe)
	cmd.Env = append(cmd.Env, roleEnv+"="+s.name)
	s.started(s.h.StartCommand(cmd), "ready")
}

// startScript starts what administrators write: the six commands of a path on each line of `ip monitor` that matters.
func (s *subject) startScript() {
	s.t.Helper()
	s.started(s.h.Start("bash", "-c", `
echo ready
ip -o monitor address route | while read -r line; do
	case $line in
	"Deleted "*"inet `+newPrefix+`"*)
		ip mptcp endpoint delete id "$(ip mptcp endpoint | sed -n 's/^`+newAddr+` id \([0-9]*\).*/\1/p')"
		ip rule del from `+newAddr+` lookup main suppress_prefixlength 0 pref 32765
		ip rule del from `+newAddr+` lookup 102 pref 32765
		;;
	"Deleted "*) ;;
	*"table 102"*) ;;
	"default via `+newGateway+` dev eth1"*)
		ip route add 10.1.2.0/24 dev eth1 scope link table 102
		ip route add default via `+newGateway+` dev eth1 table 102
		ip rule add from `+newAddr+` lookup main suppress_prefixlength 0 pref 32765
		ip rule add from `+newAddr+` lookup 102 pref 32765
		ip mptcp limits set subflows 2 add_addr_accepted 4
		ip mptcp endpoint add `+newAddr+` dev eth1 subflow
		;;
	esac
done`), "ready")
}

// startMPTCPD starts Debian's mptcpd, whose plugin makes an endpoint of each address.
func (s *subject) startMPTCPD() *lab.Proc {
	s.t.Helper()
	const program = "/usr/libexec/mptcpd"
	if _, err := os.Stat(program); err != nil {
		s.t.Fatalf("the reference mptcpd is missing: apt-get install mptcpd mptcpd-plugins: %v", err)
	}
	s.alone = true
	p := s.h.Start(program, "--log=stderr", "--path-manager=addr_adv", "--addr-flags=subflow", "--notify-flags=existing,skip_link_local,skip_loopback")
	lab.Eventually(s.t, giveUp, "mptcpd's endpoint of the first uplink", func() error {
		if !s.hasEndpoint(netip.MustParseAddr("10.1.1.2")) {
			return fmt.Errorf("none")
		}
		return nil
	})
	return p
}

func (s *subject) started(p *lab.Proc, word string) {
	s.t.Helper()
	lab.Eventually(s.t, giveUp, s.name+" is ready", func() error {
		if !strings.Contains(p.Log(), word) {
			return fmt.Errorf("log: %q", p.Log())
		}
		return nil
	})
}
