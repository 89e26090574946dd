package diff

import "testing"

func TestRoutes(t *testing.T) {
	runAll(t, []diffCase{{
		name: "another gateway is a replace",
		have: `
			route default via 10.1.1.1 dev eth0 table 100002 proto 77 metric 100
			route default via fe80::1 dev eth0 table 100002 proto 77`,
		want: `
			route default via 10.1.1.254 dev eth0 table 100002 proto 77 metric 100
			route default via fe80::2 dev eth0 table 100002 proto 77`,
		up: `
			ip -4 route replace default via 10.1.1.254 dev eth0 table 100002 proto 77 metric 100
			ip -6 route replace default via fe80::2 dev eth0 table 100002 proto 77 metric 1024`,
	}, {
		name: "another metric is another route",
		have: `route default via 10.1.1.1 dev eth0 table 100002 proto 77 metric 100`,
		want: `route default via 10.1.1.1 dev eth0 table 100002 proto 77 metric 600`,
		up:   `ip -4 route add default via 10.1.1.1 dev eth0 table 100002 proto 77 metric 600`,
		down: `ip -4 route del default via 10.1.1.1 dev eth0 table 100002 proto 77 metric 100`,
	}, {
		name: "a throw takes the place of a prefix without a gap",
		have: `
			route 10.1.1.128/25 dev eth0 table 100002 proto 77
			route 2001:db8:1::/64 dev eth0 table 100002 proto 77`,
		want: `
			route throw 10.1.1.128/25 table 100002 proto 77
			route throw 2001:db8:1::/64 table 100002 proto 77`,
		up: `
			ip -4 route replace throw 10.1.1.128/25 table 100002 proto 77
			ip -6 route replace throw 2001:db8:1::/64 table 100002 proto 77 metric 1024`,
	}, {
		name: "an IPv6 throw reads back with the loopback",
		have: `route throw 2001:db8:1::/64 dev lo table 100002 proto 77`,
		want: `route throw 2001:db8:1::/64 table 100002 proto 77`,
	}, {
		name: "metric 0 of IPv6 is 1024",
		have: `route default via fe80::1 dev eth0 table 100002 proto 77`,
		want: `route default via fe80::1 dev eth0 table 100002 proto 77 metric 0`,
	}, {
		name: "IPv4 duplicates and IPv6 siblings go, the right one stays",
		have: `
			route default via 10.1.1.9 dev eth0 table 100002 proto 77
			route default via 10.1.1.1 dev eth0 table 100002 proto 77
			route default via fe80::1 dev eth0 table 100002 proto 77 multipath
			route default via fe80::9 dev eth0 table 100002 proto 77 multipath`,
		want: `
			route default via 10.1.1.1 dev eth0 table 100002 proto 77
			route default via fe80::1 dev eth0 table 100002 proto 77`,
		up: `
			ip -4 route del default via 10.1.1.9 dev eth0 table 100002 proto 77
			ip -6 route del default via fe80::9 dev eth0 table 100002 proto 77 metric 1024`,
	}, {
		name: "two wrong ones: one is replaced, one goes",
		have: `
			route default via 10.1.1.8 dev eth0 table 100002 proto 77
			route default via 10.1.1.9 dev eth0 table 100002 proto 77`,
		want: `route default via 10.1.1.1 dev eth0 table 100002 proto 77`,
		up: `
			ip -4 route del default via 10.1.1.9 dev eth0 table 100002 proto 77
			ip -4 route replace default via 10.1.1.1 dev eth0 table 100002 proto 77`,
	}, {
		name: "an IPv4 multipath route is replaced or deleted whole",
		have: `
			route default via 10.1.1.1 dev eth0 table 100002 proto 77 multipath
			route default via 10.1.1.9 dev eth0 table 100002 proto 77 multipath
			route default via 10.1.1.1 dev eth0 table 100003 proto 77 multipath
			route default via 10.1.1.9 dev eth0 table 100003 proto 77 multipath`,
		want: `route default via 10.1.1.1 dev eth0 table 100002 proto 77`,
		up:   `ip -4 route replace default via 10.1.1.1 dev eth0 table 100002 proto 77`,
		down: `ip -4 route del default via 10.1.1.1 dev eth0 table 100003 proto 77`,
	}, {
		name:     "a foreign route in the way is left alone",
		have:     `route default via 10.1.1.7 dev eth0 table 100002 proto static metric 100`,
		want:     `route default via 10.1.1.1 dev eth0 table 100002 proto 77 metric 100`,
		findings: `warning foreign-route table 100002`,
	}, {
		name:     "a foreign route that does what ours would",
		have:     `route default via 10.1.1.1 dev eth0 table 100002 proto static metric 100`,
		want:     `route default via 10.1.1.1 dev eth0 table 100002 proto 77 metric 100`,
		findings: `info foreign-route table 100002`,
	}, {
		name: "ours beside a foreign one goes when it is wrong, and is not replaced",
		have: `
			route default via 10.1.1.7 dev eth0 table 100002 proto static metric 100
			route default via 10.1.1.8 dev eth0 table 100002 proto 77 metric 100`,
		want:     `route default via 10.1.1.1 dev eth0 table 100002 proto 77 metric 100`,
		down:     `ip -4 route del default via 10.1.1.8 dev eth0 table 100002 proto 77 metric 100`,
		findings: `warning foreign-route table 100002`,
	}, {
		name: "foreign routes elsewhere are none of ours",
		have: `
			route default via 10.1.1.7 dev eth0 proto dhcp
			route default via 10.1.1.7 dev eth0 proto 77
			route default via 10.1.1.7 dev eth0 table 100002 proto static metric 7
			route default via 10.1.1.7 dev eth0 table 51 proto static`,
	}})
}
