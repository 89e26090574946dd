package config

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/subflowd/subflowd/internal/netstate"
)

func TestEmptyFileIsTheDefaults(t *testing.T) {
	c, err := parse("subflowd.toml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Default(), c); d != "" {
		t.Error(d)
	}
}

func TestEveryKey(t *testing.T) {
	c, err := parse("etc/subflowd.toml", []byte(`
role = "both"
limits = { subflows = 4, add_addr_accepted = 5 }
vpn = "ignore"
foreign_endpoints = "take-over"
resync = "10s"
[routing]
priority = 1000
table_base = 2000
protocol = 90
main_first = false
strict = true
[metrics]
listen = "127.0.0.1:9477"
[probe]
target = "example.net:443"
[[link]]
name = "wl*"
type = "wlan"
driver = "iwl*"
mac = "52:54:*"
kind = "veth"
uplink = true
role = "server"
backup = true
fullmesh = true
addresses = "all"
gateway4 = "10.1.2.1"
gateway6 = "fe80::1"
endpoints = false
preference = 50
[[link]]
uplink = false
`))
	if err != nil {
		t.Fatal(err)
	}
	yes, no, server, all, fifty := true, false, RoleServer, AddressesAll, 50
	want := Config{
		Role: RoleBoth, Limits: Limits{LimitsFixed, netstate.Limits{Subflows: 4, AddAddrAccepted: 5}}, VPN: VPNIgnore,
		ForeignEndpoints: ForeignTakeOver, Resync: 10 * time.Second,
		Routing: Routing{Priority: 1000, TableBase: 2000, Protocol: 90, Strict: true},
		Metrics: Metrics{"127.0.0.1:9477"}, Probe: Probe{"example.net:443"},
		Links: []LinkEntry{{
			Where: "subflowd.toml:17", Name: "wl*", Type: "wlan", Driver: "iwl*", MAC: "52:54:*", Kind: "veth",
			Uplink: &yes, Role: &server, Backup: &yes, Fullmesh: &yes, Addresses: &all,
			Gateway4: netip.MustParseAddr("10.1.2.1"), Gateway6: netip.MustParseAddr("fe80::1"), Endpoints: &no, Preference: &fifty,
		}, {Where: "subflowd.toml:32", Uplink: &no}},
	}
	if d := cmp.Diff(want, c, cmpopts.EquateComparable(netip.Addr{})); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestProblems(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "role = \"client\"\nrolle = 1\n", `f.toml:2:1: unknown key "rolle"`},
		{"unknown key in a link", "[[link]]\nname = \"x\"\nmetrik = 3\n", `f.toml:3:1: unknown key "link.metrik"`},
		{"two unknown keys", "a = 1\nb = 2\n", "f.toml:1:1: unknown key \"a\"\nf.toml:2:1: unknown key \"b\""},
		{"syntax", "role = \n", "f.toml:1:"},
		{"role", "role = \"router\"\n", `f.toml:1:8: "router" is none of ["client" "server" "both"]`},
		{"resync", "\nresync = \"1ms\"\n", `f.toml:2:10: "1ms" is no time from 1s to 1h0m0s`},
		{"limits word", "limits = \"many\"\n", `f.toml:1:10: limits are "auto", "keep" or`},
		{"limits number", "limits = { subflows = -1, add_addr_accepted = 2 }\n", `f.toml:1:10: limits are`},
		{"wrong type", "[routing]\nstrict = \"yes\"\n", "f.toml:2:10: "},
		{"protocol", "[routing]\nprotocol = 300\n", "f.toml:2:12: "},
		{"glob", "[[link]]\nuplink = true\n[[link]]\nname = \"[\"\n", `f.toml:4:8: "[" is no glob`},
		{"gateway", "[[link]]\ngateway4 = \"fe80::1\"\n", `f.toml:2:12: fe80::1 is no IPv4 address`},
		{"role of a link", "role = \"both\"\n[[link]]\n[[link]]\nrole = \"x\"\n", `f.toml:4:8: "x" is none of`},
		{"no address", "[[link]]\ngateway4 = \"router\"\n", `f.toml:2:12: `},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parse("f.toml", []byte(c.text))
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("\nwant %s\ngot  %v", c.want, err)
			}
		})
	}
}

func TestNamedFileMustExist(t *testing.T) {
	if _, _, err := Load(filepath.Join(t.TempDir(), "missing.toml")); err == nil {
		t.Error("no error")
	}
	p := filepath.Join(t.TempDir(), "there.toml")
	if err := os.WriteFile(p, []byte("limits = \"keep\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, files, err := Load(p)
	if err != nil || c.Limits.Mode != LimitsKeep || len(files) != 1 || files[0] != p {
		t.Errorf("got %+v, %v, %v", c, files, err)
	}
}
