package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/subflowd/subflowd/test/lab"
)

// configure writes a configuration and has it taken by subflowctl reload, which returns when it is in effect.
func configure(d *lab.Daemon, toml string) lab.Result {
	t := d.Host.Lab.T
	t.Helper()
	if err := os.WriteFile(d.Config, []byte(toml), 0o644); err != nil {
		t.Fatal(err)
	}
	d.WaitSocket()
	return d.Host.Ctl("reload")
}

// take is configure for a configuration that must be taken.
func take(d *lab.Daemon, toml string) {
	d.Host.Lab.T.Helper()
	if r := configure(d, toml); r.Code != 0 {
		d.Host.Lab.T.Fatalf("subflowctl reload: exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
}

func TestReloadOfABadFile(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	d := n.Client.DaemonConfig("role = \"client\"\n")
	reach(n, n.A, n.B)
	m := n.Client.Monitor()
	r := configure(d, "role = \"client\"\nrolle = 1\n[routing]\npriority = 40000\n")
	if r.Code != 1 || r.Stdout != "" {
		t.Errorf("exit status %d, stdout %q", r.Code, r.Stdout)
	}
	for _, part := range []string{`subflowd.toml:2:1: unknown key "rolle"`, "did you mean role", "subflowd.toml:4:", "not taken"} {
		if !strings.Contains(r.Stderr, part) {
			t.Errorf("subflowctl reload does not say %q:\n%s", part, r.Stderr)
		}
	}
	says := func(part string) error {
		if s := n.Client.Ctl("status"); strings.Contains(s.Stdout, part) {
			return nil
		}
		return fmt.Errorf("status does not say %q:\n%s", part, n.Client.Ctl("status").Stdout)
	}
	lab.Eventually(t, soon, "the condition", func() error { return says("subflowd.toml:2:1") })
	lab.Eventually(t, soon, "the log", func() error { // it arrives by a pipe
		if l := d.Log(); !strings.Contains(l, `subflowd.toml:2:1: unknown key "rolle"`) || !strings.Contains(l, "subflowd.toml:4:") {
			return fmt.Errorf("it does not name every mistake:\n%s", l)
		}
		return nil
	})
	var doc struct {
		Conditions []struct{ Code, Severity, Text string }
		Daemon     struct{ Config []string }
	}
	n.Client.CtlJSON(&doc, "status")
	if len(doc.Conditions) != 1 || doc.Conditions[0].Code != "config-rejected" || doc.Conditions[0].Severity != "error" {
		t.Errorf("conditions %+v", doc.Conditions)
	}
	m.WantNone()
	if err := check(n, n.A, n.B); err != nil {
		t.Error(err)
	}
	// The same by SIGHUP, and the way back, with a file more.
	d.Configure("backup = true\n")
	lab.Eventually(t, soon, "the other mistake", func() error { return says("subflowd.toml:1:1") })
	more := filepath.Join(filepath.Dir(d.Config), "conf.d", "10-more.toml")
	if err := os.MkdirAll(filepath.Dir(more), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(more, []byte("resync = \"20s\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	take(d, "")
	n.Client.CtlJSON(&doc, "status")
	if want := []string{d.Config, more}; !slices.Equal(doc.Daemon.Config, want) || len(doc.Conditions) > 0 {
		t.Errorf("status lists the files %q, wanted %q; conditions %+v", doc.Daemon.Config, want, doc.Conditions)
	}
	if err := check(n, n.A, n.B); err != nil {
		t.Error(err)
	}
}

// TestBackupInPlace changes the backup flag while a connection uses both paths: the peer is told, no subflow ends, and
// the other link sees nothing.
func TestBackupInPlace(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	d := n.Client.Daemon()
	reach(n, n.A, n.B)
	c := dial(n, "10.9.0.2:5001", n.A.Addr, n.B.Addr)
	subflows, before := c.Ends(), found(n.Client)
	m := n.Client.Monitor()
	for i, step := range []struct{ config, flags string }{
		{"[[link]]\nname = \"eth1\"\nbackup = true\n", "backup subflow"},
		{"", "subflow"},
	} {
		told := n.Client.Counter("MPTcpExtMPPrioTx")
		take(d, step.config)
		want := slices.Clone(before)
		for k, l := range want {
			want[k] = strings.Replace(l, "endpoint 10.1.2.2 subflow", "endpoint 10.1.2.2 "+step.flags, 1)
		}
		if err := compare(want, found(n.Client)); err != nil {
			t.Errorf("step %d: %v", i, err)
		}
		c.WantEcho(soon)
		if now := n.Client.Counter("MPTcpExtMPPrioTx"); now == told {
			t.Errorf("step %d: no MP_PRIO was sent", i)
		}
		if now := c.Ends(); !slices.Equal(subflows, now) {
			t.Errorf("step %d: the connection had subflows %q and has %q", i, subflows, now)
		}
	}
	for _, l := range m.Stop() {
		if !strings.Contains(l, "mptcp 10.1.2.2 ") {
			t.Errorf("a change that nobody asked for: %s", l)
		}
	}
}

// TestOtherFlags changes what the kernel cannot change in place: the endpoint is replaced when no connection depends on
// it, and not before.
func TestOtherFlags(t *testing.T) {
	t.Parallel()
	t.Run("vacant", func(t *testing.T) {
		t.Parallel()
		n := lab.TwoSubnets(t)
		d := n.Client.Daemon()
		reach(n, n.A, n.B)
		c := dial(n, "10.9.0.2:5001", n.A.Addr, n.B.Addr)
		first := c.Ends()
		stop := c.Talk(t, soon)
		take(d, "[[link]]\nname = \"eth1\"\nfullmesh = true\n")
		lab.Eventually(t, soon, "fullmesh", func() error {
			return n.Client.CheckEndpoints("10.1.1.2 subflow dev eth0", "10.1.2.2 fullmesh subflow dev eth1")
		})
		lab.Eventually(t, soon, "both subflows", func() error { return c.CheckSubflows(n.A.Addr, n.B.Addr) })
		stop()
		if now := c.Ends(); now[0] != first[0] {
			t.Errorf("the subflow of eth0 was %q and is %q", first[0], now[0])
		}
	})
	t.Run("needed", func(t *testing.T) {
		t.Parallel()
		n := lab.TwoSubnets(t, lab.RefuseJoins())
		d := n.Client.Daemon()
		reach(n, n.A, n.B)
		n.Server.Listen("10.9.0.2:5001")
		c := n.Client.Dial("10.9.0.2:5001", lab.From(n.B.Addr))
		c.WantEcho(soon)
		subflows := c.Ends()
		take(d, "[[link]]\nname = \"eth1\"\nrole = \"both\"\n")
		for range 3 {
			settled(d)
			n.Client.WantEndpoints("10.1.1.2 subflow dev eth0", "10.1.2.2 subflow dev eth1")
			c.WantEcho(soon)
		}
		if s := n.Client.Ctl("explain", n.B.Addr); !strings.Contains(strings.Join(strings.Fields(s.Stdout), " "), `its flags are to be "signal subflow"`) {
			t.Errorf("explain does not say what the endpoint waits for:\n%s", s.Stdout)
		}
		if now := c.Ends(); !slices.Equal(subflows, now) {
			t.Errorf("the connection had subflows %q and has %q", subflows, now)
		}
		_ = c.Close()
		lab.Eventually(t, soon, "the other flags", func() error {
			return n.Client.CheckEndpoints("10.1.1.2 subflow dev eth0", "10.1.2.2 signal subflow dev eth1")
		})
	})
}

// TestReloadsTouchNothingElse goes through configurations that each concern eth1 alone, or nothing at all.
func TestReloadsTouchNothingElse(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.IPv6())
	d := n.Client.Daemon()
	reach(n, n.A, n.B)
	before := found(n.Client)
	table := tableOf(n.Client, "eth0")
	m := n.Client.Monitor()
	for _, toml := range []string{
		"[[link]]\nname = \"eth1\"\nendpoints = false\n",
		"[[link]]\nname = \"eth1\"\nuplink = false\n",
		"[[link]]\nname = \"eth1\"\npreference = 1\n",
		"[[link]]\nname = \"eth1\"\nrole = \"server\"\n",
		"[[link]]\nname = \"eth1\"\naddresses = \"all\"\nfullmesh = true\n",
		"[[link]]\nname = \"eth[1-9]\"\nbackup = true\n",
		"",
	} {
		take(d, toml)
		settled(d)
		now := n.Client.Settled()
		quiet := n.Client.Monitor()
		d.Reload()
		settled(d)
		take(d, "resync = \"25s\" # the same of all links\n"+toml)
		quiet.WantNone()
		n.Client.WantSnapshot(now)
	}
	for _, l := range m.Stop() {
		if strings.Contains(l, "eth0") || strings.Contains(l, n.A.Addr+" ") || strings.Contains(l, n.A.Addr6) || strings.Contains(l, table) {
			t.Errorf("eth0 was touched: %s", l)
		}
	}
	lab.Eventually(t, soon, "the state of the start", func() error { return compare(before, found(n.Client)) })
}

// watchWay looks, some thousand times a second, by which link traffic from an address leaves, until the returned function
// is called, which ends the test if it was ever another one or none.
func watchWay(n *lab.Net, p *lab.Path) (stop func()) {
	n.T.Helper()
	var over atomic.Bool
	l := &wayLook{want: " dev " + p.Dev + " "}
	cmd := n.Client.Command("ip", "-4", "-force", "-batch", "-")
	cmd.SysProcAttr = nil // the thread that starts it ends before it does
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &repeat{text: "route get " + n.ServerAddr + " from " + p.Addr + "\n", over: &over}, l, l
	n.Client.Do(func() {
		if err := cmd.Start(); err != nil {
			n.T.Fatalf("start ip -batch: %v", err)
		}
	})
	ended := false
	stop = func() {
		n.T.Helper()
		if ended {
			return
		}
		ended = true
		over.Store(true)
		_ = cmd.Wait() // with an error where a look failed, which is judged below
		if l.bad != "" || l.count == 0 {
			n.Dump()
			n.T.Fatalf("of %d looks at the way from %s one said %q, wanted dev %s", l.count, p.Addr, l.bad, p.Dev)
		}
		n.T.Logf("looked at the way from %s %d times", p.Addr, l.count)
	}
	n.T.Cleanup(stop)
	return stop
}

// wayLook reads what ip route get prints.
type wayLook struct {
	want, bad string
	count     int
	rest      string
}

func (l *wayLook) Write(b []byte) (int, error) {
	l.rest += string(b)
	for {
		line, rest, ok := strings.Cut(l.rest, "\n")
		if !ok {
			return len(b), nil
		}
		l.rest = rest
		switch s := strings.Join(strings.Fields(line), " ") + " "; {
		case s == " " || s == "cache ":
		case strings.Contains(s, l.want):
			l.count++
		case l.bad == "":
			l.bad = s
		}
	}
}

// marked lists the rules and routes of these protocols and their next ones, in the kernel's order.
func marked(h *lab.Host, protocols ...int) []string {
	var r []string
	for _, f := range []string{"-4", "-6"} {
		for _, l := range append(h.Rules(f), h.Table(f, "all")...) {
			if slices.ContainsFunc(protocols, func(p int) bool {
				return strings.Contains(l+" ", fmt.Sprintf(" proto %d ", p)) || strings.Contains(l+" ", fmt.Sprintf(" proto %d ", p+1))
			}) {
				r = append(r, l)
			}
		}
	}
	return r
}

// numbers are what a configuration may say of them.
type numbers struct{ priority, base, protocol int }

func (x numbers) toml() string {
	return fmt.Sprintf("[routing]\npriority = %d\ntable_base = %d\nprotocol = %d\n", x.priority, x.base, x.protocol)
}

// check compares the client with what its paths want under other numbers, the endpoints apart.
func (x numbers) check(n *lab.Net, protocols ...int) error {
	var want []string
	for _, l := range wanted(n, n.A, n.B) {
		if !strings.HasPrefix(l, "endpoint ") {
			want = append(want, x.of(l))
		}
	}
	return compare(want, arrange(marked(n.Client, append(protocols, x.protocol)...)))
}

// of writes a line of the default numbers with these.
func (x numbers) of(line string) string {
	w := strings.Fields(line)
	for i, s := range w {
		var table int
		switch {
		case s == "32765:":
			w[i] = fmt.Sprintf("%d:", x.priority)
		case i > 0 && w[i-1] == "proto":
			_, _ = fmt.Sscan(s, &table)
			w[i] = fmt.Sprint(table - 77 + x.protocol)
		case i > 0 && (w[i-1] == "lookup" || w[i-1] == "table") && strings.HasPrefix(s, "1000"):
			_, _ = fmt.Sscan(s, &table)
			w[i] = fmt.Sprint(table - 100000 + x.base)
		}
	}
	return strings.Join(w, " ")
}

// TestNumbersChange exchanges priority, tables and protocol under a live connection that is bound to the second link:
// there is no gap, and nothing of the old numbers is left.
func TestNumbersChange(t *testing.T) {
	t.Parallel()
	for _, h := range []struct {
		name string
		make func(testing.TB, ...lab.Option) *lab.Net
	}{{"two subnets", lab.TwoSubnets}, {"one subnet", lab.OneSubnet}} {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			n := h.make(t, lab.IPv6(), lab.ArpIgnore())
			d := n.Client.Daemon()
			reach(n, n.A, n.B)
			endpoints := n.Client.Endpoints()
			n.Server.Listen("10.9.0.2:5001")
			n.Server.Listen("10.9.0.2:5002", lab.TCP())
			bound := n.Client.Dial("10.9.0.2:5002", lab.From(n.B.Addr), lab.TCP())
			stop, watched := bound.Talk(t, soon), watchWay(n, n.B)
			used := []int{77}
			for _, x := range []numbers{
				{20000, 100000, 77},
				{32765, 100000, 77},
				{32765, 7000, 77},
				{32765, 7000, 90},
				{32765, 7000, 91},
				{31000, 200000, 78},
				{32765, 100000, 77},
			} {
				take(d, x.toml())
				lab.Eventually(t, soon, fmt.Sprint(x), func() error { return x.check(n, used...) })
				used = append(used, x.protocol)
			}
			for _, toml := range []string{"[routing]\nstrict = true\n", "[routing]\nmain_first = false\n", "[routing]\nstrict = true\nmain_first = false\n", ""} {
				take(d, toml)
				settled(d)
			}
			watched()
			stop()
			if err := check(n, n.A, n.B); err != nil {
				t.Error(err)
			}
			if now := n.Client.Endpoints(); !slices.Equal(endpoints, now) {
				t.Errorf("endpoints were %q and are %q", endpoints, now)
			}
		})
	}
}

// TestNumbersChangeWhileDead starts with another protocol what was killed, cuts a change short, and cleans up.
func TestNumbersChangeWhileDead(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.IPv6())
	before := n.Client.Settled()
	d := n.Client.Daemon()
	reach(n, n.A, n.B)
	d.Kill()
	used := []int{77}
	for _, x := range []numbers{{32765, 100000, 90}, {30000, 5000, 120}} {
		if err := os.WriteFile(d.Config, []byte(x.toml()), 0o644); err != nil {
			t.Fatal(err)
		}
		d = d.Restart()
		lab.Eventually(t, soon, fmt.Sprint(x), func() error { return x.check(n, used...) })
		used = append(used, x.protocol)
		settled(d)
		d.Kill()
	}
	if err := os.WriteFile(d.Config, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	cleanup(n.Client)
	n.Client.WantSnapshot(before)
}

// TestNumbersOfOthers wants tables or a protocol that somebody else uses: refused at the start, not taken at a reload,
// and nothing of his is touched.
func TestNumbersOfOthers(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	table := 7000 + n.Client.Ifindex("eth1")
	n.Client.IP(fmt.Sprintf("route add 203.0.113.0/24 via 10.1.1.1 table %d proto 90", table),
		"rule add from 203.0.113.9 to 198.51.100.0/24 lookup main priority 900 protocol 120")
	d := n.Client.Daemon()
	reach(n, n.A, n.B)
	before := n.Client.Settled()
	for _, c := range []struct{ toml, says string }{
		{"[routing]\ntable_base = 7000\n", fmt.Sprintf("table %d", table)},
		{"[routing]\nprotocol = 120\n", "protocol 120"},
		{"[routing]\nprotocol = 119\n", "protocol 120"},
	} {
		r := configure(d, c.toml)
		if r.Code != 1 || !strings.Contains(r.Stderr, c.says) || !strings.Contains(r.Stderr, "subflowd.toml:2") {
			t.Errorf("%q: exit status %d\n%s%s", c.toml, r.Code, r.Stdout, r.Stderr)
		}
		n.Client.WantSnapshot(before)
		if s := n.Client.Ctl("status"); !strings.Contains(strings.Join(strings.Fields(s.Stdout), " "), c.says) {
			t.Errorf("the status does not say %q:\n%s", c.says, s.Stdout)
		}
	}
	d.Stop()
	for _, mode := range []string{"--once", "--log-level=info"} {
		r := n.Client.Subflowd(mode)
		if r.Code != 2 || !strings.Contains(r.Stderr, "protocol 120") {
			t.Errorf("%s: exit status %d\n%s", mode, r.Code, r.Stderr)
		}
	}
	n.Client.WantSnapshot(before)
	// The other way around: whoever comes later and sits in our table hinders no other setting.
	n.Client.IP("route add 203.0.113.0/24 via 10.1.1.1 metric 7 table " + tableOf(n.Client, "eth1") + " proto static")
	if err := os.WriteFile(d.Config, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	// Who was here first keeps working after a restart; who comes to a table in use is refused.
	if r := n.Client.Subflowd("--once"); r.Code != 0 || !strings.Contains(r.Stderr, "numbers-in-use") {
		t.Errorf("--once again with a route in the path table: exit status %d\n%s", r.Code, r.Stderr)
	}
	cleanup(n.Client)
	if r := n.Client.Subflowd("--once"); r.Code != 2 {
		t.Errorf("--once with a route in the path table: exit status %d\n%s", r.Code, r.Stderr)
	}
	if r := n.Client.Subflowd("--check-config"); r.Code != 0 {
		t.Errorf("--check-config: exit status %d\n%s", r.Code, r.Stderr)
	}
}

func TestReloadNeedsPermission(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	lab.Need(t, "setpriv")
	d := n.Client.Daemon()
	reach(n, n.A, n.B)
	d.WaitSocket()
	// Written by this process it would be busy while another test starts a program.
	bin := filepath.Join(n.TempDir(), "subflowctl")
	n.Client.Run("cp", lab.Bin(t, "subflowctl"), bin)
	_, err := n.Client.Try("setpriv", "--reuid=65533", "--regid=65533", "--clear-groups", bin, "--socket", d.Socket, "reload")
	if err == nil || !strings.Contains(err.Error(), "exit status 4") {
		t.Errorf("as another user: %v", err)
	}
}
