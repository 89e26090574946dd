package inspect

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/subflowd/subflowd/pkg/status"
	"github.com/subflowd/subflowd/test/lab"
)

// manager is a real program that meddles, started on a host of its own and
// judged by the real subflowctl; the healthy case is the same program with the
// configuration that the package ships.
type manager struct {
	code  string
	start func(h *lab.Host)
	well  func(h *lab.Host) // nil: the program must not run
}

var managers = []manager{
	{
		code: "networkmanager-endpoints", start: func(h *lab.Host) { h.NetworkManager(nil) },
		well: func(h *lab.Host) {
			h.WriteFile("/etc/NetworkManager/conf.d/90-subflowd.conf", shipped(h, "networkmanager.conf"))
		},
	},
	{
		code: "networkd-rules", start: func(h *lab.Host) { h.Networkd(nil) },
		well: func(h *lab.Host) {
			h.WriteFile("/run/systemd/networkd.conf.d/90-subflowd.conf", shipped(h, "networkd.conf"))
		},
	},
	{
		code:  "mptcpd-endpoints",
		start: func(h *lab.Host) { h.Start("/usr/libexec/mptcpd", "--log=stderr") },
	},
}

func shipped(h *lab.Host, name string) string {
	h.Lab.T.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "..", "packaging", name))
	if err != nil {
		h.Lab.T.Fatal(err)
	}
	return string(b)
}

// checked runs subflowctl check and looks for a code.
func checked(h *lab.Host, code string) (status.CheckFinding, bool) {
	h.Lab.T.Helper()
	var doc status.Checked
	h.CtlJSON(&doc, "check")
	i := slices.IndexFunc(doc.Findings, func(f status.CheckFinding) bool { return f.Code == code })
	if i < 0 {
		return status.CheckFinding{}, false
	}
	return doc.Findings[i], true
}

func TestManagers(t *testing.T) {
	t.Parallel()
	for _, m := range managers {
		t.Run(m.code, func(t *testing.T) {
			t.Parallel()
			h := lab.New(t).Host("host")
			h.Cover("/run", "/etc/NetworkManager", "/var/lib/NetworkManager", "/usr/lib/NetworkManager/conf.d", "/etc/systemd/networkd.conf.d",
				"/usr/lib/systemd/networkd.conf.d", "/etc/mptcpd")
			if f, ok := checked(h, m.code); ok {
				t.Fatalf("found before: %+v", f)
			}
			m.start(h)
			lab.Eventually(t, soon, m.code, func() error {
				if f, ok := checked(h, m.code); !ok || f.Severity != status.Warning || f.Remedy == "" {
					return fmt.Errorf("found %t: %+v", ok, f)
				}
				return nil
			})
			if m.well == nil {
				return
			}
			m.well(h)
			if f, ok := checked(h, m.code); ok {
				t.Errorf("found with the package's configuration: %+v", f)
			}
		})
	}
}

// TestOverflow has a real daemon lose events, and its word passed on: the
// finding events-lost.
func TestOverflow(t *testing.T) {
	t.Parallel()
	h := lab.TwoSubnets(t).Client
	d := h.Daemon()
	d.WaitSocket()
	if r := h.Ctl("wait", "--paths", "2"); r.Code != 0 {
		t.Fatal(r.Stderr)
	}
	if r := h.Ctl("check"); r.Code != 0 || strings.Count(r.Stdout, "\n") != 1 || !strings.HasPrefix(r.Stdout, "nothing found") {
		t.Errorf("with a daemon at rest: exit %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	if err := d.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var batch []string
	for i := range 2500 {
		addr := fmt.Sprintf("10.200.%d.%d/32 dev eth1", i/250, 1+i%250)
		batch = append(batch, "addr add "+addr, "addr del "+addr)
	}
	h.IP(batch...)
	if err := d.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, soon, "events-lost", func() error {
		f, ok := checked(h, "events-lost")
		if !ok || f.Severity != status.Info {
			return fmt.Errorf("found %t: %+v", ok, f)
		}
		t.Log(f.Text)
		return nil
	})
	// What the daemon alone knows comes through with its own code.
	h.IP("mptcp limits set subflows 0 add_addr_accepted 0")
	d.Configure("role = \"sever\"\n")
	lab.Eventually(t, soon, "the daemon's conditions", func() error {
		if f, ok := checked(h, "config-rejected"); !ok {
			return fmt.Errorf("found %t: %+v", ok, f)
		}
		return nil
	})
}

// TestUnprivileged has another user, without any capability, find the same as
// root but for the firewall, and be told so.
func TestUnprivileged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Client.Sysctl("net.ipv4.conf.eth1.rp_filter", "1")
	w.Client.IP("mptcp limits set subflows 0", "rule add from 10.1.2.2 lookup main pref 1000", "mptcp endpoint add 10.9.9.9 subflow", "addr add 10.1.1.3/24 dev eth1")
	w.Client.NFT("add table inet test", "add chain inet test x { type filter hook output priority 0; }", "add rule inet test x reset tcp option mptcp")
	// The cache directory of root is closed to others.
	bin := filepath.Join(w.TempDir(), "subflowctl")
	w.Client.Run("cp", lab.Bin(t, "subflowctl"), bin)
	look := func(command ...string) (found []string, unseen []status.Unseen) {
		out, err := w.Client.Try(command[0], append(command[1:], "--socket", "/nonexistent", "-o", "json", "check")...)
		var doc status.Checked
		if jsonErr := json.Unmarshal([]byte(out), &doc); jsonErr != nil {
			t.Fatalf("%v: %v: %s", jsonErr, err, out)
		}
		for _, f := range doc.Findings {
			found = append(found, string(f.Severity)+" "+f.Code+" "+f.Object)
		}
		return found, doc.Unseen
	}
	all, unseen := look(bin)
	if len(all) < 6 || len(unseen) > 0 {
		t.Fatalf("root: found %q, not seen %v", all, unseen)
	}
	want := slices.DeleteFunc(all, func(s string) bool { return strings.Contains(s, "firewall") })
	found, unseen := look("setpriv", "--reuid=4711", "--regid=4711", "--clear-groups", bin)
	if !slices.Equal(found, want) {
		t.Errorf("want %q\nfound %q", want, found)
	}
	if !slices.Contains(unseen, status.Unseen{What: "firewall rules of nft", Reason: needsAdmin}) {
		t.Errorf("not seen: %v", unseen)
	}
}
