package top

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/subflowd/subflowd/test/lab"
)

// quick is a screen that does not keep a test waiting.
const quick = " top --interval 200ms"

// TestTop is the whole of it: two paths of 20 Mbit/s, a daemon, and an upload over both.
func TestTop(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t, lab.Rate("20mbit"))
	d := n.Client.Daemon()
	lab.Eventually(t, soon, "paths", func() error { return n.CheckUplinks("subflow", n.A, n.B) })
	d.WaitSocket()
	n.Server.Listen("10.9.0.2:5001")
	c := n.Client.Dial("10.9.0.2:5001")
	c.WantSubflows(n.A.Addr, n.B.Addr)
	up := c.StartUpload()

	x := openTerminal(t, n.Client, 80, 24)
	x.start(lab.Bin(t, "subflowctl") + " --socket " + d.Socket + quick)
	checkCarries(x)
	second := n.Client.Dial("10.9.0.2:5001")
	second.WantSubflows(n.A.Addr, n.B.Addr)
	x.wantScreen("80x24")
	x.resize(120, 40)
	x.wantScreen("120x40")
	x.resize(40, 10)
	x.wantScreen("40x10")
	x.resize(80, 24)
	x.wantScreen("80x24")
	if !strings.Contains(x.screen(true), "\x1b[32m") {
		t.Errorf("no colour on the screen:\n%q", x.screen(true))
	}

	x.press("x")
	x.wantScreen("brief")
	x.press("x", "?")
	x.wantScreen("help")
	x.press("Enter", "s", "r")
	x.want("; by bytes, reversed")
	x.press("r", "s", "s", "s", "/")
	x.press("e", "t", "h", "5")
	x.want("0 with \"eth5\"")
	x.press("BSpace", "1", "Enter")
	x.want("; 2 with \"eth1\"; by rate")
	x.press("Escape") // alone: with a key behind it, it would be Alt
	x.wantScreen("80x24")
	x.press("Space")
	x.want("paused")
	x.paused()
	x.press("Space")
	x.wantScreen("80x24")

	d.Stop()
	x.want("no daemon")
	x.want("WOULD BE")
	d.Restart().WaitSocket()
	x.want("converged  2 links are paths: eth0, eth1")
	up.Stop(0)
	x.press("q")
	x.ended(0)
}

// carries is a link's line with a throughput of megabits and a sparkline that is full.
var carries = regexp.MustCompile(`(?m)^eth[01] +4 +live +1 +[\d.]+ Mbit/s [▁-█]{9} `)

func checkCarries(x *terminal) {
	x.t.Helper()
	lab.Eventually(x.t, soon, "throughput of both links", func() error {
		if s := x.screen(false); len(carries.FindAllString(s, -1)) != 2 {
			return fmt.Errorf("two lines of links with megabits wanted:\n%s", s)
		}
		return nil
	})
}

// TestWithoutDaemon: what root, and what anybody, sees of a host with no daemon, and how the screen ends.
func TestWithoutDaemon(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	n.Server.Listen("10.9.0.2:5001")
	n.Client.Dial("10.9.0.2:5001").WantEcho(soon)
	dir := n.TempDir()
	bin := filepath.Join(dir, "subflowctl") // where anybody can read it
	n.Client.Run("install", "-m", "755", lab.Bin(t, "subflowctl"), bin)
	pid := filepath.Join(dir, "pid")
	ctl := `sh -c 'echo $$ >` + pid + `; exec ` + bin + ` --socket /nonexistent/control.sock` + quick + `'`
	x := openTerminal(t, n.Client, 80, 24)

	x.start(ctl)
	x.wantScreen("no-daemon")
	x.press("C-c")
	x.ended(0)

	x.start("NO_COLOR=1 " + ctl)
	x.want("1 MPTCP connection with 1 subflow; by rate")
	if s := x.screen(true); strings.Contains(s, "\x1b[") {
		t.Errorf("colours with NO_COLOR:\n%q", s)
	}
	x.press("q")
	x.ended(0)

	x.start("LC_ALL=C TERM=vt100 SSH_TTY=/dev/pts/0 " + ctl)
	x.want("1 MPTCP connection with 1 subflow; by rate")
	if i := strings.IndexFunc(x.screen(false), func(r rune) bool { return r > 126 }); i >= 0 {
		t.Errorf("no ASCII:\n%s", x.screen(false))
	}
	x.press("q")
	x.ended(0)

	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		x.start(ctl)
		x.want("1 MPTCP connection with 1 subflow; by rate")
		x.signal(pid, s)
		x.ended(0)
	}

	x.line(ctl)
	x.want("1 MPTCP connection with 1 subflow; by rate")
	x.press("C-z")
	x.want("Stopped")
	x.wantOutside()
	x.line("fg")
	x.want("1 MPTCP connection with 1 subflow; by rate")
	x.press("q")
	x.want("\n# fg\n")
	x.wantOutside()

	x.start("TERM=dumb " + ctl)
	x.want("subflowctl: top needs a terminal that can move its cursor")
	x.ended(2)

	x.start("chmod 666 " + pid + "; setpriv --reuid 65534 --regid 65534 --clear-groups " + ctl)
	x.wantScreen("nobody")
	x.press("q")
	x.ended(0)
}
