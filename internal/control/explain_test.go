package control

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/subflowd/subflowd/internal/config"
	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/netstate/iptext"
	"github.com/subflowd/subflowd/internal/plan"
	"github.com/subflowd/subflowd/internal/reconcile"
)

// laptop is a host on which every kind of answer can be had.
const laptop = `
link 1 lo loopback
link 2 eth0
link 3 wwan0 type wwan
link 4 docker0 kind bridge
link 5 tun0 kind tun p2p
link 6 eth1
addr 127.0.0.1/8 dev lo
addr 10.1.1.2/24 dev eth0
addr 10.1.1.3/24 dev eth0 secondary
addr 2001:db8:1:0:5054:ff:fe12:3456/64 dev eth0
addr 2001:db8:1:0:91bc:8a3f:1122:7788/64 dev eth0 temporary
addr 2001:db8:1:0:91bc:8a3f:1122:9900/64 dev eth0 temporary deprecated
addr 2001:db8:1::dead/64 dev eth0 dadfailed
addr 2001:db8:1::beef/64 dev eth0 tentative
addr fe80::5054:ff:fe12:3456/64 dev eth0
addr 100.64.3.9/32 dev wwan0
addr 172.17.0.1/16 dev docker0
addr 10.8.0.2 peer 10.8.0.1 dev tun0
addr 169.254.7.7/16 dev eth1
route 10.1.1.0/24 dev eth0 proto kernel src 10.1.1.2
route default via 10.1.1.1 dev eth0 proto dhcp metric 100
route default via fe80::1 dev eth0 proto ra metric 100
route 2001:db8:1::/64 dev eth0 proto kernel
route default dev wwan0 proto static metric 700
route 172.17.0.0/16 dev docker0 proto kernel src 172.17.0.1
route 10.8.0.1 dev tun0 proto kernel src 10.8.0.2
preferred 10.1.1.2 dev eth0
preferred 2001:db8:1:0:91bc:8a3f:1122:7788 dev eth0
preferred 100.64.3.9 dev wwan0
endpoint 10.1.1.2 dev eth0 id 1 subflow
endpoint 10.9.9.9 dev if9 id 4 subflow
rule 32765: from 10.1.1.2 lookup main suppress_prefixlength 0 proto 77
rule 32765: from 10.1.1.2 lookup 100002 proto 77
limits subflows 2 add_addr_accepted 4`

func explained() *reconcile.View {
	s := iptext.MustSnapshot(laptop)
	yes, no, cost := true, false, 50
	c := config.Default()
	c.Role = config.RoleBoth
	c.Where = map[string]string{"role": "subflowd.toml:3"}
	c.Links = []config.LinkEntry{
		{Where: "subflowd.toml:7", Name: "w*", Backup: &no, Preference: &cost},
		{Where: "conf.d/10-lte.toml:2", Type: "wwan", Backup: &yes},
	}
	owned := netstate.Ownership{Known: true, Endpoints: map[netip.Addr]netstate.Endpoint{}}
	for _, e := range s.Endpoints {
		owned.Endpoints[e.Addr] = e
	}
	v := &reconcile.View{
		Version: 3, Started: started, Config: c, Snapshot: s, Owned: owned, Names: s.Names(),
		Plan:     plan.Desired(plan.Input{Config: c, Snapshot: s, Owned: owned}),
		Findings: []reconcile.Finding{finding(0, plan.Warning, "no-slot", "10.1.1.3", "gets no endpoint: the kernel takes no more", "")},
	}
	v.Lingering = []reconcile.Lingering{{
		Endpoint: s.Endpoints[1], Reason: "10.9.9.9 is an address of no link", Since: started, Blocking: 2,
		Why: "the connection to 192.0.2.80:443 has no other subflow",
	}}
	return v
}

// lookup answers as the kernel of the laptop would: from 10.1.1.2 by eth0, from
// everything else wrongly or not at all.
func lookup(dst, from netip.Addr) (netstate.Route, error) {
	gw := netip.MustParseAddr("10.1.1.1")
	switch {
	case dst.Is6():
		return netstate.Route{}, fmt.Errorf("look up route to %s: %w", dst, syscall.ENETUNREACH)
	case from == netip.MustParseAddr("10.1.1.2") && netip.MustParsePrefix("172.17.0.0/16").Contains(dst):
		return netstate.Route{Type: netstate.Unicast, Link: 4}, nil
	}
	return netstate.Route{Type: netstate.Unicast, Link: 2, Gateway: gw}, nil
}

func TestExplain(t *testing.T) {
	v := explained()
	var names []string
	for what, kind := range map[string]string{
		"eth0": "link", "wwan0": "link", "docker0": "link", "tun0": "link", "eth1": "link", "lo": "link",
		"10.1.1.2": "address", "2001:db8:1:0:91bc:8a3f:1122:7788": "address", "10.9.9.9": "address", "100.64.3.9": "address",
		"192.0.2.1": "destination", "172.17.0.9": "destination", "2001:db8:9::1": "destination",
	} {
		e, ok := Explain(v, what, lookup)
		if !ok || e.Kind != kind {
			t.Errorf("%s: %v, %q", what, ok, e.Kind)
			continue
		}
		text, err := json.MarshalIndent(e, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, '\n')
		name := what + ".json"
		names = append(names, name)
		file := filepath.Join("testdata", "explain", name)
		if *update {
			if err := os.WriteFile(file, text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(readFile(t, file), string(text)); diff != "" {
			t.Errorf("%s (- wanted, + found; -update writes it)\n%s", file, diff)
		}
		if bytes.Contains(text, []byte("null")) {
			t.Errorf("%s has a null", file)
		}
	}
	files, err := os.ReadDir(filepath.Join("testdata", "explain"))
	if err != nil || len(files) != len(names) {
		t.Errorf("%d files for %d answers: %v", len(files), len(names), err)
	}
	for _, what := range []string{"eth9", "", "fe80::99", "224.0.0.1", "x/y", "eth0 ", "\x00"} {
		if e, ok := Explain(v, what, lookup); ok {
			t.Errorf("%q is explained: %+v", what, e)
		}
	}
	if e, ok := Explain(v, "192.0.2.1", nil); ok {
		t.Errorf("a destination without lookup is explained: %+v", e)
	}
	if e, ok := Explain(&reconcile.View{}, "eth0", lookup); ok {
		t.Errorf("an empty view is explained: %+v", e)
	}
	for _, same := range []string{"10.1.1.2/24", "::ffff:10.1.1.2"} {
		if e, ok := Explain(v, same, lookup); !ok || len(e.Addresses) != 1 || e.Addresses[0].Address != "10.1.1.2/24" {
			t.Errorf("%s: %v, %+v", same, ok, e.Addresses)
		}
	}
}

func TestReloadTellsWhatIsWrong(t *testing.T) {
	ps := config.Problems{
		{File: "/etc/subflowd/subflowd.toml", Line: 2, Column: 1, Width: 5, Text: `unknown key "rolle"`, Meant: "role", Excerpt: "rolle = 1"},
		{File: "/etc/subflowd/conf.d/a.toml", Text: "permission denied"},
	}
	for _, c := range []struct {
		name    string
		loaded  Loaded
		taken   bool
		lines   int
		summary string
	}{
		{"taken", Loaded{}, true, 0, ""},
		{"mistakes", Loaded{Err: ps}, false, 2, "subflowd.toml:2:1: unknown key \"rolle\" (and one more problem)"},
		{"another cause", Loaded{Err: syscall.EIO}, false, 1, "input/output error"},
		{"conflicts", Loaded{Conflicts: []string{"routing.protocol = 90: others use it"}}, false, 1, "routing.protocol = 90"},
	} {
		d := c.loaded.document()
		if d.Taken != c.taken || len(d.Problems) != c.lines || len(c.loaded.Lines()) != c.lines || !strings.Contains(c.loaded.Summary(), c.summary) ||
			c.taken != (c.loaded.Summary() == "") || c.taken != (d.Report == "") {
			t.Errorf("%s: %+v, summary %q", c.name, d, c.loaded.Summary())
		}
	}
	d := Loaded{Err: ps}.document()
	if p := d.Problems[0]; p.Line != 2 || p.Meant != "role" || p.Excerpt != "rolle = 1" || !slices.Equal(strings.Split(d.Report, "\n"), strings.Split(ps.Error(), "\n")) {
		t.Errorf("found %+v", d)
	}
}
