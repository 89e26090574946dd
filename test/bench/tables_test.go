//go:build bench

package bench

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/subflowd/subflowd/internal/diff"
	"github.com/subflowd/subflowd/internal/kernel"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/test/lab"
)

// size is how large a table is, or what an environment variable says.
func size(env string, n int) int {
	if v, err := strconv.Atoi(os.Getenv(env)); err == nil && v > 0 {
		return v
	}
	return n
}

// manyRoutes runs `ip -batch` with a command on each of many prefixes, and returns the processor time of that, the
// kernel's part included.
func manyRoutes(t *testing.T, h *lab.Host, verb, protocol string, n int) time.Duration {
	t.Helper()
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "route %s %d.%d.%d.%d/32 via 10.1.1.1 dev eth0 proto %s\n", verb, 20+i>>24, i>>16&255, i>>8&255, i&255, protocol)
	}
	cmd := h.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(b.String())
	var err error
	h.Do(func() { err = cmd.Run() })
	if err != nil {
		t.Fatalf("ip -batch, %s of %d routes: %v", verb, n, err)
	}
	u := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestManyRoutes runs the daemon beside a full table of a routing daemon.
func TestManyRoutes(t *testing.T) {
	n := size("SUBFLOW_BENCH_ROUTES", 1000000)
	l := lab.New(t)
	s := newSubject(t, l, "ours")
	d := s.startOurs()
	s.bring()
	s.take()
	quiet(t, d.Pid)
	before := cpuOf(t, d.Pid)
	used := manyRoutes(t, s.h, "add", "bgp", n)
	quiet(t, d.Pid)
	var came samples
	added := cpuOf(t, d.Pid) - before
	for range repetitions(10) {
		came = append(came, s.bring())
		s.take()
	}
	quiet(t, d.Pid)
	what := fmt.Sprintf("%d foreign routes: ", n)
	peak := statusOf(t, d.Pid, "VmHWM", false)
	d.Stop()
	begun := time.Now()
	if r := s.h.Subflowd("--once", "--log-level", "error"); r.Code != 0 {
		t.Fatalf("subflowd --once: %d: %s", r.Code, r.Stderr)
	}
	reportBound(t, what+"start", time.Since(begun), time.Second)
	d = s.startOurs()
	quiet(t, d.Pid)
	before = cpuOf(t, d.Pid)
	used += manyRoutes(t, s.h, "del", "bgp", n)
	quiet(t, d.Pid)
	added += cpuOf(t, d.Pid) - before
	reportBound(t, what+"a new address is complete, median", came.median(), 50*time.Millisecond)
	report(t, what+"processor time of their coming and going: 1 % of the kernel and ip", short(added), short(used/100), ofTimes(added, used/100), 1)
	report(t, what+"memory at the most: 40 MiB", fmt.Sprintf("%.1f MiB", float64(peak)/1024), "40 MiB", float64(peak)/1024/40, 1)
}

// TestManyRoutesOfHosts: routes of a protocol by which hosts are configured are all looked at; the result is the same.
func TestManyRoutesOfHosts(t *testing.T) {
	n := size("SUBFLOW_BENCH_ROUTES", 1000000)
	l := lab.New(t)
	s := newSubject(t, l, "ours")
	manyRoutes(t, s.h, "add", "boot", n)
	d := s.startOurs()
	took := s.bring()
	if err := s.h.CheckRoute("192.0.2.1", "from "+newAddr, "dev "+newLink+" via "+newGateway); err != nil {
		t.Error(err)
	}
	quiet(t, d.Pid)
	report(t, fmt.Sprintf("%d foreign routes of protocol boot: a new address is complete; 1 min", n), short(took), "60 s", took.Minutes(), 1)
}

// TestManyLinks has veth pairs come and go beside the uplinks, as on a host of containers.
func TestManyLinks(t *testing.T) {
	n := size("SUBFLOW_BENCH_LINKS", 1000)
	l := lab.New(t)
	s := newSubject(t, l, "ours")
	d := s.startOurs()
	quiet(t, d.Pid)
	m := s.h.Start("ip", "-o", "monitor", "link", "address", "route")
	var add, del []string
	for i := range n {
		add = append(add, fmt.Sprintf("link add v%d type veth peer name w%d", i, i), fmt.Sprintf("link set v%d up", i))
		del = append(del, fmt.Sprintf("link del v%d", i))
	}
	before := cpuOf(t, d.Pid)
	s.h.IP(add...)
	quiet(t, d.Pid)
	var came samples
	for range repetitions(10) {
		came = append(came, s.bring())
		s.take()
	}
	quiet(t, d.Pid)
	mark := strings.Count(m.Log(), "\n")
	spent := cpuOf(t, d.Pid) - before
	before = cpuOf(t, d.Pid)
	s.h.IP(del...)
	quiet(t, d.Pid)
	spent += cpuOf(t, d.Pid) - before
	events := strings.Count(m.Log(), "\n")
	t.Logf("%d events, %d of them before the links went", events, mark)
	reportBound(t, fmt.Sprintf("%d veth pairs come and go: processor time for each event", n), spent/time.Duration(max(events, 1)), 100*time.Microsecond)
	reportBound(t, fmt.Sprintf("%d veth pairs: a new address is complete, median", n), came.median(), 5*time.Millisecond)
}

// TestManyAddresses builds everything for many addresses of one uplink.
func TestManyAddresses(t *testing.T) {
	n := size("SUBFLOW_BENCH_ADDRESSES", 500)
	l := lab.New(t)
	s := newSubject(t, l, "ours")
	var add []string
	for i := range n {
		add = append(add, fmt.Sprintf("addr add 10.1.%d.%d/16 dev eth0", 4+i/250, i%250+1))
	}
	s.h.IP(add...)
	var took samples
	for range repetitions(5) {
		begun := time.Now()
		if r := s.h.Subflowd("--once", "--log-level", "error"); r.Code != 0 {
			t.Fatalf("subflowd --once: %d: %s", r.Code, r.Stderr)
		}
		took = append(took, time.Since(begun))
		if rules := strings.Count(s.h.IP("rule"), "lookup main suppress_prefixlength 0"); rules < n {
			t.Fatalf("%d addresses have rules, wanted at least %d", rules, n)
		}
		s.h.Subflowd("--cleanup")
	}
	reportBound(t, fmt.Sprintf("%d uplink addresses: everything built, with the start of the process", n), took.median(), 500*time.Millisecond)
}

// TestManyConnections decides whether an endpoint is vacant while every connection of many has a subflow on it.
func TestManyConnections(t *testing.T) {
	n := size("SUBFLOW_BENCH_CONNECTIONS", 5000)
	net := prepared(t, false)
	var wg sync.WaitGroup
	for w := range 20 {
		wg.Go(func() {
			for i := w; i < n; i += 20 {
				if c, err := net.Client.TryDial(net.ServerAddr + port); err != nil {
					t.Error(err)
				} else if err := c.Echo(giveUp); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var took samples
	net.Client.Do(func() {
		k, err := kernel.Open(kernel.Options{Protocol: 77, TableBase: 100000})
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		live := map[netip.Addr]bool{netip.MustParseAddr(net.A.Addr): true}
		unwanted := netstate.Endpoint{Addr: netip.MustParseAddr(net.B.Addr), Link: net.Client.Ifindex(net.B.Dev)}
		decide := func() error {
			begun := time.Now()
			list, err := k.Connections()
			if err != nil {
				return err
			}
			v := diff.IndexConnections(list).Vacancy(unwanted, live, time.Hour)
			took = append(took, time.Since(begun))
			if len(list) < n || !v.Vacant || v.Why != fmt.Sprintf("%d connections have another subflow that works", n) {
				return fmt.Errorf("%d connections, wanted %d that use the endpoint and do not need it: %+v", len(list), n, v)
			}
			return nil
		}
		lab.Eventually(t, giveUp, "second subflows", decide)
		took = nil
		for range repetitions(10) {
			if err := decide(); err != nil {
				t.Fatal(err)
			}
		}
	})
	reportBound(t, fmt.Sprintf("%d connections: whether an endpoint is vacant", n), took.median(), 50*time.Millisecond)
}
