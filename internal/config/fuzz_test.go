package config

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/pelletier/go-toml/v2"
	"pgregory.net/rapid"

	"github.com/subflowd/subflowd/internal/netstate"
)

// write is the configuration as a file.
func write(c Config) string {
	var b strings.Builder
	group := ""
	for _, k := range hostKeys {
		text, set := k.write(&c)
		if table, name, ok := strings.Cut(k.name, "."); ok {
			if table != group {
				group = table
				fmt.Fprintf(&b, "[%s]\n", group)
			}
			if set {
				fmt.Fprintf(&b, "%s = %s\n", name, text)
			}
		} else if set {
			fmt.Fprintf(&b, "%s = %s\n", k.name, text)
		}
	}
	for i := range c.Links {
		b.WriteString("[[link]]\n")
		for _, k := range linkKeys {
			if text, set := k.write(&c.Links[i]); set {
				fmt.Fprintf(&b, "%s = %s\n", k.name, text)
			}
		}
	}
	return b.String()
}

var withoutPlaces = gocmp.Options{
	cmpopts.EquateComparable(netip.Addr{}), cmpopts.IgnoreFields(Config{}, "Where"), cmpopts.IgnoreFields(LinkEntry{}, "Where"),
}

func oneOf[T any](t *rapid.T, list ...T) T { return rapid.SampledFrom(list).Draw(t, "one of") }

func maybe[T any](t *rapid.T, list ...T) *T {
	if v := oneOf(t, append(list, list[0])...); rapid.Bool().Draw(t, "set") {
		return &v
	}
	return nil
}

func drawConfig(t *rapid.T) Config {
	c := Config{
		Role:             oneOf(t, RoleClient, RoleServer, RoleBoth),
		Limits:           Limits{Mode: oneOf(t, LimitsAuto, LimitsKeep, LimitsFixed)},
		VPN:              oneOf(t, VPNWithdraw, VPNBackup, VPNIgnore),
		ForeignEndpoints: oneOf(t, ForeignRespect, ForeignTakeOver),
		Resync:           time.Duration(rapid.Int64Range(int64(minResync), int64(maxResync)).Draw(t, "resync")),
		Routing: Routing{
			Priority:  rapid.Uint32Range(1, maxPriority).Draw(t, "priority"),
			TableBase: rapid.Uint32Range(minTableBase, maxTableBase).Draw(t, "table base"),
			Protocol:  rapid.Uint8Range(5, 253).Filter(func(p uint8) bool { return checkProtocol(int64(p)) == "" }).Draw(t, "protocol"),
			MainFirst: rapid.Bool().Draw(t, "main first"),
			Strict:    rapid.Bool().Draw(t, "strict"),
		},
		Metrics: Metrics{oneOf(t, "", ":1", "[::1]:9477", "10.1.1.2:65535")},
		Probe: Probe{
			oneOf(t, "", "example.net:443", "[2001:db8::1]:1", "10.1.2.3:7"),
			time.Duration(rapid.Int64Range(int64(minResync), int64(maxResync)).Draw(t, "interval")),
		},
	}
	if c.Limits.Mode == LimitsFixed {
		n := rapid.Uint32Range(0, maxLimit)
		c.Limits.Values = netstate.Limits{Subflows: n.Draw(t, "subflows"), AddAddrAccepted: n.Draw(t, "accepted")}
	}
	for range rapid.IntRange(0, 6).Draw(t, "links") {
		c.Links = append(c.Links, drawEntry(t))
	}
	return c
}

func drawEntry(t *rapid.T) LinkEntry {
	e := LinkEntry{
		Name: oneOf(t, "*", "eth0", "eth*", `\*"é`, "[a-z]?"), Type: oneOf(t, "", "wlan", "w*"), Driver: oneOf(t, "", "e1000", "*"),
		MAC: oneOf(t, "", "52:54:*", "AA:[0-9]?:00"), Kind: oneOf(t, "", "veth", "\x7f"),
		Uplink: maybe(t, true, false), Role: maybe(t, RoleClient, RoleServer, RoleBoth), Backup: maybe(t, true, false),
		Fullmesh: maybe(t, true, false), Addresses: maybe(t, AddressesOne, AddressesAll), Endpoints: maybe(t, true, false),
		Preference: maybe(t, 0, 100, maxPreference),
	}
	if p := maybe(t, "10.1.2.1", "192.168.0.1"); p != nil {
		e.Gateway4 = netip.MustParseAddr(*p)
	}
	if p := maybe(t, "fe80::1", "2001:db8::1"); p != nil {
		e.Gateway6 = netip.MustParseAddr(*p)
	}
	return e
}

// TestWrittenIsRead writes configurations and reads them back. Those with a
// combination that cannot work are refused, and the combination is the reason.
func TestWrittenIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawConfig(t)
		text := write(want)
		got, err := readText(text)
		var ps Problems
		if errors.As(err, &ps) {
			for _, p := range ps {
				if !strings.Contains(p.Text, " cannot work with ") && !strings.Contains(p.Text, "is about endpoints") {
					t.Fatalf("%v\n%s", p, text)
				}
			}
			return
		}
		if d := gocmp.Diff(want, got, withoutPlaces); err != nil || d != "" {
			t.Fatalf("%v (-want +got):\n%s\n%s", err, d, text)
		}
	})
}

// TestCertainIsTrue looks for a refused fullmesh that would have worked, and
// for an entry that breaks every link it matches and is accepted.
func TestCertainIsTrue(t *testing.T) {
	links := []netstate.Link{
		{Name: "eth0", Type: 1, Driver: "e1000", MAC: "52:54:00:00:00:01"},
		{Name: "eth1", Type: 1, Kind: "veth"},
		{Name: "wl", DevType: "wlan", Driver: "iwl"},
		{Name: "a0", DevType: "wwan"},
		{Name: "lan"},
	}
	rapid.Check(t, func(t *rapid.T) {
		c := Config{Role: oneOf(t, RoleClient, RoleServer)}
		var entries []placed
		d := decodeText("f.toml", "f.toml", nil)
		for range rapid.IntRange(1, 4).Draw(t, "links") {
			e := LinkEntry{
				Name: oneOf(t, "", "*", "eth0", "eth*", "wl", "[a-z]?"), Type: oneOf(t, "", "", "wlan", "w*"),
				Role: maybe(t, RoleClient, RoleServer), Fullmesh: maybe(t, true, false), Endpoints: maybe(t, true, false),
			}
			c.Links = append(c.Links, e)
			entries = append(entries, placed{LinkEntry: e, doc: d, at: map[string]span{}})
		}
		for i, e := range c.Links {
			before := len(d.problems)
			checkFullmesh(&c, entries, i)
			if len(d.problems) == before {
				continue
			}
			for _, l := range links {
				s := c.For(l)
				if e.Matches(l) && !(s.Fullmesh && s.Endpoints && signals(s.Role)) {
					t.Fatalf("entry %d is refused, and %s gets %+v from\n%s", i, l.Name, s, write(c))
				}
			}
		}
	})
}

// TestExplainAgrees compares what explain says with what a link gets.
func TestExplainAgrees(t *testing.T) {
	links := []netstate.Link{
		{Name: "eth0", Type: 1, Driver: "e1000", MAC: "52:54:00:00:00:01"}, {Name: "wl", DevType: "wlan"}, {Name: "a0", DevType: "wwan", MAC: "aa:3f:00"},
	}
	rapid.Check(t, func(t *rapid.T) {
		c, l := drawConfig(t), oneOf(t, links...)
		s := c.For(l)
		set := LinkEntry{
			Uplink: s.Uplink, Role: &s.Role, Backup: s.Backup, Fullmesh: &s.Fullmesh, Addresses: &s.Addresses,
			Gateway4: s.Gateway4, Gateway6: s.Gateway6, Endpoints: &s.Endpoints, Preference: &s.Preference,
		}
		for i, d := range c.Explain(l) {
			want, ok := settingKeys[i].write(&set)
			switch {
			case ok:
			case d.Key == "uplink":
				want = "auto"
			case d.Key == "backup":
				want = fmt.Sprint(l.Cellular())
			default:
				want = "none"
			}
			if strings.Trim(want, `"`) != d.Value {
				t.Fatalf("%s: explained as %s, is %s", d.Key, d.Value, want)
			}
		}
	})
}

// FuzzRead reads whatever it gets, as one file and as two.
func FuzzRead(f *testing.F) {
	f.Add(Reference(), uint16(0))
	f.Add([]byte(example.ReplaceAllString(string(Reference()), "$1")), uint16(300))
	f.Add([]byte(policy), uint16(40))
	f.Add([]byte("a.b.c = 1\n[a]\n[[a.b]]\n[link.x]\nrole = \"\"\"\n\"\"\"\n"), uint16(0))
	f.Add([]byte("link = [ { name = \"a\" }, [ { b = { c = [1,] } } ] ]\r\nlimits = {}\n[limits]\nrole=2020-01-01T00:00:00Z"), uint16(9))
	f.Fuzz(func(t *testing.T, b []byte, half uint16) {
		check(t, []*document{decodeText("f.toml", "f.toml", b)})
		at := min(int(half), len(b))
		check(t, []*document{decodeText("f.toml", "f.toml", b[:at]), decodeText("conf.d/g.toml", "conf.d/g.toml", b[at:])})
		if _, err := readText(string(b)); err == nil {
			var all map[string]any
			if err := toml.Unmarshal([]byte(strings.TrimPrefix(string(b), string(utf8Mark))), &all); err != nil {
				t.Fatalf("accepted, and no TOML: %v", err)
			}
		}
	})
}

func check(t *testing.T, docs []*document) {
	c, err := decode(docs)
	var ps Problems
	switch {
	case err == nil:
		again, err := readText(write(c))
		if err != nil || gocmp.Diff(c, again, withoutPlaces) != "" {
			t.Fatalf("%v: accepted, written and not the same:\n%s", err, write(c))
		}
		return
	case !reflect.DeepEqual(c, Default()):
		t.Fatal("something is applied by halves")
	case !errors.As(err, &ps) || len(ps) == 0:
		t.Fatalf("no problems: %v", err)
	}
	for _, p := range ps {
		bad := cmp.Or(p.File == "", p.Text == "", p.Line < 0, p.Line > 0 && p.Column < 1, p.mark > excerptWidth)
		if bad || !utf8.ValidString(p.Error()) || strings.ContainsAny(p.Error(), "\n\x1b") || strings.ContainsAny(p.Excerpt, "\n\x1b") {
			t.Fatalf("%+v", p)
		}
	}
	if text := ps.Error(); len(text) > 2000*len(ps) {
		t.Fatal("endless text")
	}
}
