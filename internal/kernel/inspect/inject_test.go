package inspect

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/subflowd/subflowd/internal/plan"
)

// endpoint puts another endpoint in the place of that of an address.
func (w *world) endpoint(addr, words string) {
	w.T.Helper()
	var list []struct {
		Address string
		ID      int
	}
	w.Client.JSON(&list, "mptcp endpoint show")
	for _, e := range list {
		if e.Address == addr {
			w.Client.IP(fmt.Sprintf("mptcp endpoint delete id %d", e.ID))
		}
	}
	w.Client.IP("mptcp endpoint add " + words)
}

// routes adds or deletes n routes by eth1; a second call goes on with others.
func routes(verb string, n int) func(*world) {
	return func(w *world) {
		var all []string
		for i := range n {
			if verb == "add" && n == 1 {
				i = 64
			}
			all = append(all, fmt.Sprintf("route %s 10.200.%d.0/24 via 10.1.2.1 dev eth1", verb, i))
		}
		w.Client.IP(all...)
	}
}

// inTable runs an ip command for the path table of eth1.
func inTable(format string) func(*world) {
	return func(w *world) { w.Client.IP(fmt.Sprintf(format, w.table("eth1"))) }
}

// nftRuleCase is a rule in a base chain of its own; near it a table that has
// other rules about TCP options.
func nftRuleCase(code, name string, severity plan.Severity, hook, rule string) situation {
	return situation{
		code: code, name: name, severity: severity,
		near: func(w *world) {
			w.Client.NFT("add table inet test", "add chain inet test x { type filter hook "+hook+" priority 0; }",
				"add rule inet test x tcp option sack-perm exists drop", "add rule inet test x tcp option mptcp missing drop",
				"add rule inet test x tcp option mptcp exists accept", "add rule inet test x ct state invalid drop")
		},
		inject: func(w *world) { w.Client.NFT("add rule inet test x " + rule) },
		undo:   func(w *world) { w.Client.NFT("delete table inet test") },
	}
}

// iptablesCase is a rule of iptables; near it one that does no harm. It is taken
// back by the command that the finding prints.
func iptablesCase(code, tool, table, rule, harmless string) situation {
	run := func(verb, rule string) func(*world) {
		return func(w *world) { w.Client.Run(tool, append([]string{"-t", table, verb}, strings.Fields(rule)...)...) }
	}
	return situation{
		code: code, name: " by " + tool + ", " + table, severity: plan.Error,
		near: run("-A", harmless), inject: run("-A", rule),
		undo: func(w *world) {
			f, _ := pick(w.look(), code)
			words := strings.Fields(f.Remedy)
			w.Client.Run(words[0], words[1:]...)
			run("-D", harmless)(w)
		},
	}
}

// writeFile makes a file with its directories.
func writeFile(t testing.TB, file, text string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(file), 0o755)
	if err == nil {
		err = os.WriteFile(file, []byte(text), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
