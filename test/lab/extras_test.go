package lab

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestVPN(t *testing.T) {
	t.Parallel()
	n := TwoSubnets(t)
	v := n.VPN()
	n.Client.IP("route add 0.0.0.0/1 via 10.88.0.1 dev tun0", "route add 128.0.0.0/1 via 10.88.0.1 dev tun0")
	n.Client.WantRoute(n.ServerAddr, "", "dev tun0 via 10.88.0.1")
	n.Server.Listen("10.9.0.2:5001")
	n.Client.Dial("10.9.0.2:5001").WantEcho(10 * time.Second)
	if p := v.Packets(); !slices.Contains(p, "10.88.0.2 > 10.9.0.2") {
		t.Errorf("the tunnel carried %v", p)
	}
}

func TestContainer(t *testing.T) {
	t.Parallel()
	n := TwoSubnets(t)
	c := n.Client.Container("web")
	for _, dst := range []string{"10.1.1.2", "10.1.2.2", "10.9.0.2"} {
		if err := c.Ping(dst, ""); err != nil {
			t.Error(err)
		}
	}
	if err := n.Client.Ping("172.17.0.2", "10.1.2.2"); err != nil {
		t.Error(err)
	}
}

func TestStripMPTCP(t *testing.T) {
	t.Parallel()
	n := TwoSubnets(t)
	n.Server.Listen("10.9.0.2:5001")
	n.A.StripMPTCP()
	c := n.Client.Dial("10.9.0.2:5001")
	c.WantEcho(10 * time.Second)
	if i := c.Info(); !i.Fallback {
		t.Errorf("info %+v, wanted a fallback", i)
	}
}

// TestDaemon shows the handles of a daemon, with a script in place of subflowd.
func TestDaemon(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("SUBFLOW_BIN", dir)
	script := "#!/bin/sh\necho \"$@\"\ntrap 'echo reloaded' HUP\ntrap 'exit 0' TERM\n" +
		"case \"$*\" in *--check-config*) exit 2;; esac\nls /sys/class/net\necho ready\nwhile :; do sleep 0.05; done\n"
	for _, name := range []string{"subflowd", "subflowctl"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	defer func() { clear(bins) }()
	n := TwoSubnets(t)
	d := n.Client.DaemonConfig(`role = "server"`, "--log-level", "info")
	n.Client.waitLog(d.Proc, "ready")
	if !strings.Contains(d.Log(), "eth1") || strings.Contains(d.Log(), "docker") {
		t.Errorf("/sys shows another namespace: %s", d.Log())
	}
	d.Configure("")
	n.Client.waitLog(d.Proc, "reloaded")
	old := d.Pid
	d = d.Restart()
	if d.Pid == old || !d.Running() {
		t.Error("not restarted")
	}
	d.Kill()
	if r := n.Client.Subflowd("--check-config"); r.Code != 2 || !strings.Contains(r.Stdout, "--config "+d.Config) {
		t.Errorf("exit %d, %s", r.Code, r.Stdout)
	}
	d = n.Client.DaemonCapable()
	n.Client.waitLog(d.Proc, "ready")
	if caps := n.Client.Run("grep", "^CapEff", "/proc/"+strconv.Itoa(d.Pid)+"/status"); !strings.Contains(caps, "0000000000001000") {
		t.Errorf("capabilities %s, wanted CAP_NET_ADMIN alone", caps)
	}
	d.Stop()
}
