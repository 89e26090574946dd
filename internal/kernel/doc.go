// Package kernel reads and writes the host's network state: links, addresses,
// routes, rules, endpoints and limits, always of the network namespace in which
// it was opened. It decides nothing; it turns netlink messages into the nouns of
// netstate and changes into netlink messages.
//
// The files: kernel (the snapshot and its caches), link, addr, route, tables,
// wanted (which tables matter), patch (large ones by their events),
// nexthop, rule, selectors, preferred, outbound and sysctl (what is read),
// change, request and endpoint (what is written), errno (what an error number
// means), watch, watch_mptcp, event and filter (events), owner (which process has
// a socket), namespace, and below them socket and wire.
package kernel
