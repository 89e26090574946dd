package config

import (
	"fmt"
	"net/netip"
	"path"
	"strconv"
	"strings"
)

// maxLinkName is the longest name of a link in bytes: IFNAMSIZ (linux/if.h)
// without the zero behind it.
const maxLinkName = 15

// otherTypes are the words that people use for link types, by the kernel's.
var otherTypes = map[string]string{
	"ethernet": "ether", "eth": "ether", "lan": "ether", "wired": "ether",
	"wifi": "wlan", "wi-fi": "wlan", "wireless": "wlan", "wlp": "wlan",
	"lte": "wwan", "cellular": "wwan", "mobile": "wwan", "modem": "wwan", "gsm": "wwan", "5g": "wwan",
}

// pattern is the form of a matcher. check, which may be nil, knows patterns
// that are valid and can match no link.
func pattern[T any](s slot[T, string], example string, check func(string) *objection) form[T] {
	allowed := fmt.Sprintf("a name or a pattern with * ? [a-z], such as %q", example)
	return text(s, allowed, func(v string) (string, *objection) {
		_, err := path.Match(v, "")
		switch {
		case v == "":
			return v, &objection{why: "an empty pattern matches no link", meant: `"*"`}
		case err != nil:
			return v, &objection{why: "it is no valid pattern"}
		case strings.ContainsAny(v, "/ \t\n"):
			return v, &objection{why: "no link has a slash or a blank there"}
		case check != nil:
			return v, check(v)
		}
		return v, nil
	}, plain)
}

// literal tells whether a pattern can match nothing but itself.
func literal(pattern string) bool { return !strings.ContainsAny(pattern, `*?[\`) }

func checkName(v string) *objection {
	if literal(v) && len(v) > maxLinkName {
		return &objection{why: fmt.Sprintf("names of links have at most %d bytes", maxLinkName)}
	}
	return nil
}

func checkType(v string) *objection {
	if kernels, ok := otherTypes[strings.ToLower(v)]; ok {
		return &objection{why: "the kernel has another word for it", meant: quote(kernels)}
	}
	return nil
}

// checkMAC refuses what stands in no hardware address, as the dashes of other
// systems. Inside brackets anything goes.
func checkMAC(v string) *objection {
	inside := false
	for _, c := range strings.ToLower(v) {
		switch {
		case c == '[':
			inside = true
		case c == ']':
			inside = false
		case inside, strings.ContainsRune(`0123456789abcdef:*?\`, c):
		default:
			o := &objection{why: "hardware addresses are written as 52:54:00:12:34:56"}
			if c == '-' {
				o.meant = quote(strings.ReplaceAll(v, "-", ":"))
			}
			return o
		}
	}
	return nil
}

// listener is the form of the address that metrics are served on; empty: none.
func listener[T any](s slot[T, string]) form[T] {
	return text(s, `"" for none, or address:port such as "127.0.0.1:9477", "[::1]:9477" or ":9477"`, func(v string) (string, *objection) {
		if v == "" {
			return v, nil
		}
		host, bad := splitPort(v)
		if bad != nil || host == "" || host == "localhost" {
			return v, bad
		}
		a, err := netip.ParseAddr(host)
		switch {
		case err != nil:
			return v, &objection{why: "names are not looked up; it needs an address of this host"}
		case a.IsMulticast():
			return v, &objection{why: "it is a multicast address"}
		}
		return v, nil
	}, plain)
}

// target is the form of the host that is probed; empty: none.
func target[T any](s slot[T, string]) form[T] {
	return text(s, `"" for off, or host:port such as "example.net:443" or "[2001:db8::1]:443"`, func(v string) (string, *objection) {
		if v == "" {
			return v, nil
		}
		host, bad := splitPort(v)
		if bad != nil {
			return v, bad
		}
		if a, err := netip.ParseAddr(host); err == nil {
			// What one link alone leads to would leave all others silent.
			why := noHost(a)
			if a.IsLinkLocalUnicast() || a.Zone() != "" {
				why = "it is an address of one link, and the target has to be reached over all"
			}
			if why != "" {
				return v, &objection{why: why}
			}
			return v, nil
		}
		if !hostname(host) {
			return v, &objection{why: "the host is neither a name nor an address"}
		}
		return v, nil
	}, plain)
}

// splitPort is the host of host:port, which may be empty.
func splitPort(v string) (string, *objection) {
	i := strings.LastIndexByte(v, ':')
	host := v
	if i >= 0 {
		host = v[:i]
	}
	bracketed := strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]")
	if a, err := netip.ParseAddr(v); err == nil && a.Is6() {
		return "", &objection{why: "an IPv6 address stands in brackets before its port"}
	}
	if i < 0 {
		return "", &objection{why: "the port is missing"}
	}
	if p, err := strconv.ParseUint(v[i+1:], 10, 16); err != nil || p == 0 || v[i+1] == '+' {
		return "", &objection{why: "the port is no number from 1 to 65535"}
	}
	if bracketed {
		host = host[1 : len(host)-1]
		if a, err := netip.ParseAddr(host); err != nil || !a.Is6() {
			return "", &objection{why: "there is no IPv6 address in the brackets"}
		}
		return host, nil
	}
	if strings.Contains(host, ":") {
		return "", &objection{why: "an IPv6 address stands in brackets before its port"}
	}
	return host, nil
}

// hostname tells whether a name can be asked of the DNS (RFC 1123, section 2.1,
// and the underscore that is in use). Digits and dots alone are a spoilt address.
func hostname(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if len(s) > 253 || strings.Trim(s, "0123456789.") == "" {
		return false
	}
	for _, label := range strings.Split(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range label {
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}
