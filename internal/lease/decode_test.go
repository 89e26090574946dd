package lease

import (
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// golden reads what a client left behind when it was run against dnsmasq 2.89 on
// eth1, ifindex 3: ISC dhclient 4.4.3, dhcpcd 9.4.1, systemd-networkd 252,
// NetworkManager 1.42.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func utc(s string) time.Time {
	at, err := time.Parse(time.DateTime, s)
	if err != nil {
		panic(err)
	}
	return at
}

var written = utc("2026-11-21 21:00:00")

func TestDecodeWhatClientsLeave(t *testing.T) {
	router := []netip.Addr{ip("10.1.2.1")}
	for _, c := range []struct {
		file   string
		decode func(b []byte) []lease
		want   lease
	}{
		{"networkd", decodeNetworkd, lease{addr: ip("10.1.2.58"), routers: router, classless: true, route: ip("10.1.2.1")}},
		{"networkmanager-internal", decodeDeviceState, lease{addr: ip("10.1.2.53"), routers: router, classless: true, route: ip("10.1.2.1")}},
		{"networkmanager-dhclient", decodeDeviceState, lease{addr: ip("10.1.2.53"), routers: router, classless: true, route: ip("10.1.2.1")}},
		{"networkmanager-routers", decodeDeviceState, lease{addr: ip("10.1.2.57"), routers: router}},
		{"networkmanager-kept", kept, lease{addr: ip("10.1.2.53")}},
		{"networkd", kept, lease{
			addr: ip("10.1.2.58"), routers: router, classless: true, route: ip("10.1.2.1"), expires: utc("2026-11-22 09:00:00"),
		}},
		{"dhclient-routers", eth1, lease{addr: ip("10.1.2.58"), routers: router, expires: utc("2026-11-22 09:22:36")}},
		{"dhclient-classless", eth1, lease{
			addr: ip("10.1.2.59"), routers: router, classless: true, route: ip("10.1.2.1"), expires: utc("2026-11-22 09:13:57"),
		}},
		{"dhclient-epoch", eth1, lease{ // and the option without a name, and a domain that looks like the end of the block
			addr: ip("10.1.2.50"), routers: router, classless: true, route: ip("10.1.2.1"), expires: utc("2026-11-22 09:23:00"),
		}},
		{"dhclient-networkmanager", eth1, lease{
			addr: ip("10.1.2.53"), routers: router, classless: true, route: ip("10.1.2.1"), expires: utc("2026-11-22 09:17:43"),
		}},
		{"dhcpcd", packet, lease{addr: ip("10.1.2.55"), routers: router, classless: true, route: ip("10.1.2.1"), expires: utc("2026-11-22 09:00:00")}},
		{"dhcpcd-routers", packet, lease{addr: ip("10.1.2.51"), routers: router, expires: utc("2026-11-22 09:00:00")}},
	} {
		t.Run(c.file, func(t *testing.T) {
			same(t, c.decode(golden(t, c.file)), c.want)
		})
	}
}

func kept(b []byte) []lease   { return decodeKeptNetworkd(b, written) }
func eth1(b []byte) []lease   { return decodeISC(b, "eth1") }
func packet(b []byte) []lease { return decodePacket(b, written) }

func same(t *testing.T, got []lease, want ...lease) {
	t.Helper()
	equal := []cmp.Option{
		cmp.AllowUnexported(lease{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	}
	if d := cmp.Diff(want, got, equal...); d != "" {
		t.Errorf("wanted (-) and got (+):\n%s", d)
	}
}

// TestDecodeTorn cuts every file everywhere: what has lost its end says nothing
// that the whole does not say.
func TestDecodeTorn(t *testing.T) {
	for _, c := range []struct {
		file   string
		decode func(b []byte) []lease
	}{
		{"networkd", decodeNetworkd},
		{"networkmanager-internal", decodeDeviceState},
		{"dhclient-classless", eth1},
		{"dhclient-epoch", eth1},
		{"dhcpcd", packet},
		{"dhcpcd-routers", packet},
	} {
		b := golden(t, c.file)
		whole := c.decode(b)[0]
		for n := range b {
			for _, l := range c.decode(b[:n]) {
				if l.addr != whole.addr || l.route.IsValid() && l.route != whole.route ||
					len(l.routers) > 0 && l.routers[0] != whole.routers[0] {
					t.Errorf("the first %d bytes of %s: %+v, of the whole %+v", n, c.file, l, whole)
				}
			}
		}
	}
}

func TestDecodeISC(t *testing.T) {
	block := func(lines ...string) string { return "lease {\n  " + strings.Join(lines, "\n  ") + "\n}\n" }
	const iface, addr = `interface "eth1";`, `fixed-address 10.1.2.50;`
	for name, c := range map[string]struct {
		text string
		want []lease
	}{
		"in the order of the file": {
			block(iface, addr, "expire never;") + block(iface, "fixed-address 10.1.2.51;", "expire epoch 1795089600;"),
			[]lease{{addr: ip("10.1.2.50")}, {addr: ip("10.1.2.51"), expires: time.Unix(1795089600, 0)}},
		},
		"another link":             {block(`interface "eth0";`, addr), nil},
		"a longer name":            {block(`interface "eth10";`, addr), nil},
		"no link":                  {block(addr), nil},
		"no address":               {block(iface), nil},
		"IPv6":                     {"lease6 {\n" + iface + "\nia-na 01 {\niaaddr 2001:db8::1 {\n}\n}\n}\n", nil},
		"a time that is none":      {block(iface, addr, "expire 4 soon;"), nil},
		"a time without its clock": {block(iface, addr, "expire 4 2026/11/19;"), nil},
		"several routers": {
			block(iface, addr, "option routers 10.1.2.1, 10.1.2.2,example.net;"),
			[]lease{{addr: ip("10.1.2.50"), routers: []netip.Addr{ip("10.1.2.1"), ip("10.1.2.2")}}},
		},
		"a block that was never finished": {
			"lease {\n  " + iface + "\n  " + addr + "\n  option rou" + block(iface, "fixed-address 10.1.2.51;"),
			nil, // the word that was torn swallows the next
		},
		"a block that was never finished, before a line": {
			"lease {\n  " + iface + "\n  " + addr + "\n" + block(iface, "fixed-address 10.1.2.51;"),
			[]lease{{addr: ip("10.1.2.51")}},
		},
		"a block in the block": {
			block(iface, addr, "vendor { option routers 10.9.9.9; }", "option routers 10.1.2.1;"),
			[]lease{{addr: ip("10.1.2.50"), routers: []netip.Addr{ip("10.1.2.1")}}},
		},
		"other statements, and comments": {
			"# lease {\n" + `default-duid "\000\001}";` + "\n" + block("bootp;", iface+" # }", addr, `option host-name "x\"} lease { interface \"eth0\";";`),
			[]lease{{addr: ip("10.1.2.50")}},
		},
		"ends without beginning": {"}}};" + block(iface, addr), []lease{{addr: ip("10.1.2.50")}}},
	} {
		t.Run(name, func(t *testing.T) { same(t, decodeISC([]byte(c.text), "eth1"), c.want...) })
	}
}

func TestClassless(t *testing.T) {
	for text, want := range map[string]string{
		"0 10 1 2 1":                       "10.1.2.1",
		"0 10 1 2 1 0 10 1 2 2":            "10.1.2.1",
		"24 192 168 1 10 1 2 9":            "",
		"33 1 2 3 4 5 10 1 2 9 0 10 1 2 1": "", // no such width
		"16 10 99 10 1 2 2 0 10 1 2":       "", // torn
		"0 0 0 0 0":                        "0.0.0.0",
		"0:a:1:2:1":                        "10.1.2.1",
		"0:a:1:2:100":                      "",
		"0 10.1.2.1":                       "10.1.2.1",
		"16.10.99 10.1.2.2 0 10.1.2.1":     "10.1.2.1",
		"10.99.0.0/16 10.1.2.2":            "",
		"0.0.0.0/0 2001:db8::1":            "",
		"0.0.0.0/0":                        "",
		"nonsense":                         "",
		"256 1 2 3 4":                      "",
	} {
		var l lease
		l.setClasslessText(strings.Fields(text))
		got := ""
		if l.route.IsValid() {
			got = l.route.String()
		}
		if !l.classless || got != want {
			t.Errorf("%s: default by %q, wanted %q", text, got, want)
		}
	}
}

func TestDecodePacketOptions(t *testing.T) {
	b := golden(t, "dhcpcd-routers")
	with := func(change func(b []byte) []byte) []lease { return packet(change(append([]byte(nil), b...))) }
	at := func(b []byte, i int, x ...byte) []byte { copy(b[i:], x); return b }
	const options = packetOptions

	for name, change := range map[string]func(b []byte) []byte{
		"a request":      func(b []byte) []byte { return at(b, 0, 1) },
		"no cookie":      func(b []byte) []byte { return at(b, packetCookie, 0) },
		"an offer":       func(b []byte) []byte { return at(b, options+2, 2) },
		"no option area": func(b []byte) []byte { return b[:options-1] },
	} {
		if got := with(change); got != nil {
			t.Errorf("%s: %+v, wanted nothing", name, got)
		}
	}
	want := lease{addr: ip("10.1.2.51"), routers: []netip.Addr{ip("10.1.2.1"), ip("10.1.2.2")}}
	same(t, with(func(b []byte) []byte { // in the fields that option 52 adds, in pieces, and for ever
		at(b, packetFile, optRouters, 4, 10, 1, 2, 1, optEnd)
		at(b, packetSname, optPad, optRouters, 5, 10, 1, 2, 2, 9, optEnd)
		b = append(b[:options], optOverload, 1, 3, optLeaseTime, 4)
		return append(binary.BigEndian.AppendUint32(b, forever), optEnd)
	}), want)
}

func FuzzDecode(f *testing.F) {
	names, err := filepath.Glob("testdata/*")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
			f.Add(golden(f, filepath.Base(name)))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, decode := range map[string]func([]byte) []lease{
			"networkd": decodeNetworkd, "kept": kept, "device": decodeDeviceState, "dhclient": eth1, "packet": packet,
			"tail": func(b []byte) []lease { return eth1(iscTail(b)) },
		} {
			for _, l := range decode(b) {
				if l.addr.IsValid() && !l.addr.Is4() || l.route.IsValid() && !l.route.Is4() {
					t.Errorf("%s: %+v", name, l)
				}
			}
		}
	})
}
