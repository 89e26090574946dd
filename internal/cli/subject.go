package cli

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
	"unicode"
)

// nameTime is how long the name of a host is looked up.
const nameTime = 3 * time.Second

// withoutPort leaves of a destination, or of a URL, what counts: paths are chosen
// by address alone. The name of a link has no colon (dev_valid_name, net/core/dev.c).
func withoutPort(what string) string {
	if _, err := netip.ParseAddr(what); err == nil {
		return what
	}
	if _, rest, ok := strings.Cut(what, "://"); ok {
		what, _, _ = strings.Cut(rest, "/")
	}
	if host, _, err := net.SplitHostPort(what); err == nil && host != "" {
		return host
	}
	if inner, ok := strings.CutPrefix(what, "["); ok && strings.HasSuffix(inner, "]") {
		return strings.TrimSuffix(inner, "]")
	}
	return what
}

// hostName tells whether a word may be the name of a host elsewhere. A link may
// have a dot in its name too, and then a number behind it: eth0.100.
func hostName(what string) bool {
	dot := strings.LastIndexByte(strings.TrimSuffix(what, "."), '.')
	strange := func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_.", r)
	}
	return dot > 0 && strings.IndexFunc(what, strange) < 0 && strings.ContainsFunc(what[dot:], unicode.IsLetter)
}

// explainName explains the addresses of a host, one of each family.
func (a *app) explainName(name string) error {
	found, err := resolve(name, 0, nameTime)
	if err != nil || len(found) == 0 {
		if err == nil {
			err = fmt.Errorf("it has no address")
		}
		return &exitError{
			code: ExitNo, err: fmt.Errorf("there is no link %q, and it is no host that can be looked up: %w", name, err),
			remedy: "see what there is: subflowctl status",
		}
	}
	for i, f := range found {
		if i > 0 {
			a.out.WriteByte('\n')
		}
		fmt.Fprintf(&a.out, "%s is %s\n", clean(name), f.Addr())
		if err := a.explain(f.Addr().String()); err != nil {
			return err
		}
	}
	return nil
}

// noSubject is the error for a word of which there is nothing to explain.
func noSubject(what, why string) error {
	return &exitError{code: ExitNo, err: fmt.Errorf("%q %s", what, why), remedy: "give a link, an address of this host, or the address of another host"}
}

// nobodys says why an address is that of no single host; "" where it may be one,
// or the word is no address.
func nobodys(what string) string {
	ip, err := netip.ParseAddr(what)
	switch ip = ip.Unmap(); {
	case err != nil:
		return ""
	case ip.IsUnspecified():
		return "is no host's address"
	case ip.IsMulticast():
		return "is a multicast address: a connection has one host at its other end"
	case ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "is the broadcast address: a connection has one host at its other end"
	}
	return ""
}

// onLinkOnly says why no path is chosen for an address that no link here has.
func onLinkOnly(what string) string {
	ip, err := netip.ParseAddr(what)
	switch ip = ip.Unmap(); {
	case err != nil:
		return ""
	case ip.IsLinkLocalUnicast():
		return "is a link-local address of no link here: it is reached on its link alone, and no path is chosen for it"
	case ip.IsLoopback():
		return "is this host itself: no path is involved"
	}
	return ""
}
