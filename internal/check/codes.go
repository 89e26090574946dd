package check

// Consequences has every code that Look itself gives, with what follows from
// the finding. Codes that the daemon alone gives come through without one.
var Consequences = map[string]string{
	// The kernel.
	"mptcp-absent":       "every connection is plain TCP and uses one path",
	"mptcp-disabled":     "every new connection is plain TCP and uses one path",
	"mptcp-userspace-pm": "the kernel opens no further subflows; endpoints do nothing",
	"no-policy-routing":  "all traffic leaves by one link whatever its source address is; subflowd cannot work",
	"limits-low":         "subflows beyond the limit are not opened, and joins beyond it are refused",
	"limits-capped":      "fewer subflows than the configuration asks for",
	"rp-filter":          "the answers to subflows from this address are thrown away; the path carries nothing",
	"accept-ra":          "the kernel ignores router advertisements on this link: its IPv6 addresses and default route run out",
	"arp-flux":           "both links answer ARP for both addresses: downloads arrive on one link only, and a cut of that link stalls them for seconds",
	"nexthop-compat":     "programs that know no nexthop objects see these routes without device and gateway; subflowd reads the objects",

	// Routing.
	"no-default-route":  "the link is no path: nothing says which router leads outside",
	"wrong-link":        "subflows from this address leave by another link with the wrong source, or not at all",
	"rules-overruled":   "the source address does not choose the link",
	"duplicate-rule":    "no harm by itself; a delete of one leaves the other",
	"shadowed-rule":     "the second rule is never asked",
	"local-rule-behind": "source rules would send the host's own traffic out, so there are none",
	"error-default":     "main is not asked first; its specific routes are copied into the path tables",
	"same-address":      "one of the two links is no path for this address",
	"too-many-routes":   "traffic from this link's addresses to the other destinations takes the default route",
	"foreign-rule":      "an old rule keeps leading the traffic of its address",
	"foreign-route":     "the route of another program decides in the path table",
	"table-in-use":      "the route of another program decides in the path table",
	"numbers-in-use":    "subflowd refuses to start",
	"vpn-guard":         "connections use the tunnel alone",
	"vpn-backup":        "the other paths are used only when the tunnel fails",
	"vpn-ignored":       "subflows go beside the tunnel",

	// The path manager.
	"no-slot":           "the address opens no subflows and is not announced",
	"no-fullmesh":       "one subflow for each address instead of one for each pair",
	"foreign-endpoint":  "its subflows leave by whatever link the routes choose, often with the wrong source",
	"endpoint-gone":     "it takes a place in the path manager's table, and every connection uses up an attempt on it",
	"private-signalled": "peers outside this site try an address that they cannot reach, or that is somebody else's there",

	// Programs.
	"daemon-absent":            "nothing makes or keeps source routing and endpoints",
	"config-rejected":          "subflowd does not start with this configuration, and a reload is refused",
	"record-unusable":          "endpoints made before count as foreign",
	"events-lost":              "changes were seen late, by a full read after the loss",
	"networkmanager-endpoints": "it deletes endpoints that it did not make whenever a connection is reapplied",
	"mptcpd-endpoints":         "two programs make endpoints and set limits; which of the two wins depends on the order of events",
	"networkd-rules":           "a reconfigure of any link deletes the source rules of all; subflowd repairs them",

	// Firewalls.
	"firewall-drops":  "further subflows are not established, or MPTCP connections only after a retransmission as plain TCP",
	"firewall-strips": "connections through it fall back to plain TCP",

	// What the counters tell.
	"middlebox-strips":  "connections fall back to plain TCP",
	"middlebox-changes": "a changed connection falls back to plain TCP or is reset",
	"joins-refused":     "these connections stay on the paths that they have",
	"joins-unanswered":  "these connections stay on one path",
	"joins-failed":      "these connections went without that subflow until it was tried again",
	"blackhole":         "for a while all new connections of this host are plain TCP",
}
