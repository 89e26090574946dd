// Package status is the public form of what subflowd knows: the documents that
// its control socket serves and that `subflowctl -o json` prints.
//
// Keys are snake_case, times are RFC 3339 in UTC, durations are numbers of
// seconds in keys that end in _seconds. Lists are never null. The schema number
// rises only when a field changes its meaning or goes; new fields and new codes
// may come at any time, and a reader has to ignore what it does not know.
package status

// Schema is the number that every document carries.
const Schema = 1
