package config

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/subflowd/subflowd/internal/netstate"
)

// readText decodes one file.
func readText(text string) (Config, error) {
	return decode([]*document{decodeText("f.toml", "f.toml", []byte(text))})
}

func diffConfig(want, got Config) string {
	return cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}), cmpopts.IgnoreFields(Config{}, "Where"))
}

func TestEveryKey(t *testing.T) {
	c, err := readText(`role = "both"
limits = { subflows = 4, add_addr_accepted = 5 }
vpn = "ignore"
foreign_endpoints = "take-over"
resync = "10s"
[routing]
priority = 1_000
table_base = 0x7d0
protocol = 90
main_first = false
strict = true
[metrics]
listen = "127.0.0.1:9477"
[probe]
target = "example.net:443"
interval = "5s"
[[link]]
name = "wl*"
type = "wlan"
driver = "iwl*"
mac = "52:54:*"
kind = "veth"
uplink = true
role = "client"
backup = true
fullmesh = true
addresses = "all"
gateway4 = "10.1.2.1"
gateway6 = "fe80::1"
endpoints = true
preference = 50
[[link]]
name = '*'
uplink = false
`)
	if err != nil {
		t.Fatal(err)
	}
	yes, no, client, all, fifty := true, false, RoleClient, AddressesAll, 50
	want := Config{
		Role: RoleBoth, Limits: Limits{LimitsFixed, netstate.Limits{Subflows: 4, AddAddrAccepted: 5}}, VPN: VPNIgnore,
		ForeignEndpoints: ForeignTakeOver, Resync: 10 * time.Second,
		Routing: Routing{Priority: 1000, TableBase: 2000, Protocol: 90, Strict: true},
		Metrics: Metrics{"127.0.0.1:9477"}, Probe: Probe{"example.net:443", 5 * time.Second},
		Links: []LinkEntry{{
			Where: "f.toml:17", Name: "wl*", Type: "wlan", Driver: "iwl*", MAC: "52:54:*", Kind: "veth",
			Uplink: &yes, Role: &client, Backup: &yes, Fullmesh: &yes, Addresses: &all,
			Gateway4: netip.MustParseAddr("10.1.2.1"), Gateway6: netip.MustParseAddr("fe80::1"), Endpoints: &yes, Preference: &fifty,
		}, {Where: "f.toml:32", Name: "*", Uplink: &no}},
	}
	if d := diffConfig(want, c); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if c.Where["role"] != "f.toml:1" || c.Where["routing.strict"] != "f.toml:11" || c.Where["limits"] != "f.toml:2" {
		t.Errorf("places of keys: %v", c.Where)
	}
}

// TestSpellings writes the same in other forms that TOML has.
func TestSpellings(t *testing.T) {
	want, err := readText("limits = { subflows = 1, add_addr_accepted = 2 }\n[routing]\npriority = 5\nstrict = true\n[[link]]\nname = \"a\"\nbackup = true\n[[link]]\nname = \"b\"\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"link = [ { name = \"a\", backup = true }, { name = \"b\" } ]\nrouting = { priority = 5, strict = true }\nlimits.subflows = 1\nlimits.add_addr_accepted = 2\n",
		"routing.priority = 5\n\"routing\".'strict' = true\n[limits]\nsubflows = 1\nadd_addr_accepted = 2\n[[link]]\nname = \"\"\"a\"\"\"\nbackup = true\n[[ link ]] # b\nname = '''b'''",
		"# x\r\nlimits = { subflows = 1, add_addr_accepted = 2 }\r\n\r\n[routing]\r\npriority = 5\r\nstrict = true\r\n[[link]]\r\nname = \"a\"\r\nbackup = true\r\n[[link]]\r\nname = \"b\"\r\n",
		"\xef\xbb\xbf[routing]\nstrict=true\npriority=+5\n[limits]\nadd_addr_accepted=0b10\nsubflows=0o1\n[[link]]\nname=\"\\u0061\"\nbackup=true\n[[link]]\nname=\"b\"",
	} {
		got, err := readText(text)
		if err != nil {
			t.Errorf("%s\n%v", text, err)
		}
		if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}), cmpopts.IgnoreFields(Config{}, "Where"), cmpopts.IgnoreFields(LinkEntry{}, "Where")); d != "" {
			t.Errorf("%s\n(-want +got):\n%s", text, d)
		}
	}
}

// directory writes files, and returns where.
func directory(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDropIns(t *testing.T) {
	dir := directory(t, map[string]string{
		"site.toml":             "role = \"server\"\nresync = \"1m\"\n[[link]]\nname = \"a\"\n",
		"conf.d/20-b.toml":      "resync = \"3m\"\n[[link]]\nname = \"c\"\n",
		"conf.d/10-a.toml":      "vpn = \"ignore\"\nresync = \"2m\"\n[[link]]\nname = \"b\"\n",
		"conf.d/30.toml.bak":    "broken",
		"conf.d/.#10-a.toml":    "broken",
		"conf.d/README":         "broken",
		"conf.d/sub/other.toml": "broken",
	})
	c, files, err := Load(filepath.Join(dir, "site.toml"))
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Role, want.VPN, want.Resync = RoleServer, VPNIgnore, 3*time.Minute
	want.Links = []LinkEntry{{Where: "site.toml:3", Name: "a"}, {Where: "conf.d/10-a.toml:3", Name: "b"}, {Where: "conf.d/20-b.toml:2", Name: "c"}}
	if d := diffConfig(want, c); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if w := c.Where["resync"]; w != "conf.d/20-b.toml:1" {
		t.Errorf("resync is from %s", w)
	}
	wantFiles := []string{filepath.Join(dir, "site.toml"), filepath.Join(dir, "conf.d/10-a.toml"), filepath.Join(dir, "conf.d/20-b.toml")}
	if d := cmp.Diff(wantFiles, files); d != "" {
		t.Errorf("files (-want +got):\n%s", d)
	}
}

func TestMissingFiles(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.toml")
	_, _, err := Load(missing)
	if !errors.Is(err, fs.ErrNotExist) || err.Error() != missing+": no such file or directory" {
		t.Errorf("named: %v", err)
	}
	c, files, err := load(missing, true)
	if d := diffConfig(Default(), c); err != nil || len(files) > 0 || d != "" {
		t.Errorf("default: %v, %v\n%s", files, err, d)
	}
	dir := directory(t, map[string]string{"conf.d/a.toml": "role = \"both\"\n"})
	c, files, err = load(filepath.Join(dir, "missing.toml"), true)
	if err != nil || len(files) != 1 || c.Role != RoleBoth {
		t.Errorf("default with a drop-in: %v, %v, %v", c.Role, files, err)
	}
	if _, _, err = Load(filepath.Join(dir, "missing.toml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("named with a drop-in: %v", err)
	}
}

func TestOddFiles(t *testing.T) {
	dir := directory(t, map[string]string{
		"empty.toml": "", "mark.toml": "\xef\xbb\xbf", "latin1.toml": "# ok\n# caf\xe9\n", "utf16.toml": "\xff\xfer\x00o\x00",
		"zero.toml": "role = \x00\n", "huge.toml": strings.Repeat("#", maxSize+1), "full.toml": strings.Repeat("#", maxSize),
		"many.toml": strings.Repeat("a = 1\n[b]\n", 5000), "old-mac.toml": "vpn = \"ignore\"\rrole = \"both\"\r",
		"under-a-file/conf.d": "",
		"under-a-file/x.toml": "",
	})
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, want := range map[string]string{
		"empty.toml":          "",
		"mark.toml":           "",
		"full.toml":           "",
		"latin1.toml":         ":2:6: the file is not UTF-8\n   2 | # caf\n     |      ^\n       allowed: TOML in UTF-8; save the file in that encoding",
		"utf16.toml":          ":1:1: the file is UTF-16\n   1 | \n     | ^\n       allowed: TOML in UTF-8; save the file in that encoding",
		"zero.toml":           ":1:8: unexpected character U+0000 at start of value\n   1 | role =  \n     |        ^",
		"old-mac.toml":        ":1:15: expected newline but got U+000D\n   1 | vpn = \"ignore\" role = \"both\"\n     |               ^",
		"huge.toml":           ": is larger than 1048576 bytes; a configuration is not",
		".":                   ": is a directory, not a file",
		"under-a-file/x.toml": "!" + at("under-a-file/conf.d") + ": is a file; it must be a directory with *.toml files, or not exist",
	} {
		_, _, err := Load(at(name))
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case strings.HasPrefix(want, "!"):
			want = want[1:]
		case want != "":
			want = at(name) + want
		}
		if want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%s\nwant %q\ngot  %q", name, want, err)
		}
	}
	_, _, err := Load(at("many.toml"))
	var ps Problems
	if !errors.As(err, &ps) || len(ps) != maxProblems+1 || ps[maxProblems].Error() != at("many.toml")+": 9899 more problems, not shown" {
		t.Errorf("many: %d problems", len(ps))
	}
	p := unreadable("f.toml", &fs.PathError{Op: "open", Path: "f.toml", Err: syscall.EACCES})
	if p.Error() != "f.toml: permission denied" || !errors.Is(Problems{p}, fs.ErrPermission) {
		t.Errorf("unreadable: %v", p)
	}
}

func TestPipes(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "pipe.toml")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Load(fifo); err != nil {
		t.Errorf("without a writer: %v", err)
	}
	if _, _, err := Load("/dev/zero"); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("/dev/zero: %v", err)
	}
	if _, _, err := Load("/dev/null"); err != nil {
		t.Errorf("/dev/null: %v", err)
	}
}

func TestNothingByHalves(t *testing.T) {
	dir := directory(t, map[string]string{
		"f.toml":        "role = \"server\"\n",
		"conf.d/a.toml": "vpn = \"ignore\"\n",
		"conf.d/b.toml": "resync = 3\n",
	})
	c, files, err := Load(filepath.Join(dir, "f.toml"))
	if d := cmp.Diff(Default(), c); err == nil || files != nil || d != "" {
		t.Errorf("%v, %v\n%s", files, err, d)
	}
}
