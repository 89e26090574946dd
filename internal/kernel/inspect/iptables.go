package inspect

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/subflowd/subflowd/internal/check"
)

// legacyTables lists the tables of old iptables in the calling thread's
// namespace. Only root may read it.
var legacyTables = []string{"/proc/thread-self/net/ip_tables_names", "/proc/thread-self/net/ip6_tables_names"}

// iptables reads the rules of both kinds for both families: those that lie in
// nftables' tables, which nft shows in part (opaque), and those of the old
// kernel interface.
func (g *gatherer) iptables(opaque bool) {
	legacy := legacyInUse()
	for _, tool := range []string{"iptables", "ip6tables"} {
		var seen []string
		for _, variant := range []string{tool, tool + "-legacy"} {
			out, err := run(variant + "-save")
			if err == nil {
				for _, r := range parseIPTables(variant, out) {
					if !slices.Contains(seen, r.Text) {
						seen = append(seen, r.Text)
						g.facts.Firewall = append(g.facts.Firewall, r)
					}
				}
				continue
			}
			// Where no rule needs the program, it is not missed.
			if !errors.Is(err, errMissing) || variant == tool && (opaque || legacy) {
				g.cannot("firewall rules of iptables", unseenTool(variant+"-save", "iptables", err))
			}
		}
	}
}

func legacyInUse() bool {
	for _, f := range legacyTables {
		if b, err := os.ReadFile(f); err == nil && len(bytes.TrimSpace(b)) > 0 {
			return true
		}
	}
	return false
}

// parseIPTables finds the rules in the output of iptables-save(8) that hit
// Multipath TCP.
func parseIPTables(tool string, text []byte) []check.FirewallRule {
	var found []check.FirewallRule
	drops := droppingTargets(text)
	table := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "*"); ok {
			table = name
			continue
		}
		rule, ok := strings.CutPrefix(line, "-A ")
		words := strings.Fields(rule)
		if !ok || len(words) == 0 {
			continue
		}
		if effect := iptablesEffect(words, func(target string) bool { return drops[table+" "+target] }); effect != "" {
			found = append(found, check.FirewallRule{
				Where: tool + " table " + table + ", chain " + words[0], Hook: builtinHook(words[0]),
				Text:   tool + "-save -t " + table + ": " + line,
				Delete: tool + " -t " + table + " -D " + rule, Effect: effect,
			})
		}
	}
	return found
}

// droppingTargets are the chains, behind their table and a blank, that drop
// whatever comes to them, as those do that log and drop.
func droppingTargets(text []byte) map[string]bool {
	drops, spares := map[string]bool{}, map[string]bool{}
	table := ""
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0][0] == '*':
			table = words[0][1:]
		case words[0] == "-A" && len(words) > 3:
			chain := table + " " + words[1]
			target := slices.IndexFunc(words, func(w string) bool { return w == "-j" || w == "-g" }) + 1
			switch {
			case target == 0 || target == len(words):
			case slices.Contains(dropTargets, words[target]):
				drops[chain] = drops[chain] || target == 3
			case words[target] != "LOG" && words[target] != "NFLOG":
				spares[chain] = true
			}
		}
	}
	maps.DeleteFunc(drops, func(chain string, drop bool) bool { return !drop || spares[chain] })
	return drops
}

var dropTargets = []string{"DROP", "REJECT", "TARPIT"}

// iptablesEffect judges the words of a rule; see iptables-extensions(8). drops
// tells of a chain whether all that comes to it is dropped. Matches
// of raw bytes (u32, bpf) are not understood.
func iptablesEffect(words []string, drops func(chain string) bool) check.Effect {
	matches, target, options := false, "", ""
	for i, w := range words[:len(words)-1] {
		next := words[i+1]
		switch w {
		case "--tcp-option":
			matches = next == "30" && words[i-1] != "!"
		case "-j", "-g":
			target = next
		case "--strip-options":
			options = next
		}
	}
	switch {
	case target == "TCPOPTSTRIP":
		if list := strings.Split(options, ","); slices.Contains(list, "30") || slices.Contains(list, "mptcp") {
			return check.Strips
		}
	case target == "SYNPROXY":
		return check.Proxies
	case slices.Contains(dropTargets, target) || drops(target):
		if matches {
			return check.DropsAll
		}
	}
	return ""
}

// builtinHook is the hook of a chain that no other calls; empty for others.
func builtinHook(chain string) string {
	switch chain {
	case "INPUT", "OUTPUT", "FORWARD", "PREROUTING", "POSTROUTING":
		return strings.ToLower(chain)
	}
	return ""
}
