//go:build !runtimesignals

package run

import "os"

// ignoredAtStart knows nothing without the tag, which needs the linker's flag
// -checklinkname=0; the runtime itself keeps SIGHUP and SIGINT as they were.
func ignoredAtStart() []os.Signal { return ignoredIn(nil) }
