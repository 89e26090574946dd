package kernel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/pkg/mptcp"
	"github.com/subflowd/subflowd/test/lab"
)

func endpointChange(op netstate.Op, e netstate.Endpoint) netstate.Change {
	return netstate.Change{Op: op, Endpoint: e}
}

func TestEndpointsAndLimitsAsIPShowsThem(t *testing.T) {
	t.Parallel()
	h := twoUplinks(t)
	inside(t, h, func(k *Kernel) {
		eth0 := linkNamed(t, refresh(t, k, full()), "eth0").Index
		e := netstate.Endpoint{Addr: netip.MustParseAddr("10.1.1.2"), Link: eth0, Flags: netstate.SubflowFlag}
		six := netstate.Endpoint{Addr: netip.MustParseAddr("2001:db8:1::2"), Link: eth0, Flags: netstate.SubflowFlag | netstate.BackupFlag}
		apply(t, k, netstate.Change{Op: netstate.LimitsSet, Limits: netstate.Limits{Subflows: 3, AddAddrAccepted: 4}},
			endpointChange(netstate.EndpointAdd, e), endpointChange(netstate.EndpointAdd, six))
		wantLines(t, "ip mptcp limits", h.IP("mptcp limits show"), "add_addr_accepted 4 subflows 3")
		wantLines(t, "ip mptcp endpoint", h.IP("mptcp endpoint show"),
			"10.1.1.2 id 1 subflow dev eth0", "2001:db8:1::2 id 2 subflow backup dev eth0")

		err := k.Apply([]netstate.Change{endpointChange(netstate.EndpointAdd, e)})[0]
		if !errors.Is(err, mptcp.ErrExist) || MeaningOf(err) != InTheWay {
			t.Errorf("the same address again: %v", err)
		}
		err = k.Apply([]netstate.Change{{Op: netstate.LimitsSet, Limits: netstate.Limits{Subflows: 99}}})[0]
		if !errors.Is(err, unix.EINVAL) {
			t.Errorf("limits above the maximum: %v", err)
		}
		read := netstate.Limits{Subflows: 3, AddAddrAccepted: 4}
		change := netstate.Change{Op: netstate.LimitsSet, Limits: netstate.Limits{Subflows: 5, AddAddrAccepted: 4}, Found: read, Checked: true}
		h.IP("mptcp limits set subflows 7 add_addr_accepted 1")
		if err := k.Apply([]netstate.Change{change})[0]; !errors.Is(err, unix.EAGAIN) || MeaningOf(err) != Transient {
			t.Errorf("limits that somebody set since they were read: %v", err)
		}
		wantLines(t, "ip mptcp limits", h.IP("mptcp limits show"), "add_addr_accepted 1 subflows 7")
		h.IP("mptcp limits set subflows 3 add_addr_accepted 4")
		apply(t, k, change)
		wantLines(t, "ip mptcp limits", h.IP("mptcp limits show"), "add_addr_accepted 4 subflows 5")
		h.IP("mptcp limits set subflows 3 add_addr_accepted 4")

		s := refresh(t, k, netstate.Hints{Kinds: netstate.KindEndpoints})
		if len(s.Endpoints) != 2 || s.Endpoints[1].Flags != six.Flags || s.Limits.Subflows != 3 || s.MPTCP.MaxEndpoints < 8 {
			t.Fatalf("read back: %v %v %+v", s.Endpoints, s.Limits, s.MPTCP)
		}
		changed := s.Endpoints[0]
		changed.Flags |= netstate.BackupFlag
		plain := s.Endpoints[1]
		plain.Flags &^= netstate.BackupFlag
		apply(t, k, endpointChange(netstate.EndpointSet, changed), endpointChange(netstate.EndpointSet, plain))
		wantLines(t, "ip mptcp endpoint", h.IP("mptcp endpoint show"),
			"10.1.1.2 id 1 subflow backup dev eth0", "2001:db8:1::2 id 2 subflow dev eth0")

		// Somebody else gave our id to another address in between: it stays.
		h.IP("mptcp endpoint delete id 1", "mptcp endpoint add 10.1.2.2 dev eth1 id 1 signal")
		apply(t, k, endpointChange(netstate.EndpointDelete, s.Endpoints[0]), endpointChange(netstate.EndpointDelete, s.Endpoints[1]))
		wantLines(t, "ip mptcp endpoint", h.IP("mptcp endpoint show"), "10.1.2.2 id 1 signal dev eth1")
		err = k.Apply([]netstate.Change{endpointChange(netstate.EndpointSet, changed)})[0]
		if MeaningOf(err) != Gone {
			t.Errorf("change of an endpoint that is another's now: %v", err)
		}
		h.Sysctl("net.mptcp.enabled", "0", "net.mptcp.pm_type", "1")
		if s := refresh(t, k, netstate.Hints{Kinds: netstate.KindEndpoints}); s.MPTCP.Enabled || !s.MPTCP.UserspacePM {
			t.Errorf("sysctls: %+v", s.MPTCP)
		}
	})
}

// TestPathCarriesTraffic lets the kernel judge: routes, rules and endpoints that
// Apply made give a connection its second subflow.
func TestPathCarriesTraffic(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	n.Server.Listen(n.ServerAddr + ":5001")
	n.Server.IP("mptcp limits set subflows 4 add_addr_accepted 4")
	inside(t, n.Client, func(k *Kernel) {
		s := refresh(t, k, full())
		var changes []netstate.Change
		for _, p := range []*lab.Path{n.A, n.B} {
			link, addr := linkNamed(t, s, p.Dev).Index, netip.MustParseAddr(p.Addr)
			table := testOptions.TableBase + uint32(link)
			changes = append(changes, routeChanges(netstate.RouteAdd, path4(table, link, p.Gateway)[:2]...)...)
			changes = append(changes, appendRules(ruleSet(addr, table)[1:])...)
			changes = append(changes, endpointChange(netstate.EndpointAdd, netstate.Endpoint{Addr: addr, Link: link, Flags: netstate.SubflowFlag}))
		}
		apply(t, k, append(changes, netstate.Change{Op: netstate.LimitsSet, Limits: netstate.Limits{Subflows: 2}})...)
	})
	ctx, cancel := context.WithCancel(context.Background())
	events := make(chan struct{}, 1000)
	var k *Kernel
	opened := make(chan struct{})
	done := n.Client.Go(func() {
		var err error
		if k, err = Open(testOptions); err != nil {
			t.Error(err)
		}
		close(opened)
		if err := k.Watcher().WatchConnections(ctx, func() { events <- struct{}{} }); !errors.Is(err, context.Canceled) {
			t.Errorf("watch connections: %v", err)
		}
	})
	<-opened
	defer func() {
		cancel()
		<-done
		k.Close()
	}()
	c := n.Client.Dial(n.ServerAddr + ":5001")
	c.WantSubflows(n.A.Addr, n.B.Addr)
	select {
	case <-events:
	case <-time.After(time.Minute):
		t.Error("no event of a connection")
	}
	c.WantEcho(10 * time.Second)
	list, err := k.Connections()
	if err != nil || len(list) != 1 || len(list[0].Subflows) != 2 || list[0].Fallback || list[0].State != netstate.Established {
		t.Fatalf("connections: %+v, %v", list, err)
	}
	for _, f := range list[0].Subflows {
		second := f.Local.Addr() == netip.MustParseAddr(n.B.Addr)
		if f.JoinLocal != second || f.JoinRemote || (f.Link != 0) != second || f.State != netstate.Established {
			t.Errorf("subflow %+v", f)
		}
	}
	closed, err := k.DestroySubflows(func(f netstate.Subflow) bool { return f.JoinLocal })
	if err != nil || len(closed) != 1 || closed[0].Local.Addr().String() != n.B.Addr {
		t.Errorf("destroyed: %+v, %v", closed, err)
	}
	lab.Eventually(t, time.Minute, "one subflow", func() error {
		if list, err = k.Connections(); err != nil || len(list) != 1 || len(list[0].Subflows) != 1 {
			return fmt.Errorf("%+v, %v", list, err)
		}
		return nil
	})
	c.WantEcho(10 * time.Second)
}
