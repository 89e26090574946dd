//go:build runtimesignals

package run

import (
	"os"
	_ "unsafe" // for go:linkname
)

// The runtime puts its handlers in place of what the program found, before any
// code of ours runs, and keeps what it found here. Nothing else knows it.
//
//go:linkname found runtime.fwdSig
var found [65]uintptr

func ignoredAtStart() []os.Signal { return ignoredIn(found[:]) }
