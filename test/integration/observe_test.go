package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/subflowd/subflowd/pkg/status"
	"github.com/subflowd/subflowd/test/lab"
)

// connectionTo is what subflowctl says of the one connection to an address.
func connectionTo(h *lab.Host, remote string, args ...string) (status.Connection, error) {
	var d status.Connections
	h.CtlJSON(&d, append([]string{"connections"}, args...)...)
	i := slices.IndexFunc(d.Connections, func(c status.Connection) bool { return c.Remote == remote })
	if i < 0 {
		return status.Connection{}, fmt.Errorf("no connection to %s among %d", remote, len(d.Connections))
	}
	return d.Connections[i], nil
}

// links are the links of the subflows, with the addresses that should be elsewhere.
func links(c status.Connection) string {
	var out []string
	for _, f := range c.Subflows {
		s := f.Link
		if f.AddressLink != "" {
			s += " not " + f.AddressLink
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

// TestConnections compares what subflowctl shows with what was dialled: over both links, fallen back, both families,
// by another user, and after an endpoint is gone.
func TestConnections(t *testing.T) {
	t.Parallel()
	for _, family := range []struct {
		name string
		opts []lab.Option
		host func(*lab.Net) string
	}{
		{"IPv4", nil, func(n *lab.Net) string { return n.ServerAddr }},
		{"IPv6", []lab.Option{lab.IPv6Only()}, func(n *lab.Net) string { return "[" + n.ServerAddr6 + "]" }},
	} {
		t.Run(family.name, func(t *testing.T) {
			t.Parallel()
			n := lab.TwoSubnets(t, append(family.opts, lab.Rate("20mbit"))...)
			multi, plain := family.host(n)+":5001", family.host(n)+":5002"
			d := n.Client.Daemon()
			lab.Eventually(t, soon, "the paths", func() error { return n.CheckUplinks("subflow", n.A, n.B) })
			n.Server.Listen(multi)
			n.Server.Listen(plain, lab.TCP())
			c, back := n.Client.Dial(multi), n.Client.Dial(plain)
			back.WantEcho(soon)
			up := c.StartUpload()
			lab.Eventually(t, soon, "a rate on both links", func() error {
				found, err := connectionTo(n.Client, multi, "--interval", "200ms")
				if err != nil {
					return err
				}
				if s := links(found); s != "eth0, eth1" || found.Fallback || found.State != "ESTAB" || found.Local != c.LocalAddr().String() {
					return fmt.Errorf("links %q: %+v", s, found)
				}
				for _, f := range found.Subflows {
					if f.Rate == nil || f.Rate.SentBytesPerSecond < 100_000 || f.RTTSeconds <= 0 || f.Cwnd == 0 || f.SentBytes == 0 {
						return fmt.Errorf("%s: %+v %+v", f.Link, f, f.Rate)
					}
				}
				return nil
			})
			if f, err := connectionTo(n.Client, plain); err != nil || !f.Fallback || links(f) != "eth0" || f.SentBytes == 0 || f.ReceivedBytes == 0 {
				t.Errorf("fallen back: %+v %v", f, err)
			}
			// The server sees both, by the one link that it has.
			if f, err := connectionTo(n.Server, c.LocalAddr().String()); err != nil || links(f) != "eth0, eth0" {
				t.Errorf("from the server: %q %+v %v", links(f), f, err)
			}
			var doc status.Document
			lab.Eventually(t, soon, "traffic in the status", func() error {
				n.Client.CtlJSON(&doc, "status")
				for _, p := range doc.Paths {
					if x := p.Traffic; x == nil || x.Subflows != 1 || x.Connections != 1 || x.SentBytes == 0 || x.LinkSentBytes < x.SentBytes {
						return fmt.Errorf("%s: %+v", p.Link, x)
					}
				}
				return nil
			})
			if r := n.Client.Ctl("status"); strings.Count(r.Stdout, "by 1 subflow; link in ") != 2 {
				t.Errorf("status\n%s", r.Stdout)
			}
			d.Stop()
			if r := n.Client.Ctl("connections", "eth1"); r.Code != 0 || !strings.Contains(r.Stdout, "1 MPTCP connection with 2 subflows") {
				t.Errorf("without the daemon: %d\n%s%s", r.Code, r.Stdout, r.Stderr)
			}
			// Another user sees them too, as far as the kernel shows subflows to others.
			as := []string{"--reuid", "4711", "--regid", "4711", "--clear-groups", "--", lab.Bin(t, "subflowctl"), "connections"}
			if out, err := n.Client.Try("setpriv", as...); err != nil || !strings.Contains(out, "2 MPTCP connections") {
				t.Errorf("as another user: %v\n%s", err, out)
			}
			up.Stop(0)
			// Its TCP goes on ending on a dark path.
			n.B.Blackhole()
			n.Client.IP("mptcp endpoint flush")
			lab.Eventually(t, soon, "the subflow is none any more", func() error {
				found, err := connectionTo(n.Client, multi)
				if err != nil || slices.ContainsFunc(found.Subflows, func(f status.Subflow) bool { return f.Link == "eth1" }) {
					return fmt.Errorf("%q %v", links(found), err)
				}
				return nil
			})
		})
	}
}

// TestConnectionByTheWrongLink: without source rules and without a device the second subflow leaves by the first link.
func TestConnectionByTheWrongLink(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	n.Client.IP("mptcp limits set subflows 4", "mptcp endpoint add "+n.B.Addr+" subflow")
	n.Server.Listen(n.ServerAddr + ":5001")
	c := n.Client.Dial(n.ServerAddr + ":5001")
	c.WantEcho(soon)
	lab.Eventually(t, soon, "the subflow", func() error {
		found, err := connectionTo(n.Client, n.ServerAddr+":5001")
		if err != nil || links(found) != "eth0, eth0 not eth1" {
			return fmt.Errorf("%q %v", links(found), err)
		}
		return nil
	})
}

// events reads what a monitor has printed so far.
func events(t *testing.T, p *lab.Proc) []status.Event {
	t.Helper()
	var out []status.Event
	lines := bufio.NewScanner(strings.NewReader(p.Log()))
	for lines.Scan() {
		var e status.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			continue // it is being written
		}
		out = append(out, e)
	}
	return out
}

// TestMonitor follows a daemon that comes, works and goes, and a connection beside.
func TestMonitor(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	n.Server.Listen(n.ServerAddr + ":5001")
	monitor := func(who ...string) *lab.Proc {
		args := append(who, lab.Bin(t, "subflowctl"), "--socket", n.Client.StateDir()+"/control.sock", "-o", "json", "monitor")
		return n.Client.Start(args[0], args[1:]...)
	}
	p := monitor()
	wait := func(what string, ok func(e status.Event) bool) status.Event {
		t.Helper()
		var found status.Event
		lab.Eventually(t, soon, what, func() error {
			all := events(t, p)
			i := slices.IndexFunc(all, ok)
			if i < 0 {
				return fmt.Errorf("%d events", len(all))
			}
			found = all[i]
			return nil
		})
		return found
	}
	of := func(s status.EventSource, typ status.EventType) func(status.Event) bool {
		return func(e status.Event) bool { return e.Source == s && e.Type == typ }
	}
	wait("there is no daemon", of(status.FromMonitor, status.EventAway))
	d := n.Client.Daemon()
	wait("the daemon", of(status.FromDaemon, status.EventHello))
	lab.Eventually(t, soon, "the paths", func() error { return n.CheckUplinks("subflow", n.A, n.B) })

	c := n.Client.Dial(n.ServerAddr + ":5001")
	c.WantEcho(soon)
	c.WantSubflows(n.A.Addr, n.B.Addr)
	began := wait("the connection", of(status.FromKernel, status.EventConnectionCreated))
	if began.Link != "eth0" || began.Local != c.LocalAddr().String() || began.ServerSide {
		t.Errorf("%+v", began)
	}
	if e := wait("the second subflow", of(status.FromKernel, status.EventSubflowEstablished)); e.Link != "eth1" || e.Token != began.Token || e.ConnectionLocal != began.Local || e.ConnectionRemote != n.ServerAddr+":5001" {
		t.Errorf("%+v", e)
	}
	n.Client.IP("addr del " + n.B.Addr + "/24 dev eth1")
	lab.Eventually(t, soon, "the endpoint is vacant", func() error {
		if err := c.Echo(lab.Patient(soon)); err != nil { // the first subflow proves itself
			return err
		}
		return n.Client.CheckEndpoints(n.A.Addr + " subflow dev eth0")
	})
	wait("the rules go", func(e status.Event) bool {
		return of(status.FromDaemon, status.EventChange)(e) && strings.HasPrefix(e.Command, "ip -4 rule del from "+n.B.Addr) && e.Reason != "" && e.Trigger != ""
	})
	if e := wait("the path goes", of(status.FromDaemon, status.EventPath)); e.Link == "" || e.PathState == "" {
		t.Errorf("%+v", e)
	}
	wait("the subflow is closed", of(status.FromKernel, status.EventSubflowClosed))
	_ = c.Close()
	wait("the connection ends", func(e status.Event) bool {
		return of(status.FromKernel, status.EventConnectionClosed)(e) && e.Token == began.Token && e.ConnectionLocal == began.Local
	})
	d.Stop()
	wait("the daemon is gone", func(e status.Event) bool {
		return of(status.FromMonitor, status.EventAway)(e) && strings.Contains(e.Text, "gone")
	})
	if err := p.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := p.Wait(soon); code != 0 {
		t.Errorf("the monitor's exit status is %d", code)
	}

	// Another user hears the daemon alone, and is told so.
	if _, err := exec.LookPath("setpriv"); err != nil {
		t.Fatal("setpriv is missing: install the Debian package util-linux")
	}
	n.Client.Daemon().WaitSocket()
	p = monitor("setpriv", "--reuid", "4711", "--regid", "4711", "--clear-groups", "--")
	wait("the daemon", of(status.FromDaemon, status.EventHello))
	lab.Eventually(t, soon, "a word about the capability", func() error {
		if !strings.Contains(p.Log(), "CAP_NET_ADMIN") {
			return fmt.Errorf("%q", p.Log())
		}
		return nil
	})
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.Wait(soon)
}

// TestMonitorOfManyChanges reads all changes of a round that makes more than the daemon remembers of earlier ones.
func TestMonitorOfManyChanges(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	d := n.Client.Daemon()
	lab.Eventually(t, soon, "the paths", func() error { return n.CheckUplinks("subflow", n.A, n.B) })
	settled(d)
	p := n.Client.Start(lab.Bin(t, "subflowctl"), "--socket", d.Socket, "-o", "json", "monitor", "--only", "subflowd")
	lab.Eventually(t, soon, "the greeting", func() error {
		if len(events(t, p)) == 0 {
			return fmt.Errorf("%q", p.Log())
		}
		return nil
	})
	const many = 200
	var add []string
	for i := range many {
		add = append(add, fmt.Sprintf("addr add 10.1.1.%d/24 dev eth0", 20+i))
	}
	n.Client.IP(add...)
	lab.Eventually(t, 2*soon, "every change", func() error {
		made := map[string]bool{}
		for _, e := range events(t, p) {
			switch {
			case e.Type == status.EventLost:
				t.Fatalf("%s", e.Text)
			case e.Type == status.EventChange && strings.Contains(e.Command, "rule add from 10.1.1."):
				made[e.Command] = true
			}
		}
		if len(made) != 2*many {
			return fmt.Errorf("%d rules, want %d", len(made), 2*many)
		}
		return nil
	})
	_ = p.Signal(syscall.SIGINT)
	if code := p.Wait(time.Minute); code != 0 {
		t.Errorf("exit status %d", code)
	}
}
