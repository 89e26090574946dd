package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"regexp"
	"slices"
	"strings"
)

// maxLines is how long a source file may grow before it has to be two.
const maxLines = 400

var (
	pure = []string{"internal/netstate", "internal/health", "internal/plan", "internal/diff", "internal/check"}

	// What a pure package may import: nothing here reads a clock, a file, a socket or the environment, or writes anywhere.
	pureImports = []string{
		"bytes", "cmp", "encoding/binary", "encoding/hex", "errors", "fmt", "hash/fnv", "iter", "maps", "math", "math/bits",
		"net/netip", "path", "regexp", "slices", "sort", "strconv", "strings", "time", "unicode", "unicode/utf8",
		Module + "/internal/netstate", Module + "/internal/health", Module + "/internal/plan", Module + "/internal/diff",
	}
	clock = []string{"After", "AfterFunc", "Local", "LoadLocation", "NewTicker", "NewTimer", "Now", "Since", "Sleep", "Tick", "Until"}
	// fmt's Print functions write, its Scan functions read; the F variants need a writer that the caller has.
	terminal = []string{"Print", "Printf", "Println", "Scan", "Scanf", "Scanln"}

	netlinkLibraries = []string{
		"github.com/vishvananda/netlink", "github.com/vishvananda/netns", "github.com/mdlayher/netlink", "github.com/mdlayher/genetlink",
		"github.com/mdlayher/socket", "github.com/jsimonetti/rtnetlink", "github.com/florianl/go-diag",
	}
	netlinkName = regexp.MustCompile(`^(AF_NETLINK|NETLINK_|RTM_|RTNLGRP_|RTMGRP_|NLM_F_|SockaddrNetlink|NetlinkRIB|ParseNetlink)`)

	testLibraries = []string{"pgregory.net/rapid", "github.com/google/go-cmp", "github.com/rogpeppe/go-internal", "go.uber.org/goleak", "github.com/prometheus", "testing"}

	generated = regexp.MustCompile(`^// Code generated .* DO NOT EDIT\.$`)

	// A path of the machine that a file was written on. Put together here, or this file would be its own finding.
	machinePath = regexp.MustCompile(`(^|[^\w.~$}-])/(` + "work|root" + `)/`)
)

var rules = []rule{
	{
		name: "pure", why: "netstate, health, plan, diff and check decide from their arguments alone, so that every decision can be replayed in a table test",
		check: func(f *file) []string {
			if !f.under(pure...) {
				return nil
			}
			var found []string
			for _, i := range f.imports {
				settings := i == Module+"/internal/config" && !f.under("internal/netstate")
				if !slices.Contains(pureImports, i) && !settings {
					found = append(found, "imports "+i)
				}
			}
			return append(found, f.using(func(pkg, name string) bool {
				return pkg == "time" && slices.Contains(clock, name) || pkg == "fmt" && slices.Contains(terminal, name)
			})...)
		},
	},
	{
		name: "netlink", why: "only internal/kernel and pkg/mptcp speak to the kernel, so that its traps are met in one place",
		check: func(f *file) []string {
			if f.under("internal/kernel", "pkg/mptcp") {
				return nil
			}
			return f.using(func(pkg, name string) bool {
				return (pkg == "golang.org/x/sys/unix" || pkg == "syscall") && netlinkName.MatchString(name)
			})
		},
	},
	{
		name: "netlink-library", why: "what the library gets wrong is worked around in internal/kernel and pkg/mptcp alone; tests below test/ judge with it", tests: true,
		check: func(f *file) []string {
			if f.under("internal/kernel", "pkg/mptcp", "test") {
				return nil
			}
			return f.importing(netlinkLibraries...)
		},
	},
	{
		name: "kernel-reconcile", why: "the loop sees the kernel through the interface that it declares, and cmd joins them, so that a fake can stand in",
		check: func(f *file) []string {
			switch {
			case f.under("internal/kernel"):
				return f.importing(Module + "/internal/reconcile")
			case f.under("internal/reconcile"):
				return f.importing(Module + "/internal/kernel")
			}
			return nil
		},
	},
	{
		name: "metrics", why: "a scrape shows what the loop has published and what pkg/mptcp reads, and can change nothing",
		check: func(f *file) []string {
			if !f.under("internal/metrics") {
				return nil
			}
			return f.importing(Module+"/internal/kernel", Module+"/internal/control", Module+"/internal/diff", Module+"/internal/record")
		},
	},
	{
		name: "observe", why: "what people look at comes from the kernel, the same with the daemon and without, and nothing is decided there",
		check: func(f *file) []string {
			if !f.under("internal/observe") {
				return nil
			}
			return f.importing(Module+"/internal/control", Module+"/internal/reconcile", Module+"/internal/plan", Module+"/internal/diff", Module+"/internal/record")
		},
	},
	{
		name: "public", why: "other projects import pkg/, and what is internal would change under them", tests: true,
		check: func(f *file) []string {
			if !f.under("pkg") {
				return nil
			}
			return f.importing(Module+"/internal", Module+"/cmd")
		},
	},
	{
		name: "status", why: "whoever reads the status document gets no dependency with it",
		check: func(f *file) []string {
			if !f.under("pkg/status") {
				return nil
			}
			var found []string
			for _, i := range f.imports {
				if !isStandard(i) {
					found = append(found, "imports "+i)
				}
			}
			return found
		},
	},
	{
		name: "client", why: "the daemon runs with a capability and carries no command-line or terminal framework",
		check: func(f *file) []string {
			if f.under("cmd/subflowctl", "internal/cli") {
				return nil
			}
			return f.importing("github.com/spf13/cobra", "github.com/spf13/pflag", "charm.land")
		},
	},
	{
		name: "zap", why: "a library leaves the choice of a logger to its user",
		check: func(f *file) []string {
			if !f.under("pkg") {
				return nil
			}
			return f.importing("go.uber.org/zap")
		},
	},
	{
		name: "test-modules", why: "what only tests need stays out of the binaries",
		check: func(f *file) []string { return f.importing(testLibraries...) },
	},
	{
		name: "length", why: fmt.Sprintf("a file of more than %d lines holds two subjects", maxLines),
		check: func(f *file) []string {
			if f.lines <= maxLines || isGenerated(f.ast) {
				return nil
			}
			return []string{fmt.Sprintf("has %d lines", f.lines)}
		},
	},
}

func isGenerated(tree *ast.File) bool {
	for _, group := range tree.Comments {
		if group.Pos() > tree.Package {
			return false
		}
		for _, c := range group.List {
			if generated.MatchString(c.Text) {
				return true
			}
		}
	}
	return false
}

// checkText looks at any file, source or not, line by line.
func checkText(p string, text []byte) []string {
	if bytes.IndexByte(text, 0) >= 0 {
		return nil
	}
	var findings []string
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		if m := machinePath.FindString(line); m != "" {
			findings = append(findings, finding(fmt.Sprintf("%s:%d", p, number), "mentions a machine path: "+strings.TrimSpace(line),
				"machine-path", "what is written must hold on every machine"))
		}
	}
	return findings
}
