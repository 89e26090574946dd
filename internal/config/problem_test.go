package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func problemsOf(t *testing.T, err error) Problems {
	t.Helper()
	var ps Problems
	if err != nil && !errors.As(err, &ps) {
		t.Fatalf("not Problems: %v", err)
	}
	return ps
}

// told is the problems of a text, each in a line: place, text, then what was
// meant after a question mark.
func told(t *testing.T, text string) string {
	t.Helper()
	c, err := readText(text)
	if d := cmp.Diff(Default(), c); err != nil && d != "" {
		t.Errorf("something is applied:\n%s", d)
	}
	var lines []string
	for _, p := range problemsOf(t, err) {
		line := strings.TrimPrefix(p.Error(), "f.toml:")
		if p.Meant != "" {
			line += "? " + p.Meant
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func TestProblems(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", `rolle = 1`, `1:1: unknown key "rolle"? role (connect to others, be connected to, or both)`},
		{"unknown key without a neighbour", `banana = 1`, `1:1: unknown key "banana"`},
		{"unknown key of a table", "[routing]\nmain-first = true", `2:1: unknown key "routing.main-first"? main_first (specific routes of table main come first)`},
		{"unknown table", "[rooting]\nx = 1", `1:2: unknown key "rooting"? [routing]`},
		{"unknown key in a link", "[[link]]\nname = \"x\"\nprefrence = 3", `3:1: unknown key "link.prefrence"? preference (the lowest number is used first)`},
		{"swapped letters", `vnp = "ignore"`, `1:1: unknown key "vnp"? vpn (what to do while a VPN carries everything)`},
		{"case", `Role = "both"`, `1:1: unknown key "Role"? role (connect to others, be connected to, or both)`},
		{"key of a table without it", "strict = true", `1:1: unknown key "strict"? strict (an address never leaves by another link), which stands below [routing]`},
		{"key of a link without it", "backup = true", `1:1: unknown key "backup"? backup (use the link only when no other works), which stands below a [[link]]`},
		{"key of the host below a link", "[[link]]\nname = \"x\"\nvpn = \"ignore\"", `3:1: unknown key "link.vpn"? vpn (what to do while a VPN carries everything), which stands above the first [table]`},
		{"key of limits without it", "subflows = 3", `1:1: unknown key "subflows"? subflows (additional subflows of a connection), which stands in limits = { ... }`},
		{"long key", strings.Repeat("x", 100) + " = 1", `1:1: unknown key "` + strings.Repeat("x", 40) + `…"`},
		{"key of many bytes", "\"a\\u001bb\" = 1", `1:1: unknown key "a\u001bb"`},
		{"several", "a = 1\nb = 2\nrole = 3", "1:1: unknown key \"a\"\n2:1: unknown key \"b\"\n3:8: role cannot be 3: text must stand in quotes"},

		{"no quotes", "role = both\nvpn = ignore\nresync = 30s", "1:8: " + noValue + "? \"both\"\n2:7: " + noValue + "? \"ignore\"\n3:10: " + noValue + `? "30s"`},
		{"yes", "[routing]\nstrict = Yes # x\nmain_first = off", "2:10: " + noValue + "? true\n3:14: " + noValue + "? false"},
		{"no value", "role =\nvpn = \"x\"", "1:7: unexpected character U+000A at start of value\n2:7: vpn cannot be \"x\""},
		{"no equals sign", "role \"both\"\nresync = 1", "1:6: expected '=' after key\n2:10: resync cannot be 1: text must stand in quotes? \"1s\""},
		{"open quotes", "role = \"both\nresync = \"5h\"", "1:13: basic strings cannot have new lines\n2:10: resync cannot be \"5h\""},
		{"open table", "limits = { subflows = 1,\nresync = 1\nrole = 3", "3:1: expected ',' or '}' after inline table key-value"},
		{"open list", "role = [\n1\n2\n]\nvpn = 3", "3:1: expected ',' or ']' after array value"},
		{"two on a line", "role = \"both\" vpn = \"ignore\"\nresync = 1", "1:15: expected newline but got U+0076 'v'\n2:10: resync cannot be 1: text must stand in quotes? \"1s\""},
		{"broken header", "vpn = 1\n[rou ting]\npriority = 0\n", "1:7: vpn cannot be 1: text must stand in quotes\n2:6: expected ']' to close table name"},

		{"twice", "role = \"both\"\nrole = \"server\"", `2:1: "role" is there twice, first in line 1`},
		{"twice in a link", "[[link]]\nname = \"a\"\nbackup = true\nbackup = false", `4:1: "backup" is there twice, first in line 3`},
		{"table twice", "[routing]\nstrict = true\n[probe]\n[routing]\npriority = 0", "4:2: \"routing\" is there twice, first in line 1\n5:12: routing.priority cannot be 0"},
		{"table and dotted", "routing.strict = true\n[routing]\npriority = 1", `2:2: "routing" is there twice, first in line 1`},
		{"below a value", "role = \"both\"\n[role.x]\ny = 1", `2:2: "role" is there twice, first in line 1`},
		{"link as a table", "[link]\nname = \"a\"\n[[link]]\nname = \"b\"", "1:1: every link has an entry of its own in a list? [[link]]\n3:3: \"link\" is a list here, and was none in line 1"},
		{"link as a word", "link = 3", "1:8: every link has an entry of its own in a list? [[link]]"},
		{"links as words", "link = [\"a\", 2]", "1:9: link cannot be \"a\"? [[link]]\n1:14: link cannot be 2? [[link]]"},
		{"table as a list", "[[routing]]\npriority = 1", "1:1: routing must be a table? [routing]"},
		{"table as a word", "routing = true", "1:11: routing must be a table? [routing]"},
		{"no such date", "role = 2026-02-30", "1:8: role cannot be 2026-02-30: text must stand in quotes"},

		{"word", `role = "router"`, `1:8: role cannot be "router"`},
		{"word with a neighbour", `foreign_endpoints = "takeover"`, `1:21: foreign_endpoints cannot be "takeover"? "take-over"`},
		{"word in capitals", `vpn = "Ignore"`, `1:7: vpn cannot be "Ignore"? "ignore"`},
		{"word is a list", `role = ["client"]`, `1:8: role cannot be a list`},
		{"word is a table", `role = { client = true }`, `1:8: role cannot be a table`},
		{"long word", `role = "` + strings.Repeat("é", 50) + `"`, `1:8: role cannot be "` + strings.Repeat("é", 40) + `…"`},
		{"control characters", `role = "\u001b[31m"`, `1:8: role cannot be "\u001b[31m"`},

		{"resync short", `resync = "999ms"`, `1:10: resync cannot be "999ms"`},
		{"resync long", `resync = "1h1s"`, `1:10: resync cannot be "1h1s"`},
		{"resync negative", `resync = "-5s"`, `1:10: resync cannot be "-5s"`},
		{"resync without unit", `resync = "90"`, `1:10: resync cannot be "90"? "90s"`},
		{"resync a number", `resync = 90`, `1:10: resync cannot be 90: text must stand in quotes? "90s"`},
		{"resync days", `resync = "1d"`, `1:10: resync cannot be "1d"`},

		{"limits word", `limits = "many"`, `1:10: limits cannot be "many"`},
		{"limits near word", `limits = "kep"`, `1:10: limits cannot be "kep"? "keep"`},
		{"limits fixed word", `limits = "fixed"`, `1:10: limits cannot be "fixed"`},
		{"limits numbers", `limits = { subflows = -1, add_addr_accepted = 65 }`, "1:23: limits.subflows cannot be -1\n1:47: limits.add_addr_accepted cannot be 65"},
		{"limits half", `limits = { subflows = 1 }`, "1:1: limits needs both numbers, and add_addr_accepted is missing"},
		{"limits as a table", "[limits]\nsubflow = 1\nadd_addr_accepted = 1", "1:2: limits needs both numbers, and subflows is missing\n2:1: unknown key \"limits.subflow\"? subflows (additional subflows of a connection)"},

		{"priority", "routing.priority = 32766", "1:20: routing.priority cannot be 32766"},
		{"priority of local", "routing.priority = 0", "1:20: routing.priority cannot be 0"},
		{"priority in quotes", `routing.priority = "100"`, `1:20: routing.priority cannot be "100": numbers stand without quotes? 100`},
		{"priority a fraction", "routing.priority = 1.5", "1:20: routing.priority cannot be 1.5"},
		{"number too long", "routing.priority = 99999999999999999999999", "1:20: routing.priority cannot be 99999999999999999999999"},
		{"table base of the system", "routing.table_base = 254", "1:22: routing.table_base cannot be 254"},
		{"table base low", "routing.table_base = 999", "1:22: routing.table_base cannot be 999"},
		{"table base high", "routing.table_base = 2147483649", "1:22: routing.table_base cannot be 2147483649"},
		{"protocol of the kernel", "routing.protocol = 4", "1:20: routing.protocol cannot be 4"},
		{"protocol high", "routing.protocol = 254", "1:20: routing.protocol cannot be 254"},
		{"protocol taken", "routing.protocol = 16", "1:20: routing.protocol cannot be 16: 16 is dhcp's"},
		{"protocol before one that is taken", "routing.protocol = 185", "1:20: routing.protocol cannot be 185: the next number is used too, and 186 is bgp's"},
		{"truth in quotes", `routing.strict = "true"`, `1:18: routing.strict cannot be "true"? true`},
		{"truth as a number", `routing.strict = 0`, `1:18: routing.strict cannot be 0? false`},

		{"listen without port", `metrics.listen = "127.0.0.1"`, `1:18: metrics.listen cannot be "127.0.0.1": the port is missing`},
		{"listen port 0", `metrics.listen = "127.0.0.1:0"`, `1:18: metrics.listen cannot be "127.0.0.1:0": the port is no number from 1 to 65535`},
		{"listen port word", `metrics.listen = ":http"`, `1:18: metrics.listen cannot be ":http": the port is no number from 1 to 65535`},
		{"listen port empty", `metrics.listen = "127.0.0.1:"`, `1:18: metrics.listen cannot be "127.0.0.1:": the port is no number from 1 to 65535`},
		{"listen port signed", `metrics.listen = "127.0.0.1:+1"`, `1:18: metrics.listen cannot be "127.0.0.1:+1": the port is no number from 1 to 65535`},
		{"listen without brackets", `metrics.listen = "::1:9477"`, `1:18: metrics.listen cannot be "::1:9477": an IPv6 address stands in brackets before its port`},
		{"listen wrong brackets", `metrics.listen = "[127.0.0.1]:1"`, `1:18: metrics.listen cannot be "[127.0.0.1]:1": there is no IPv6 address in the brackets`},
		{"listen on a name", `metrics.listen = "example.net:1"`, `1:18: metrics.listen cannot be "example.net:1": names are not looked up; it needs an address of this host`},
		{"listen multicast", `metrics.listen = "[ff02::1]:1"`, `1:18: metrics.listen cannot be "[ff02::1]:1": it is a multicast address`},
		{"target without port", `probe.target = "example.net"`, `1:16: probe.target cannot be "example.net": the port is missing`},
		{"target without host", `probe.target = ":443"`, `1:16: probe.target cannot be ":443": the host is neither a name nor an address`},
		{"target no address", `probe.target = "10.1.2.300:443"`, `1:16: probe.target cannot be "10.1.2.300:443": the host is neither a name nor an address`},
		{"target with a blank", `probe.target = "a b:443"`, `1:16: probe.target cannot be "a b:443": the host is neither a name nor an address`},
		{"target of a URL", `probe.target = "https://example.net:443"`, `1:16: probe.target cannot be "https://example.net:443": an IPv6 address stands in brackets before its port`},
		{"target of one link", `probe.target = "[fe80::1%eth0]:443"`, `1:16: probe.target cannot be "[fe80::1%eth0]:443": it is an address of one link, and the target has to be reached over all`},
		{"target of no router", `probe.target = "169.254.1.1:443"`, `1:16: probe.target cannot be "169.254.1.1:443": it is an address of one link, and the target has to be reached over all`},
		{"target loopback", `probe.target = "127.0.0.1:443"`, `1:16: probe.target cannot be "127.0.0.1:443": it is a loopback address`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.want, told(t, c.text)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestProblemsOfLinks(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"no matcher", "backup = true", `1:1: this entry does not say which links it is for`},
		{"a matcher that is wrong is one", `name = "["`, `2:8: name cannot be "[": it is no valid pattern`},
		{
			"bad globs", "name = \"a[\"\ntype = \"[]\"\ndriver = \"x[b-\"\nmac = \"\\\\\"\nkind = \"[z-a\"",
			"2:8: name cannot be \"a[\": it is no valid pattern\n3:8: type cannot be \"[]\": it is no valid pattern\n4:10: driver cannot be \"x[b-\": it is no valid pattern\n" +
				"5:7: mac cannot be \"\\\\\": it is no valid pattern\n6:8: kind cannot be \"[z-a\": it is no valid pattern",
		},
		{"empty glob", `name = ""`, `2:8: name cannot be "": an empty pattern matches no link? "*"`},
		{"list of names", `name = ["a", "b"]`, `2:8: name cannot be a list`},
		{"long name", `name = "a-very-long-link"`, `2:8: name cannot be "a-very-long-link": names of links have at most 15 bytes`},
		{"path", `name = "net/eth0"`, `2:8: name cannot be "net/eth0": no link has a slash or a blank there`},
		{"wifi", `type = "WiFi"`, `2:8: type cannot be "WiFi": the kernel has another word for it? "wlan"`},
		{"dashes", `mac = "52-54-00-12-34-56"`, `2:7: mac cannot be "52-54-00-12-34-56": hardware addresses are written as 52:54:00:12:34:56? "52:54:00:12:34:56"`},
		{"no hex", `mac = "eth*"`, `2:7: mac cannot be "eth*": hardware addresses are written as 52:54:00:12:34:56`},
		{"role", "name = \"*\"\nrole = \"clint\"", `3:8: role cannot be "clint"? "client"`},
		{"gateway4 of IPv6", "name = \"*\"\ngateway4 = \"fe80::1\"", `3:12: gateway4 cannot be "fe80::1": it is an IPv6 address? gateway6`},
		{"gateway6 of IPv4", "name = \"*\"\ngateway6 = \"10.1.2.1\"", `3:12: gateway6 cannot be "10.1.2.1": it is an IPv4 address? gateway4`},
		{"mapped gateway4", "name = \"*\"\ngateway4 = \"::ffff:10.1.2.1\"", `3:12: gateway4 cannot be "::ffff:10.1.2.1": it is an IPv4 address in IPv6 form? "10.1.2.1"`},
		{"mapped gateway6", "name = \"*\"\ngateway6 = \"::ffff:10.1.2.1\"", `3:12: gateway6 cannot be "::ffff:10.1.2.1": it is an IPv4 address? gateway4`},
		{"zone", "name = \"*\"\ngateway6 = \"fe80::1%eth0\"", `3:12: gateway6 cannot be "fe80::1%eth0": the link is that of the entry? "fe80::1"`},
		{"prefix", "name = \"*\"\ngateway4 = \"10.1.2.1/24\"", `3:12: gateway4 cannot be "10.1.2.1/24": it is no IP address`},
		{
			"no host", "name = \"*\"\ngateway4 = \"0.0.0.0\"\ngateway6 = \"ff02::2\"",
			"3:12: gateway4 cannot be \"0.0.0.0\": it is the unspecified address\n4:12: gateway6 cannot be \"ff02::2\": it is a multicast address",
		},
		{
			"broadcast", "name = \"*\"\ngateway4 = \"255.255.255.255\"\ngateway6 = \"::1\"",
			"3:12: gateway4 cannot be \"255.255.255.255\": it is the broadcast address\n4:12: gateway6 cannot be \"::1\": it is a loopback address",
		},
		{"preference", "name = \"*\"\npreference = -1\n[[link]]\nname = \"a\"\npreference = 10001", "3:14: preference cannot be -1\n6:14: preference cannot be 10001"},

		{
			"endpoints", "name = \"*\"\naddresses = \"all\"\nbackup = true\nfullmesh = true\nendpoints = false",
			"3:1: addresses = \"all\" is about endpoints, and endpoints = false asks for none\n4:1: backup = true is about endpoints, and endpoints = false asks for none\n" +
				"5:1: fullmesh = true is about endpoints, and endpoints = false asks for none",
		},
		{"an exception from a rule", "name = \"*\"\naddresses = \"all\"\n[[link]]\nname = \"a\"\nendpoints = false", ""},
		{"fullmesh with its role", "name = \"a*\"\nrole = \"both\"\nfullmesh = true", `4:1: fullmesh = true cannot work with role = "both" (the same entry)`},
		{
			"fullmesh with another entry's role", "name = \"*\"\nrole = \"server\"\n[[link]]\nname = \"wl*\"\nfullmesh = true",
			`6:1: fullmesh = true cannot work with role = "server" ([[link]] in f.toml:1)`,
		},
		{
			"role with another entry's fullmesh", "type = \"wlan\"\nfullmesh = true\n[[link]]\nname = \"wlan0\"\ntype = \"wlan\"\nrole = \"server\"",
			`7:1: role = "server" cannot work with fullmesh = true ([[link]] in f.toml:1)`,
		},
		{"a later entry decides", "name = \"eth0\"\nfullmesh = true\n[[link]]\nname = \"eth*\"\nrole = \"server\"", `3:1: fullmesh = true cannot work with role = "server" ([[link]] in f.toml:4)`},
		{"a later entry takes it back", "name = \"eth0\"\nrole = \"server\"\nfullmesh = true\n[[link]]\nname = \"*\"\nrole = \"client\"", ""},
		{"a later entry may take it back", "name = \"eth0\"\nrole = \"server\"\nfullmesh = true\n[[link]]\ntype = \"wlan\"\nfullmesh = false", ""},
		{"other links", "name = \"eth0\"\nfullmesh = true\n[[link]]\nname = \"wl*\"\nrole = \"server\"", ""},
		{"perhaps other links", "name = \"eth*\"\nfullmesh = true\n[[link]]\ntype = \"ether\"\nrole = \"server\"", ""},
		{"fullmesh without endpoints", "name = \"*\"\nendpoints = false\n[[link]]\nname = \"a\"\nrole = \"server\"\nfullmesh = true", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.want, told(t, "[[link]]\n"+c.text)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
	for text, want := range map[string]string{
		"role = \"server\"\n[[link]]\nname = \"*\"\nfullmesh = true":                    `4:1: fullmesh = true cannot work with role = "server" (role in f.toml:1)`,
		"role = \"both\"\n[[link]]\nname = \"*\"\nfullmesh = true\nrole = \"client\"\n": "",
		strings.Repeat("[[link]]\nname = \"*\"\n", maxLinks+1):                          "2001:1: there are 1001 entries, and at most 1000 are read",
	} {
		if got := told(t, text); got != want {
			t.Errorf("%s\nwant %s\ngot  %s", text, want, got)
		}
	}
}

func TestValid(t *testing.T) {
	for _, text := range []string{
		"routing.priority = 1\nrouting.table_base = 1000\nrouting.protocol = 5",
		"routing.priority = 32765\nrouting.table_base = 2147483648\nrouting.protocol = 253",
		"resync = \"1s\"", "resync = \"1h\"", "resync = \"1m30.5s\"",
		"limits = { subflows = 0, add_addr_accepted = 64 }", "limits = {\n\tsubflows = 1, # x\n\tadd_addr_accepted = 2,\n}",
		"metrics.listen = \":9477\"", "metrics.listen = \"[::]:9477\"", "metrics.listen = \"localhost:1\"", "metrics.listen = \"[fe80::1%eth0]:65535\"",
		"probe.target = \"[2001:db8::1]:443\"", "probe.target = \"a-b.example_c.net.:1\"", "probe.target = \"10.1.2.3:443\"",
		"[[link]]\nname = \"eth[0-9]\"\nmac = \"52:54:0[0-F]:*\"\ntype = \"ether\"\nkind = \"?lan\"\ngateway6 = \"fe80::1\"",
		"[[link]]\nname = \"a\"\npreference = 0", "[[link]]\nname = \"a\"\npreference = 10000",
	} {
		if _, err := readText(text); err != nil {
			t.Errorf("%s\n%v", text, err)
		}
	}
}

func TestProblemsPrint(t *testing.T) {
	_, err := readText("# ok\nvpn = \"withdrawn\"\t# why\n\nroel = 1\n")
	const want = `f.toml:2:7: vpn cannot be "withdrawn"
   2 | vpn = "withdrawn" # why
     |       ^^^^^^^^^^^
       did you mean "withdraw"?
       allowed: "withdraw", "backup" or "ignore"
f.toml:4:1: unknown key "roel"
   4 | roel = 1
     | ^^^^
       did you mean role (connect to others, be connected to, or both)?`
	if d := cmp.Diff(want, err.Error()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	ps := problemsOf(t, err)
	if s := ps.Summary(); s != `f.toml:2:7: vpn cannot be "withdrawn" (and one more problem)` {
		t.Error(s)
	}
	if s := append(ps, ps...).Summary(); s != `f.toml:2:7: vpn cannot be "withdrawn" (and 3 more problems)` {
		t.Error(s)
	}
	if s := ps[1:].Summary() + (Problems{}).Summary(); s != `f.toml:4:1: unknown key "roel"` {
		t.Error(s)
	}
	b, err := json.Marshal(ps[0])
	const wantJSON = `{"file":"f.toml","line":2,"column":7,"width":11,"text":"vpn cannot be \"withdrawn\"",` +
		`"did_you_mean":"\"withdraw\"","allowed":"\"withdraw\", \"backup\" or \"ignore\"","excerpt":"vpn = \"withdrawn\" # why"}`
	if d := cmp.Diff(wantJSON, string(b)); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	var one *Problem
	if !errors.As(ps, &one) || one != ps[0] {
		t.Error("errors.As finds no problem")
	}
}

// TestLongLines has a problem in the middle of a line, and characters of
// several bytes and of none before it.
func TestLongLines(t *testing.T) {
	_, err := readText("limits = { \"" + strings.Repeat("ü", 100) + "\" = 1, \"\\u0007\" = 2, subflows = 0, add_addr_accepted = 0 } # " + strings.Repeat("x", 500) + "\n")
	ps := problemsOf(t, err)
	if len(ps) != 2 {
		t.Fatal(err)
	}
	var b strings.Builder
	ps[1].print(&b)
	const want = `f.toml:1:120: unknown key "limits.\u0007"
   1 | üüüüüüüüüüüüüüüüüüüüüüüüüüü" = 1, "\u0007" = 2, subflows = 0, add_ad
     |                                   ^^^^^^^^`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	for line := range strings.Lines(b.String()) {
		if n := len([]rune(line)); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

// TestTakenProtocols compares the words of the form with what it takes.
func TestTakenProtocols(t *testing.T) {
	f := find(hostKeys, "routing.protocol")
	_, list, _ := strings.Cut(strings.ReplaceAll(f.allowed, " and", ","), " but ")
	refused := map[int]bool{}
	for _, r := range strings.Split(list, ", ") {
		var from, to int
		if n, _ := fmt.Sscanf(r, "%d-%d", &from, &to); n == 1 {
			to = from
		}
		for ; from <= to; from++ {
			refused[from] = true
		}
	}
	for v := 5; v <= 253; v++ {
		if taken := checkProtocol(int64(v)) != ""; taken != refused[v] {
			t.Errorf("%d: refused %t, in the text %t", v, taken, refused[v])
		}
	}
}
