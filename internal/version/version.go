// Package version says which build a program is.
package version

import (
	"runtime/debug"
	"strings"
)

// Stamped by `make build` with -ldflags -X; empty in a plain go build or go install.
var (
	version string
	commit  string
)

// Version is the release, as git describe names it: "v0.3.0", "v0.3.0-5-g1a2b3c4" or a bare commit.
// Without a stamp it is the module version that the go command recorded, and "devel" where there is none.
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return moduleVersion(info)
	}
	return "devel"
}

// Commit is the full commit hash, with "-dirty" behind it when the tree had changes. It is empty where nobody recorded it.
func Commit() string {
	if commit != "" {
		return commit
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return vcsCommit(info)
	}
	return ""
}

// String is the line behind --version: "v0.3.0 (1a2b3c4d5e6f)".
func String() string { return Text(Version(), Commit()) }

// Text is a version with the first digits of its commit, "" being none, and "-dirty" where that says so.
func Text(version, commit string) string {
	if commit == "" {
		return version
	}
	hash, dirty, _ := strings.Cut(commit, "-")
	if len(hash) > 12 {
		hash = hash[:12]
	}
	if dirty != "" {
		hash += "-" + dirty
	}
	return version + " (" + hash + ")"
}

func moduleVersion(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	return "devel"
}

func vcsCommit(info *debug.BuildInfo) string {
	hash, dirty := "", ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			hash = s.Value
		case "vcs.modified":
			if s.Value == "true" {
				dirty = "-dirty"
			}
		}
	}
	if hash == "" {
		return ""
	}
	return hash + dirty
}
