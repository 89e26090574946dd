package inspect

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/subflowd/subflowd/internal/check"
)

// nft reads the rule set in libnftables-json(5). It tells whether it holds rules
// that only iptables can show.
func (g *gatherer) nft() (opaque bool) {
	out, err := run("nft", "-j", "list", "ruleset")
	if err != nil {
		g.cannot("firewall rules of nft", unseenTool("nft", "nftables", err))
		return false
	}
	rules, opaque, err := parseNFT(out)
	if err != nil {
		g.cannot("firewall rules of nft", err.Error())
	}
	for _, r := range rules {
		if text := nftText(r.Family, r.Table, r.Chain, r.Handle); text != "" {
			r.seen.Text = text
		}
		g.facts.Firewall = append(g.facts.Firewall, r.seen)
	}
	return opaque
}

// nftText is a rule in the language of nft(8), which only nft itself writes;
// empty: it is gone.
func nftText(family, table, chain string, handle int) string {
	out, err := run("nft", "-a", "list", "chain", family, table, chain)
	if err != nil {
		return ""
	}
	end := fmt.Sprintf(" # handle %d", handle)
	for line := range strings.Lines(string(out)) {
		if text, ok := strings.CutSuffix(strings.TrimSpace(line), end); ok {
			return "nft list chain " + family + " " + table + " " + chain + ": " + text
		}
	}
	return ""
}

func unseenTool(tool, pkg string, err error) string {
	if errors.Is(err, errMissing) {
		return tool + " is not installed (package " + pkg + ")"
	}
	return err.Error()
}

type nftChain struct {
	Family, Table, Name, Hook string
}

type nftRule struct {
	Family, Table, Chain string
	Handle               int
	Expr                 []map[string]any
	seen                 check.FirewallRule
}

// parseNFT finds the rules that hit Multipath TCP.
func parseNFT(text []byte) (found []*nftRule, opaque bool, err error) {
	var doc struct {
		Nftables []struct {
			Chain *nftChain
			Rule  *nftRule
		}
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, false, fmt.Errorf("read the output of nft: %w", err)
	}
	hooks := map[nftChain]string{}
	for _, o := range doc.Nftables {
		if c := o.Chain; c != nil {
			hooks[nftChain{c.Family, c.Table, c.Name, ""}] = c.Hook
		}
	}
	var rules []*nftRule
	for _, o := range doc.Nftables {
		if o.Rule != nil {
			rules = append(rules, o.Rule)
		}
	}
	drops := droppingChains(rules)
	for _, r := range rules {
		opaque = opaque || strings.Contains(fmt.Sprint(r.Expr), "map[xt:")
		if effect := r.effect(drops); effect != "" {
			r.seen = check.FirewallRule{
				Where:  fmt.Sprintf("nft table %s %s, chain %s, handle %d", r.Family, r.Table, r.Chain, r.Handle),
				Hook:   hooks[nftChain{r.Family, r.Table, r.Chain, ""}],
				Text:   r.text(),
				Delete: fmt.Sprintf("nft delete rule %s %s %s handle %d", r.Family, r.Table, r.Chain, r.Handle),
				Effect: effect,
			}
			found = append(found, r)
		}
	}
	return found, opaque, nil
}

// droppingChains are chains, of tables with their families, that drop whatever
// comes to them, as those do that drop and log.
func droppingChains(rules []*nftRule) map[nftChain]bool {
	drops, spares := map[nftChain]bool{}, map[nftChain]bool{}
	for _, r := range rules {
		c, always, drop := nftChain{r.Family, r.Table, r.Chain, ""}, true, false
		for _, e := range r.Expr {
			for kind := range e {
				switch kind {
				case "drop", "reject":
					drop = true
				case "log", "counter":
				case "accept", "return", "jump", "goto", "vmap", "queue":
					spares[c], always = true, false
				default:
					always = false
				}
			}
		}
		drops[c] = drops[c] || always && drop
	}
	maps.DeleteFunc(drops, func(c nftChain, drop bool) bool { return !drop || spares[c] })
	return drops
}

// effect judges a rule by its statements, and by the chains that it leads to;
// empty: it does MPTCP no harm. Rules that match what has no MPTCP option are not
// meant.
func (r *nftRule) effect(drops map[nftChain]bool) check.Effect {
	var matched check.Effect
	for _, e := range r.Expr {
		for kind, v := range e {
			switch kind {
			case "match":
				if m, ok := v.(map[string]any); ok {
					if eff := matchEffect(m); eff != "" {
						matched = eff
					}
				}
			case "vmap":
				if text := fmt.Sprint(v); tcpOption30(v) && (strings.Contains(text, "drop:") || strings.Contains(text, "reject:")) {
					return check.DropsSome
				}
			case "reset":
				if tcpOption30(v) {
					return check.Strips
				}
			case "synproxy":
				return check.Proxies
			case "drop", "reject":
				return matched
			case "jump", "goto":
				to, _ := v.(map[string]any)
				if name, ok := to["target"].(string); ok && drops[nftChain{r.Family, r.Table, name, ""}] {
					return matched
				}
			}
		}
	}
	return ""
}

// matchEffect is what it means to drop what the match hits; empty: it says
// nothing of MPTCP, or only of packets without it.
func matchEffect(m map[string]any) check.Effect {
	negated := m["op"] == "!=" || m["right"] == false
	if negated || !tcpOption30(m["left"]) {
		return ""
	}
	switch right := m["right"].(type) {
	case bool:
		return check.DropsAll
	case float64:
		return subtypeEffect(fmt.Sprint(right))
	case string:
		return subtypeEffect(right)
	}
	return check.DropsSome
}

// subtypeEffect is by the subtypes of RFC 8684, section 8.
func subtypeEffect(subtype string) check.Effect {
	switch subtype {
	case "0", "mp-capable":
		return check.DropsCapable
	case "1", "mp-join":
		return check.DropsJoins
	}
	return check.DropsSome
}

// tcpOption30 tells whether an expression looks at the MPTCP option, by name or
// by number.
func tcpOption30(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		if o, ok := v["tcp option"].(map[string]any); ok && (o["name"] == "mptcp" || o["base"] == 30.0) {
			return true
		}
		for _, inner := range v {
			if tcpOption30(inner) {
				return true
			}
		}
	case []any:
		for _, inner := range v {
			if tcpOption30(inner) {
				return true
			}
		}
	}
	return false
}

// text is the rule's statements in libnftables-json(5), without counters.
func (r *nftRule) text() string {
	var words []string
	for _, e := range r.Expr {
		if _, counts := e["counter"]; counts {
			continue
		}
		b, err := json.Marshal(e)
		if err == nil {
			words = append(words, string(b))
		}
	}
	return strings.Join(words, " ")
}
