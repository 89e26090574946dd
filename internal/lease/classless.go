package lease

import (
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"
)

// setClassless notes an option 121 as it was sent (RFC 3442): the width of a
// prefix, as many octets of it as the width needs, the router, and so on.
func (l *lease) setClassless(b []byte) {
	l.classless = true
	for len(b) > 0 {
		width := int(b[0])
		octets := (width + 7) / 8
		if width > 32 || len(b) < 1+octets+4 {
			return
		}
		if width == 0 && !l.route.IsValid() {
			l.route = netip.AddrFrom4([4]byte(b[1:5]))
		}
		b = b[1+octets+4:]
	}
}

// setClasslessText notes an option 121 in one of the forms in which clients
// write it down:
//
//	16 10 99 10 1 2 2 0 10 1 2 1                   dhclient as Debian defines the option: its octets
//	10:0a:63:0a:01:02:02:00:0a:01:02:01            dhclient without a definition: the same
//	16.10.99 10.1.2.2 0 10.1.2.1                   dhclient of Red Hat
//	10.99.0.0/16 10.1.2.2 0.0.0.0/0 10.1.2.1       NetworkManager; systemd with a comma within the pair
//
// A form that is not known holds no default route.
func (l *lease) setClasslessText(words []string) {
	l.classless = true
	if len(words) == 1 && strings.Contains(words[0], ":") {
		l.setClassless(colonHex(words[0]))
		return
	}
	if b, ok := octets(words); ok {
		l.setClassless(b)
		return
	}
	for i := 0; i+1 < len(words); i += 2 {
		router, err := netip.ParseAddr(words[i+1])
		if err != nil || !router.Is4() {
			return
		}
		if words[i] == "0" || words[i] == "0.0.0.0/0" {
			l.route = router
			return
		}
	}
}

// octets reads decimal octets.
func octets(words []string) ([]byte, bool) {
	b := make([]byte, len(words))
	for i, w := range words {
		n, err := strconv.ParseUint(w, 10, 8)
		if err != nil {
			return nil, false
		}
		b[i] = byte(n)
	}
	return b, true
}

// colonHex reads octets as ISC prints those of an option that it does not know:
// without leading zeros.
func colonHex(s string) []byte {
	var b []byte
	for part := range strings.SplitSeq(s, ":") {
		if len(part) == 1 {
			part = "0" + part
		}
		octet, err := hex.DecodeString(part)
		if err != nil || len(octet) != 1 {
			return nil
		}
		b = append(b, octet[0])
	}
	return b
}

// addresses reads those words that are IPv4 addresses.
func addresses(words []string) []netip.Addr {
	var list []netip.Addr
	for _, w := range words {
		if ip, err := netip.ParseAddr(w); err == nil && ip.Is4() {
			list = append(list, ip)
		}
	}
	return list
}

// address reads one IPv4 address; zero if it is none.
func address(s string) netip.Addr {
	ip, err := netip.ParseAddr(s)
	if err != nil || !ip.Is4() {
		return netip.Addr{}
	}
	return ip
}
