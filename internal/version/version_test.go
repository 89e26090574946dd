package version

import (
	"runtime/debug"
	"testing"
)

func TestStampWins(t *testing.T) {
	defer func(v, c string) { version, commit = v, c }(version, commit)
	version, commit = "v1.2.3", "0123456789abcdef-dirty"
	if got, want := String(), "v1.2.3 (0123456789ab-dirty)"; got != want {
		t.Errorf("want: %s, got: %s", want, got)
	}
}

func TestUnstamped(t *testing.T) {
	if Version() == "" {
		t.Error("Version is empty: --version would print nothing")
	}
	for _, tc := range []struct {
		name            string
		info            debug.BuildInfo
		version, commit string
	}{
		{"go build without git", debug.BuildInfo{}, "devel", ""},
		{"go build", debug.BuildInfo{
			Main:     debug.Module{Version: "(devel)"},
			Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"}},
		}, "devel", "abc-dirty"},
		{"go install module@v0.3.0", debug.BuildInfo{Main: debug.Module{Version: "v0.3.0"}}, "v0.3.0", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := moduleVersion(&tc.info); got != tc.version {
				t.Errorf("version: want: %q, got: %q", tc.version, got)
			}
			if got := vcsCommit(&tc.info); got != tc.commit {
				t.Errorf("commit: want: %q, got: %q", tc.commit, got)
			}
		})
	}
}
