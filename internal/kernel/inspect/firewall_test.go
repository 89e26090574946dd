package inspect

import (
	"errors"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/subflowd/subflowd/internal/check"
	"github.com/subflowd/subflowd/test/lab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestParseNFT has what other versions of nft print; the table of situations has
// the one that is installed.
func TestParseNFT(t *testing.T) {
	t.Parallel()
	const head = `{"nftables":[{"metainfo":{"version":"1.1.3"}},{"table":{"family":"inet","name":"f"}},` +
		`{"chain":{"family":"inet","table":"f","name":"in","hook":"input","type":"filter","prio":0}},` +
		`{"rule":{"family":"inet","table":"f","chain":"in","handle":4,"expr":[`
	for _, c := range []struct {
		expr string
		want check.Effect
	}{
		{`{"match":{"op":"==","left":{"tcp option":{"name":"mptcp","field":"subtype"}},"right":"mp-join"}},{"drop":null}`, check.DropsJoins},
		{`{"match":{"op":"==","left":{"tcp option":{"name":"mptcp","field":"subtype"}},"right":"mp-capable"}},{"reject":{"type":"tcp reset"}}`, check.DropsCapable},
		{`{"match":{"op":"==","left":{"tcp option":{"name":"mptcp","field":"subtype"}},"right":{"set":["mp-join","add-addr"]}}},{"drop":null}`, check.DropsSome},
		{`{"match":{"op":"==","left":{"tcp option":{"base":30,"offset":0,"len":8}},"right":30}},{"drop":null}`, check.DropsSome},
		{`{"match":{"op":"!=","left":{"tcp option":{"name":"mptcp","field":"subtype"}},"right":"mp-join"}},{"drop":null}`, ""},
		{`{"match":{"op":"==","left":{"tcp option":{"name":"mptcp"}},"right":false}},{"drop":null}`, ""},
		{`{"match":{"op":"==","left":{"tcp option":{"name":"mptcp"}},"right":true}},{"accept":null}`, ""},
		{`{"match":{"op":"==","left":{"tcp option":{"name":"mptcp"}},"right":true}},{"log":null},{"counter":{"packets":1,"bytes":2}}`, ""},
		{`{"match":{"op":"==","left":{"meta":{"key":"l4proto"}},"right":"tcp"}},{"drop":null}`, ""},
		{`{"reset":{"tcp option":{"name":"sack-perm"}}}`, ""},
		{`{"reset":{"tcp option":{"name":"mptcp"}}}`, check.Strips},
		{`{"synproxy":null}`, check.Proxies},
	} {
		found, opaque, err := parseNFT([]byte(head + c.expr + `]}}]}`))
		if err != nil || opaque {
			t.Fatalf("%s: %v, opaque %t", c.expr, err, opaque)
		}
		var effect check.Effect
		if len(found) > 0 {
			effect = found[0].seen.Effect
			if s := found[0].seen; s.Hook != "input" || s.Delete != "nft delete rule inet f in handle 4" {
				t.Errorf("%s: %+v", c.expr, s)
			}
		}
		if effect != c.want {
			t.Errorf("%s\nwant %q, found %q", c.expr, c.want, effect)
		}
	}
	// Behind a jump, log and drop; or only what is not accepted before.
	const (
		jump = `{"match":{"op":"==","left":{"tcp option":{"name":"mptcp"}},"right":true}},{"jump":{"target":"d"}}]}}`
		rule = `,{"rule":{"family":"inet","table":"f","chain":"d","handle":9,"expr":[`
		drop = rule + `{"log":null},{"counter":null},{"drop":null}]}}`
	)
	for text, want := range map[string]int{
		jump + drop: 1, jump: 0, jump + rule + `{"accept":null}]}}` + drop: 0, jump + rule + `{"limit":null},{"drop":null}]}}`: 0,
	} {
		if found, _, err := parseNFT([]byte(head + text + `]}`)); err != nil || len(found) != want {
			t.Errorf("%s: want %d rules, found %d, %v", text, want, len(found), err)
		}
	}
	if _, opaque, err := parseNFT([]byte(head + `{"xt":{"type":"match","name":"tcp"}},{"drop":null}]}}]}`)); err != nil || !opaque {
		t.Errorf("a rule of iptables: opaque %t, %v", opaque, err)
	}
}

func TestParseIPTables(t *testing.T) {
	t.Parallel()
	const match = "*filter\n-A OUTPUT -p tcp -m tcp --tcp-option 30 -j LD\n"
	for text, want := range map[string]int{
		match + "-A LD -j LOG --log-prefix x\n-A LD -j DROP\n":               1,
		match + "-A LD -j REJECT --reject-with tcp-reset\n":                  1,
		match + "-A LD -s 10.0.0.0/8 -j DROP\n":                              0,
		match + "-A LD -s 10.0.0.0/8 -j RETURN\n-A LD -j DROP\n":             0,
		match + "*raw\n-A LD -j DROP\n":                                      0,
		"*filter\n-A OUTPUT -p tcp -j LD\n-A LD -j DROP\n":                   0,
		"*filter\n-A OUTPUT -p tcp ! --tcp-option 30 -j LD\n-A LD -j DROP\n": 0,
	} {
		if found := parseIPTables("iptables", []byte(text)); len(found) != want {
			t.Errorf("%s: want %d rules, found %+v", text, want, found)
		}
	}
}

func FuzzParseNFT(f *testing.F) {
	f.Add([]byte(`{"nftables":[{"chain":null},{"rule":{"expr":[{"match":{"left":[{"tcp option":7}],"right":null}},{"vmap":1},null]}}]}`))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _, _ = parseNFT(b) })
}

func FuzzParseIPTables(f *testing.F) {
	f.Add([]byte("*filter\n-A INPUT --tcp-option\n-A INPUT --tcp-option 30 -j\n-A \n-A X -j TCPOPTSTRIP --strip-options\n"))
	f.Fuzz(func(_ *testing.T, b []byte) { parseIPTables("iptables", b) })
}

// TestLookingChangesNothing compares all that a host has before and after.
func TestLookingChangesNothing(t *testing.T) {
	t.Parallel()
	lab.Need(t, lab.Root, "nft", "iptables")
	w := newWorld(t)
	w.Client.NFT("add table inet test", "add chain inet test x { type filter hook input priority 0; }")
	state := func() string {
		return w.Client.Snapshot() + w.Client.Run("nft", "list", "ruleset") + w.Client.Run("iptables-legacy-save") + w.Client.Run("sysctl", "-a", "--pattern", `^net\.(mptcp|ipv4\.conf)`)
	}
	before := state()
	w.look()
	if r := w.Client.Ctl("check"); r.Code != 0 {
		t.Errorf("check: %d %s%s", r.Code, r.Stdout, r.Stderr)
	}
	if after := state(); after != before {
		t.Errorf("changed:\n%s", lab.Diff(before, after))
	}
}

// TestConfigurations has files as other distributions have them.
func TestConfigurations(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name                string
		files               map[string]string
		manager, networkdOK bool
	}{
		{"none", nil, false, false},
		{"hidden by a file of the same name", map[string]string{
			"/usr/lib/NetworkManager/conf.d/90-subflowd.conf": "[connection-x]\nconnection.mptcp-flags=1\n",
			"/etc/NetworkManager/conf.d/90-subflowd.conf":     "# nothing\n",
			"/usr/lib/systemd/networkd.conf.d/90.conf":        "[Network]\nManageForeignRoutingPolicyRules=no\n",
			"/etc/systemd/networkd.conf.d/90.conf":            "",
		}, false, false},
		{"main files", map[string]string{
			"/etc/NetworkManager/NetworkManager.conf": "[connection]\n connection.mptcp-flags = 0x1\n",
			"/etc/systemd/networkd.conf":              "[Network]\nManageForeignRoutingPolicyRules = false\n",
		}, true, true},
		{"for one device, and later taken back", map[string]string{
			"/etc/NetworkManager/conf.d/a.conf":   "[connection]\nmatch-device=interface-name:eth9\nconnection.mptcp-flags=1\n",
			"/run/systemd/networkd.conf.d/a.conf": "[Network]\nManageForeignRoutingPolicyRules=no\n",
			"/etc/systemd/networkd.conf.d/b.conf": "[Network]\nManageForeignRoutingPolicyRules=yes\n",
		}, false, false},
		{"other sections", map[string]string{
			"/etc/NetworkManager/conf.d/a.conf":   "[device]\nconnection.mptcp-flags=1\n",
			"/etc/systemd/networkd.conf.d/b.conf": "[DHCPv4]\nManageForeignRoutingPolicyRules=no\n",
		}, false, false},
	} {
		root := t.TempDir()
		for name, text := range c.files {
			writeFile(t, root+name, text)
		}
		g := &gatherer{in: Input{Root: root}}
		if found := g.networkManagerOff(); found != c.manager {
			t.Errorf("%s: NetworkManager off: %t", c.name, found)
		}
		if found := g.networkdKeepsRules(); found != c.networkdOK {
			t.Errorf("%s: networkd keeps rules: %t", c.name, found)
		}
	}
}

// TestMissingTools says which program could not be asked.
func TestMissingTools(t *testing.T) {
	if got := unseenTool("nft", "nftables", errMissing); !strings.Contains(got, "not installed") || !strings.Contains(got, "nftables") {
		t.Error(got)
	}
	if lookTool("no-such-program") != "" {
		t.Error("found a program that does not exist")
	}
	if _, err := run("no-such-program"); !errors.Is(err, errMissing) {
		t.Error(err)
	}
}
