package cli

import (
	"strings"
	"testing"
)

func TestSubjects(t *testing.T) {
	for _, c := range []struct {
		given, what string
		name        bool
		why         string // part of it
	}{
		{"eth0", "eth0", false, ""},
		{"eth0.100", "eth0.100", false, ""},
		{"eth0:1", "eth0", false, ""}, // a label of old
		{"10.1.1.2", "10.1.1.2", false, ""},
		{"10.1.1.0/24", "10.1.1.0/24", false, ""},
		{"192.0.2.1:443", "192.0.2.1", false, ""},
		{"192.0.2.1:https", "192.0.2.1", false, ""},
		{"2001:db8::1", "2001:db8::1", false, ""},
		{"2001:db8::1:443", "2001:db8::1:443", false, ""},
		{"[2001:db8::1]:443", "2001:db8::1", false, ""},
		{"[2001:db8::1]", "2001:db8::1", false, ""},
		{"example.net", "example.net", true, ""},
		{"example.net.:443", "example.net.", true, ""},
		{"b\u00fccher.example", "b\u00fccher.example", true, ""},
		{".net", ".net", false, ""},
		{"a b.net", "a b.net", false, ""},
		{"https://example.net:8443/a/b", "example.net", true, ""},
		{"224.0.0.251", "224.0.0.251", false, "multicast"},
		{"ff02::fb%eth0", "ff02::fb%eth0", false, "multicast"},
		{"::ffff:224.0.0.1", "::ffff:224.0.0.1", false, "multicast"},
		{"255.255.255.255", "255.255.255.255", false, "broadcast"},
		{"0.0.0.0", "0.0.0.0", false, "no host's address"},
		{"fe80::1%eth0", "fe80::1%eth0", false, "link-local"},
		{"169.254.1.1", "169.254.1.1", false, "link-local"},
		{"[::1]:22", "::1", false, "this host itself"},
	} {
		what := withoutPort(c.given)
		if why := nobodys(what) + onLinkOnly(what); what != c.what || hostName(what) != c.name || (why == "") != (c.why == "") || !strings.Contains(why, c.why) {
			t.Errorf("%q: %q, a name %v, %q; wanted %+v", c.given, what, hostName(what), why, c)
		}
	}
}
