package inspect

import (
	"bytes"
	"errors"
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
		if effect := iptablesEffect(words); effect != "" {
			found = append(found, check.FirewallRule{
				Where: tool + " table " + table + ", chain " + words[0], Hook: builtinHook(words[0]),
				Text:   tool + "-save -t " + table + ": " + line,
				Delete: tool + " -t " + table + " -D " + rule, Effect: effect,
			})
		}
	}
	return found
}

// iptablesEffect judges the words of a rule; see iptables-extensions(8). Matches
// of raw bytes (u32, bpf) are not understood.
func iptablesEffect(words []string) check.Effect {
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
	switch target {
	case "TCPOPTSTRIP":
		if list := strings.Split(options, ","); slices.Contains(list, "30") || slices.Contains(list, "mptcp") {
			return check.Strips
		}
	case "SYNPROXY":
		return check.Proxies
	case "DROP", "REJECT", "TARPIT":
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
