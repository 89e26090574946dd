package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/subflowd/subflowd/pkg/mptcp"
	"github.com/subflowd/subflowd/test/lab"
)

func TestEventLine(t *testing.T) {
	at, from := netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("10.0.0.2:4000")
	for want, e := range map[string]mptcp.Event{
		"type:10,token:7,family:2,saddr4:10.0.0.1,daddr4:10.0.0.2,sport:80,dport:4000,loc_id:2,rem_id:0,backup:1,server_side:1": {
			Type: mptcp.EventSubflowEstablished, Token: 7, Family: unix.AF_INET, LocalID: 2, Backup: true, ServerSide: true, Local: at, Remote: from,
		},
		"type:1,token:7,deny_join_id0:1,family:10,saddr6:::ffff:10.0.0.1,daddr6:::ffff:10.0.0.2,sport:80,dport:4000,loc_id:0,rem_id:0": {
			Type: mptcp.EventCreated, Token: 7, Family: unix.AF_INET6, Flags: mptcp.EventDenyJoinID0, Local: at, Remote: from,
		},
		"type:6,token:7,rem_id:3,dport:4000,daddr4:10.0.0.2": {Type: mptcp.EventAnnounced, Token: 7, RemoteID: 3, Remote: from},
		"type:6,token:7,rem_id:3,daddr6:2001:db8::2": {
			Type: mptcp.EventAnnounced, Token: 7, RemoteID: 3, Remote: netip.MustParseAddrPort("[2001:db8::2]:0"),
		},
		"type:15,family:2,sport:80,saddr4:10.0.0.1": {Type: mptcp.EventListenerCreated, Family: unix.AF_INET, Local: at},
	} {
		if got := line(e); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// watchers are the program and, where KSELFTEST_DIR is set, the kernel's own; all of them listen.
func watchers(t *testing.T, h *lab.Host, exe string) map[string]*lab.Proc {
	all := map[string]*lab.Proc{"pm_nl_ctl": h.Start(exe, "events")}
	if source := kernelSource(); source != "" {
		all["the kernel's"] = h.Start(compile(t, h, source, "pm_nl_ctl"), "events")
	}
	s := h.Listen("127.0.0.1:5000")
	defer s.Close()
	lab.Eventually(t, 20*time.Second, "events", func() error {
		c := h.Dial("127.0.0.1:5000")
		defer c.Close()
		for name, p := range all {
			if err := c.Echo(5 * time.Second); err != nil || p.Log() == "" {
				return fmt.Errorf("%s has heard nothing: %w", name, err)
			}
		}
		return nil
	})
	return all
}

// linesOf are those of a connection, sorted. Before 6.18 the kernel's program wrote server_side where it found it.
func linesOf(p *lab.Proc, token uint32) []string {
	var out []string
	for _, l := range strings.Fields(p.Log()) {
		if !strings.Contains(l+",", fmt.Sprintf(",token:%d,", token)) {
			continue
		}
		if rest := strings.Replace(l, ",server_side:1", "", 1); rest != l {
			l = rest + ",server_side:1"
		}
		out = append(out, strings.Replace(l, ",server_side:0", "", 1))
	}
	slices.Sort(out)
	return out
}

// TestEvents: a connection comes, gets a second subflow, which becomes a backup and a whole one again and is taken away, and
// goes.
func TestEvents(t *testing.T) {
	l := lab.New(t)
	client, server := l.Host("client"), l.Host("server")
	lab.Veth(client, "eth0", server, "eth0")
	client.IP("addr add 10.0.0.1/24 dev eth0", "addr add 10.0.0.2/24 dev eth0", "addr add 2001:db8::1/64 dev eth0 nodad",
		"addr add 2001:db8::2/64 dev eth0 nodad", "mptcp limits set subflows 2")
	server.IP("addr add 10.0.0.9/24 dev eth0", "addr add 2001:db8::9/64 dev eth0 nodad", "mptcp limits set subflows 2")
	exe := program(t, l.TempDir())
	ends := []map[string]*lab.Proc{watchers(t, client, exe), watchers(t, server, exe)}
	for _, c := range []struct{ first, second, server, format string }{
		{"10.0.0.1", "10.0.0.2", "10.0.0.9", "family:2,saddr4:%s,daddr4:%s"},
		{"2001:db8::1", "2001:db8::2", "2001:db8::9", "family:10,saddr6:%s,daddr6:%s"},
	} {
		address := netip.AddrPortFrom(netip.MustParseAddr(c.server), 5001).String()
		s := server.Listen(address)
		client.Run(exe, "add", c.second, "flags", "subflow", "id", "3")
		conn := client.Dial(address, lab.From(c.first))
		conn.WantEcho(20 * time.Second)
		conn.WantSubflows(c.first, c.second)
		var first, join uint16
		for _, f := range conn.Subflows() {
			if f.Local.Addr().String() == c.first {
				first = f.Local.Port()
			} else {
				join = f.Local.Port()
			}
		}
		tokens := []uint32{conn.Info().Token, 0}
		lab.Eventually(t, 20*time.Second, "the server's end", func() error {
			for _, sc := range s.Conns() {
				tokens[1] = sc.Info().Token
			}
			if tokens[1] == 0 {
				return errors.New("no connection")
			}
			return nil
		})
		own := fmt.Sprintf(c.format+",sport:%d,dport:5001,loc_id:0,rem_id:0", c.first, c.server, first)
		its := fmt.Sprintf(c.format+",sport:5001,dport:%d,loc_id:0,rem_id:0,server_side:1", c.server, c.first, first)
		ownJoin := fmt.Sprintf(c.format+",sport:%d,dport:5001,loc_id:3,rem_id:0,backup:0", c.second, c.server, join)
		itsJoin := fmt.Sprintf(c.format+",sport:5001,dport:%d,loc_id:0,rem_id:3,backup:", c.server, c.second, join)
		want := make([][]string, len(ends))
		// come waits until every program has written the lines, besides those before: their type, and what follows the token.
		come := func(client, server []string) {
			t.Helper()
			for end, lines := range [][]string{client, server} {
				for _, line := range lines {
					typ, rest, _ := strings.Cut(line, " ")
					want[end] = append(want[end], strings.TrimSuffix(fmt.Sprintf("type:%s,token:%d,%s", typ, tokens[end], rest), ","))
				}
				slices.Sort(want[end])
				lab.Eventually(t, 20*time.Second, "lines", func() error {
					for name, p := range ends[end] {
						if got := linesOf(p, tokens[end]); !slices.Equal(got, want[end]) {
							return fmt.Errorf("%s prints\n%s\nwanted\n%s", name, strings.Join(got, "\n"), strings.Join(want[end], "\n"))
						}
					}
					return nil
				})
			}
		}
		come([]string{"1 " + own, "2 " + own, "10 " + ownJoin}, []string{"1 " + its, "2 " + its, "10 " + itsJoin + "0"})
		client.Run(exe, "set", "id", "3", "flags", "backup")
		come(nil, []string{"13 " + itsJoin + "1"})
		client.Run(exe, "set", "id", "3", "flags", "nobackup")
		come(nil, []string{"13 " + itsJoin + "0"})
		client.Run(exe, "del", "3")
		come([]string{"11 " + ownJoin}, []string{"7 rem_id:3", "11 " + itsJoin + "0"})
		conn.Close()
		s.Close()
		come([]string{"3"}, []string{"3"})
	}
}

// TestListen: both verbs make a listener that speaks MPTCP; accept takes what comes, listen leaves it waiting.
func TestListen(t *testing.T) {
	l := lab.New(t)
	h := l.Host("host")
	exe := program(t, l.TempDir())
	var major, minor int
	if _, err := fmt.Sscanf(h.Run("uname", "-r"), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	all := watchers(t, h, exe)
	for port, c := range map[string]struct{ verb, address, waiting, saddr string }{
		"5003": {"listen", "127.0.0.1", "1", "family:2,sport:5003,saddr4:127.0.0.1"},
		"5004": {"accept", "127.0.0.1", "0", "family:2,sport:5004,saddr4:127.0.0.1"},
		"5005": {"accept", "::1", "0", "family:10,sport:5005,saddr6:::1"},
	} {
		p := h.Start(exe, c.verb, c.address, port)
		to := net.JoinHostPort(c.address, port)
		var conn *lab.Conn
		lab.Eventually(t, 20*time.Second, c.verb, func() (err error) {
			conn, err = h.TryDial(to)
			return err
		})
		if !conn.Info().MPTCP {
			t.Errorf("%s: the connection fell back: %+v", c.verb, conn.Info())
		}
		lab.Eventually(t, 20*time.Second, "queue of "+c.verb, func() error {
			if f := strings.Fields(h.Run("ss", "-Hltn", "sport = :"+port)); len(f) < 2 || f[1] != c.waiting {
				return fmt.Errorf("%q, wanted %s that wait", f, c.waiting)
			}
			return nil
		})
		if !p.Running() || p.Log() != "" {
			t.Errorf("%s has ended, or says %q", c.verb, p.Log())
		}
		p.Stop()
		for _, typ := range []string{"type:15,", "type:16,"} {
			if major < 6 || major == 6 && minor < 2 {
				break // no event of listeners
			}
			lab.Eventually(t, 20*time.Second, "event of the listener", func() error {
				for name, w := range all {
					if !slices.Contains(strings.Fields(w.Log()), typ+c.saddr) {
						return fmt.Errorf("%s does not print %s", name, typ+c.saddr)
					}
				}
				return nil
			})
		}
	}
}
