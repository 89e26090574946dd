package probe

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/health"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
)

// PathsOf lists the paths of a plan that can be tested. While the plan steps
// aside for a VPN there are none: a test would go beside it.
func PathsOf(p *plan.Plan) []health.Path {
	if p == nil || p.Guard.Withdraws() {
		return nil
	}
	var out []health.Path
	for _, x := range p.Paths {
		if x.State == plan.Live && x.Probe.IsValid() {
			out = append(out, health.Path{LinkFamily: netstate.LinkFamily{Link: x.Link, Family: x.Family}, Source: x.Probe, Via: x.Gateways})
		}
	}
	return out
}

// reach connects over a path and hangs up. It is plain TCP, so that it is none
// of the connections that anybody counts.
func reach(ctx context.Context, p health.Path, to netip.AddrPort) health.Result {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.Source, 0)), Control: bindTo(p.Link)}
	d.SetMultipathTCP(false)
	begun := time.Now()
	c, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		// A reset is no answer of the service: a gateway may well send it.
		return health.Result{}
	}
	rtt := time.Since(begun)
	c.Close()
	return health.Result{OK: true, RTT: rtt}
}

// bindTo binds a socket to a link, as an endpoint does with its subflows.
func bindTo(ifindex int) func(_, _ string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, ifindex)
		}); e != nil {
			return e
		}
		return err
	}
}

// target is where the tests go.
type target struct {
	host string
	port string
	// addrs are those of each family, the one in use first.
	addrs map[netstate.Family][]netip.AddrPort
	read  time.Time // when the name was looked up; zero: not yet
	err   error     // of the last look-up
}

func newTarget(hostport string) *target {
	t := &target{addrs: map[netstate.Family][]netip.AddrPort{}}
	// The configuration has checked the form.
	t.host, t.port, _ = net.SplitHostPort(hostport)
	return t
}

// lookUp asks for the addresses of the name; those that are known already stay
// where it fails.
func (t *target) lookUp(ctx context.Context, now time.Time) {
	t.read = now
	port, err := net.DefaultResolver.LookupPort(ctx, "tcp", t.port)
	if err != nil {
		t.err = err
		return
	}
	all, err := net.DefaultResolver.LookupNetIP(ctx, "ip", t.host)
	if t.err = err; err != nil {
		return
	}
	fresh := map[netstate.Family][]netip.AddrPort{}
	for _, ip := range all {
		a := netip.AddrPortFrom(ip.Unmap(), uint16(port))
		fresh[netstate.FamilyOf(a.Addr())] = append(fresh[netstate.FamilyOf(a.Addr())], a)
	}
	for f, list := range fresh {
		// Names with many addresses give them in another order each time.
		if old := t.addrs[f]; len(old) > 0 {
			if i := slices.Index(list, old[0]); i > 0 {
				list[0], list[i] = list[i], list[0]
			}
		}
	}
	t.addrs = fresh
}

// another goes on to the next address of a family.
func (t *target) another(f netstate.Family) {
	if list := t.addrs[f]; len(list) > 1 {
		t.addrs[f] = append(slices.Clone(list[1:]), list[0])
	}
}
