package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/subflowd/subflowd/internal/netstate"
)

func TestMatches(t *testing.T) {
	wifi := netstate.Link{Name: "wlp3s0", Type: 1, DevType: "wlan", Driver: "iwlwifi", MAC: "52:54:00:ab:cd:ef"}
	wired := netstate.Link{Name: "eth0", Type: 1, Driver: "e1000e", MAC: "52:54:00:12:34:56"}
	vlan := netstate.Link{Name: "eth0.7", Type: 1, DevType: "vlan", Kind: "vlan", MAC: "52:54:00:12:34:56"}
	modem := netstate.Link{Name: "wwan0", Type: 519, Driver: "qmi_wwan"}
	ppp := netstate.Link{Name: "ppp0", Type: 512}
	veth := netstate.Link{Name: "veth1", Type: 1, Kind: "veth", MAC: "0a:00:00:00:00:01"}
	all := []netstate.Link{wifi, wired, vlan, modem, ppp, veth}
	for _, c := range []struct{ entry, want string }{
		{`name = "*"`, "wlp3s0 eth0 eth0.7 wwan0 ppp0 veth1"},
		{`name = "eth0"`, "eth0"},
		{`name = "eth*"`, "eth0 eth0.7"},
		{`name = "e*0"`, "eth0"},
		{`name = "???0"`, "eth0 ppp0"},
		{`name = "[ew]*"`, "wlp3s0 eth0 eth0.7 wwan0"},
		{`name = "[^ew]*"`, "ppp0 veth1"},
		{`name = "ETH0"`, ""},
		{`type = "wlan"`, "wlp3s0"},
		{`type = "ether"`, "eth0 veth1"},
		{`type = "wwan"`, "wwan0"},
		{`type = "ppp"`, "ppp0"},
		{`type = "w*"`, "wlp3s0 wwan0"},
		{`driver = "iwl*"`, "wlp3s0"},
		{`driver = "*"`, "wlp3s0 eth0 eth0.7 wwan0 ppp0 veth1"},
		{`driver = "?*"`, "wlp3s0 eth0 wwan0"},
		{`mac = "52:54:00:12:34:56"`, "eth0 eth0.7"},
		{`mac = "52:54:00:AB:CD:EF"`, "wlp3s0"},
		{`mac = "52:54:*"`, "wlp3s0 eth0 eth0.7"},
		{`kind = "veth"`, "veth1"},
		{`kind = "v*"`, "eth0.7 veth1"},
		{`kind = "?*"`, "eth0.7 veth1"},
		{"mac = \"52:54:*\"\nkind = \"vlan\"", "eth0.7"},
		{"name = \"eth*\"\ntype = \"wlan\"", ""},
	} {
		conf, err := readText("[[link]]\n" + c.entry)
		if err != nil {
			t.Errorf("%s: %v", c.entry, err)
			continue
		}
		var matched []string
		for _, l := range all {
			if conf.Links[0].Matches(l) {
				matched = append(matched, l.Name)
			}
		}
		if got := strings.Join(matched, " "); got != c.want {
			t.Errorf("%s: matches %q, wanted %q", c.entry, got, c.want)
		}
	}
}

const policy = `# a comment
resync = "10s"
role = "server"
[[link]]
name = "*"
preference = 7
backup = true
[[link]]
type = "wlan"
backup = false
addresses = "all"
[[link]]
name = "eth0"
role = "both"
gateway4 = "10.1.2.1"
uplink = true
`

func explained(c Config, l netstate.Link) string {
	var lines []string
	for _, d := range c.Explain(l) {
		lines = append(lines, d.Key+" "+d.Value+": "+d.Where)
	}
	return strings.Join(lines, "\n")
}

func TestExplain(t *testing.T) {
	dropIn := decodeText("/etc/subflowd/conf.d/10-lte.toml", "conf.d/10-lte.toml", []byte("\n\n\n[[link]]\ntype = \"wlan\"\nbackup = true\ngateway6 = \"fe80::1\"\n"))
	c, err := decode([]*document{decodeText("/etc/subflowd/subflowd.toml", "subflowd.toml", []byte(policy)), dropIn})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		link netstate.Link
		want string
	}{
		{netstate.Link{Name: "wlan0", DevType: "wlan"}, `uplink auto: default
role server: role in subflowd.toml:3
backup true: [[link]] in conf.d/10-lte.toml:4
fullmesh false: default
addresses all: [[link]] in subflowd.toml:8
gateway4 none: default
gateway6 fe80::1: [[link]] in conf.d/10-lte.toml:4
endpoints true: default
preference 7: [[link]] in subflowd.toml:4`},
		{netstate.Link{Name: "eth0", Type: 1}, `uplink true: [[link]] in subflowd.toml:12
role both: [[link]] in subflowd.toml:12
backup true: [[link]] in subflowd.toml:4
fullmesh false: default
addresses one: default
gateway4 10.1.2.1: [[link]] in subflowd.toml:12
gateway6 none: default
endpoints true: default
preference 7: [[link]] in subflowd.toml:4`},
	} {
		if d := cmp.Diff(x.want, explained(c, x.link)); d != "" {
			t.Errorf("%s (-want +got):\n%s", x.link.Name, d)
		}
	}
	if d := cmp.Diff(`uplink auto: default
role client: default
backup true: default of cellular links
fullmesh false: default
addresses one: default
gateway4 none: default
gateway6 none: default
endpoints true: default
preference 100: default`, explained(Default(), netstate.Link{Name: "wwan0", DevType: "wwan"})); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
