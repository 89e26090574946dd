// Package netstate holds the nouns of subflowd: links, addresses, routes,
// rules, endpoints, limits, connections, the snapshot that holds them, and the
// change that alters them. They are plain comparable values without behaviour
// beyond their keys and their text, which is always ip(8) syntax.
//
// The package is pure: it does no input or output and reads no clock.
package netstate
