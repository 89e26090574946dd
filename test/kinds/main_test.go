//go:build kinds

package kinds

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

const soon = 20 * time.Second

// newPath names the nth network behind a link of the client, and gives the router's end the gateways. The link itself, up,
// is for the test to make before addUp.
func newPath(n *lab.Net, nth int, dev, routerDev string) *lab.Path {
	n.T.Helper()
	p := &lab.Path{
		Link: &lab.Link{A: n.Client, B: n.Router, DevA: dev, DevB: routerDev},
		Dev:  dev, Metric: 100 * nth,
		Addr: fmt.Sprintf("10.3.%d.2", nth), Gateway: fmt.Sprintf("10.3.%d.1", nth),
		Addr6: fmt.Sprintf("2001:db8:3%d::2", nth), Gateway6: fmt.Sprintf("2001:db8:3%d::1", nth), Prefix6: fmt.Sprintf("2001:db8:3%d::/64", nth),
	}
	n.Router.IP("addr add "+p.Gateway+"/24 dev "+routerDev, "addr add "+p.Gateway6+"/64 dev "+routerDev+" nodad")
	return p
}

// addUp gives the client addresses and default routes by a link that is up.
func addUp(p *lab.Path) {
	p.A.Lab.T.Helper()
	p.A.WaitCarrier(p.Dev, true)
	p.AddIPv4()
	p.AddDefault()
	p.AddIPv6()
	p.AddDefault6()
	p.A.WaitAddr(p.Dev, p.Addr6)
}

// wantPaths waits until these, and no other, are the client's paths.
func wantPaths(n *lab.Net, paths ...*lab.Path) {
	n.T.Helper()
	lab.Eventually(n.T, soon, "the paths", func() error { return n.CheckUplinks("subflow", paths...) })
}

// dial opens a connection that gets a subflow from each path's IPv4 address, and keeps it in use until the test ends: an
// idle one keeps the endpoints that it has, and proves nothing of the others. It must not break.
func dial(n *lab.Net, paths ...*lab.Path) *lab.Conn {
	n.T.Helper()
	c := n.Client.Dial(n.ServerAddr + ":5001")
	c.WantSubflows(addrs(paths...)...)
	c.Talk(n.T, 5*time.Minute)
	return c
}

func addrs(paths ...*lab.Path) (all []string) {
	for _, p := range paths {
		all = append(all, p.Addr)
	}
	return all
}

// wantSubflows waits until the connection has an established subflow from each path's address and no other, and works.
func wantSubflows(n *lab.Net, c *lab.Conn, paths ...*lab.Path) {
	n.T.Helper()
	lab.Eventually(n.T, soon, "subflows", func() error { return c.CheckSubflows(addrs(paths...)...) })
	c.WantEcho(soon)
}

// leastBytes is what the packets of leavesBy have: many more than a connection in use sends meanwhile, on a slow machine too.
const leastBytes = 60 * 1000

// leavesBy sends packets from the path's address and checks that its link carries them, and that no other does.
func leavesBy(n *lab.Net, p *lab.Path, others ...*lab.Path) {
	n.T.Helper()
	sent := func(q *lab.Path) uint64 {
		tx, _ := n.Client.LinkBytes(q.Dev)
		return tx
	}
	own := sent(p)
	var alien []uint64
	for _, q := range others {
		alien = append(alien, sent(q))
	}
	n.Client.Run("ping", "-n", "-q", "-c", "60", "-i", "0.01", "-s", "1000", "-W", "10", "-I", p.Addr, n.ServerAddr)
	if now := sent(p); now-own < leastBytes {
		n.T.Errorf("60 packets of 1000 bytes from %s: %s sent %d bytes", p.Addr, p.Dev, now-own)
	}
	for i, q := range others {
		if now := sent(q); now-alien[i] > leastBytes/2 {
			n.T.Errorf("60 packets of 1000 bytes from %s: %s sent %d bytes", p.Addr, q.Dev, now-alien[i])
		}
	}
}

// settled waits until the daemon has looked at everything after now and has nothing left to do: for what must not change.
func settled(d *lab.Daemon) {
	t := d.Host.Lab.T
	t.Helper()
	d.WaitSocket()
	for _, args := range [][]string{{"reconcile"}, {"wait", "--timeout", "60s"}} {
		if r := d.Host.Ctl(args...); r.Code != 0 {
			t.Fatalf("subflowctl %v: exit status %d\n%s%s", args, r.Code, r.Stdout, r.Stderr)
		}
	}
}

// isNoPath checks that the daemon leaves a link alone and says why.
func isNoPath(n *lab.Net, d *lab.Daemon, dev, why string) {
	n.T.Helper()
	settled(d)
	if r := n.Client.Ctl("explain", dev); r.Code != 0 || !strings.Contains(r.Stdout, why) {
		n.T.Errorf("subflowctl explain %s: exit status %d, wanted %q in:\n%s%s", dev, r.Code, why, r.Stdout, r.Stderr)
	}
	for _, e := range n.Client.Endpoints() {
		if strings.HasSuffix(e, " dev "+dev) {
			n.T.Errorf("%s has an endpoint: %s", dev, e)
		}
	}
}

// kindOf is what the kernel calls the link's kind.
func kindOf(t testing.TB, h *lab.Host, dev string) string {
	t.Helper()
	var v []struct {
		Linkinfo struct {
			Kind string `json:"info_kind"`
		}
	}
	h.JSON(&v, "-d link show dev "+dev)
	if len(v) != 1 {
		t.Fatal(errors.New("no link " + dev))
	}
	return v[0].Linkinfo.Kind
}
