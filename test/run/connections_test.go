package run

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	schema "github.com/subflowd/subflowd/pkg/status"
	"github.com/subflowd/subflowd/test/lab"
)

// TestConnectionsOfPrograms: `subflowctl connections` tells the program that has each connection open, and whether it is
// under run; those of other users to root only.
func TestConnectionsOfPrograms(t *testing.T) {
	t.Parallel()
	lab.Need(t, "python3", "setpriv", "setsid")
	h := host(t)
	h.Listen("127.0.0.1:7000")
	holds := func(source, protocol string) []string {
		return []string{"/usr/bin/python3", "-c", "import signal, socket\ns = socket.socket(socket.AF_INET, socket.SOCK_STREAM, " + protocol +
			")\ns.bind(('" + source + "', 0))\ns.connect(('127.0.0.1', 7000))\ns.send(b'Hnamehere')\nsignal.pause()"}
	}
	plain := func(command []string) *exec.Cmd { return h.Command(command[0], command[1:]...) }
	run := []string{ctl(t), "run", "--"}
	shell := append([]string{"sh", "-c", `"$@" >/dev/null 2>&1 & :`, "sh"}, holds("127.0.0.5", "0")...)
	pids := map[string]int{
		"127.0.0.1": h.StartCommand(byRun(h, holds("127.0.0.1", "0")...)).Pid,
		"127.0.0.2": h.StartCommand(plain(holds("127.0.0.2", "262"))).Pid,
		"127.0.0.3": h.StartCommand(plain(as(nobody, append(run, holds("127.0.0.3", "0")...)...))).Pid,
		"127.0.0.4": h.StartCommand(plain(as(nobody, holds("127.0.0.4", "262")...))).Pid,
	}
	// The shell begins a session and ends.
	want(h, plain(append([]string{"setsid"}, append(run, shell...)...)))

	seen := func(user []string) (map[string]string, error) {
		command := as(user, ctl(t), "-o", "json", "connections", "--interval", "0")
		var doc schema.Connections
		if err := json.Unmarshal([]byte(finish(h, plain(command)).out), &doc); err != nil {
			return nil, err
		}
		found := map[string]string{}
		for _, c := range doc.Connections {
			source, _, _ := strings.Cut(c.Local, ":")
			if !strings.HasSuffix(c.Remote, ":7000") {
				continue // the server's end
			}
			if pid := pids[source]; c.PID != 0 && pid != 0 && c.PID != pid {
				return nil, fmt.Errorf("%s is said to be of %d, and is of %d", source, c.PID, pid)
			}
			found[source] = fmt.Sprintf("%s %t", c.Program, c.Run)
		}
		return found, nil
	}
	for _, c := range []struct {
		user []string
		want string
	}{
		{nil, "map[127.0.0.1:python3 true 127.0.0.2:python3 false 127.0.0.3:python3 true 127.0.0.4:python3 false 127.0.0.5:python3 true]"},
		{nobody, "map[127.0.0.1: false 127.0.0.2: false 127.0.0.3:python3 true 127.0.0.4:python3 false 127.0.0.5: false]"},
	} {
		lab.Eventually(t, soon, "the programs of all connections", func() error {
			found, err := seen(c.user)
			if err == nil && fmt.Sprint(found) != c.want {
				err = fmt.Errorf("as %q:\nwant  %s\nfound %v", c.user, c.want, found)
			}
			return err
		})
	}
	text := finish(h, plain(as(nobody, ctl(t), "connections"))).out
	if by := fmt.Sprintf("  python3[%d] by run, ESTAB", pids["127.0.0.3"]); !strings.Contains(text, by) {
		t.Errorf("no %q in\n%s", by, text)
	}
}
