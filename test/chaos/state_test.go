package chaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/subflowd/subflowd/test/lab"
)

// The state of a host as `ip -j` prints it; -N gives numbers where names would depend on files.
type (
	ipLink struct {
		Index     int      `json:"ifindex"`
		Name      string   `json:"ifname"`
		Flags     []string `json:"flags"`
		OperState string   `json:"operstate"`
		Master    string   `json:"master"`
		Info      struct {
			Kind string `json:"info_kind"`
		} `json:"linkinfo"`
		Addrs []ipAddr `json:"addr_info"`
	}
	ipAddr struct {
		Family     string     `json:"family"`
		Local      netip.Addr `json:"local"`
		Bits       int        `json:"prefixlen"`
		Scope      string     `json:"scope"`
		Tentative  bool       `json:"tentative"`
		DADFailed  bool       `json:"dadfailed"`
		Deprecated bool       `json:"deprecated"`
	}
	ipHop struct {
		Gateway netip.Addr `json:"gateway"`
		Via     struct {
			Host netip.Addr `json:"host"`
		} `json:"via"`
		Dev string `json:"dev"`
	}
	ipRoute struct {
		ipHop
		Type     string  `json:"type"`
		Dst      string  `json:"dst"`
		Table    string  `json:"table"`
		Protocol string  `json:"protocol"`
		Metric   uint32  `json:"metric"`
		Expires  int     `json:"expires"` // in seconds; negative: over, and not yet collected
		Pref     string  `json:"pref"`
		Hops     []ipHop `json:"nexthops"`

		prefix netip.Prefix
	}
	ipRule struct {
		Priority int             `json:"priority"`
		Src      string          `json:"src"`
		SrcLen   *int            `json:"srclen"`
		Dst      string          `json:"dst"`
		DstLen   *int            `json:"dstlen"`
		Mark     string          `json:"fwmark"`
		Not      json.RawMessage `json:"not"` // null where the rule is for what does not match
		Table    string          `json:"table"`
		Action   string          `json:"action"`
		Suppress *int            `json:"suppress_prefixlen"`
		Protocol string          `json:"protocol"`
	}
	ipEndpoint struct {
		Address  string `json:"address"`
		ID       int    `json:"id"`
		Dev      string `json:"dev"`
		Signal   bool   `json:"signal"`
		Subflow  bool   `json:"subflow"`
		Backup   bool   `json:"backup"`
		Fullmesh bool   `json:"fullmesh"`
		Implicit bool   `json:"implicit"`
	}
)

// state is all that the oracle looks at.
type state struct {
	links     []ipLink
	rules     map[string][]ipRule // by "-4" and "-6"
	routes    map[string][]ipRoute
	endpoints []ipEndpoint
	limits    string
}

const (
	tableMain = "254"
	typeThrow = "9"
)

// pathTable is the number of a link's path table with the default configuration.
func pathTable(index int) int { return 100000 + index }

// query decodes what `ip -j` prints. ip prints nothing, or an empty object, where there is nothing.
func query(h *lab.Host, v any, command string) {
	h.Lab.T.Helper()
	out, err := h.Try("ip", strings.Fields("-j "+command)...)
	if err == nil && strings.TrimSpace(out) != "" {
		err = json.Unmarshal([]byte(out), v)
	}
	if err != nil {
		h.Lab.T.Errorf("ip -j %s: %v", command, err)
	}
}

func links(h *lab.Host) (l []ipLink) {
	query(h, &l, "link show")
	return l
}

func endpointsOf(h *lab.Host) (e []ipEndpoint) {
	query(h, &e, "mptcp endpoint")
	return e
}

// endpointLine is the endpoint of an address without its id.
func endpointLine(h *lab.Host, addr string) string {
	for _, e := range endpointsOf(h) {
		if e.Address == addr {
			return e.String()
		}
	}
	return ""
}

func (e ipEndpoint) String() string {
	s := e.Address
	for _, f := range []struct {
		set  bool
		word string
	}{{e.Signal, " signal"}, {e.Subflow, " subflow"}, {e.Backup, " backup"}, {e.Fullmesh, " fullmesh"}, {e.Dev != "", " dev " + e.Dev}} {
		if f.set {
			s += f.word
		}
	}
	return s
}

// read asks the kernel.
func read(h *lab.Host) *state {
	s := &state{rules: map[string][]ipRule{}, routes: map[string][]ipRoute{}}
	query(h, &s.links, "-d addr show")
	for _, f := range []string{"-4", "-6"} {
		var rules []ipRule
		query(h, &rules, f+" rule show")
		s.rules[f] = rules
		var routes []ipRoute
		query(h, &routes, "-N "+f+" route show table all")
		for i := range routes {
			routes[i].normal(f)
		}
		s.routes[f] = slices.DeleteFunc(routes, func(r ipRoute) bool { return r.Expires < 0 })
	}
	s.endpoints = slices.DeleteFunc(endpointsOf(h), func(e ipEndpoint) bool { return e.Implicit })
	s.limits = h.Limits()
	return s
}

func (r *ipRoute) normal(family string) {
	zero := map[string]string{"-4": "0.0.0.0/0", "-6": "::/0"}[family]
	r.prefix = netip.MustParsePrefix(zero)
	if r.Dst != "default" {
		p, err := netip.ParsePrefix(r.Dst)
		if err != nil {
			a := netip.MustParseAddr(r.Dst)
			p = netip.PrefixFrom(a, a.BitLen())
		}
		r.prefix = p
	}
	if r.Table == "" {
		r.Table = tableMain
	}
	if r.Type == "" {
		r.Type = "1"
	}
	if r.Protocol == "" {
		r.Protocol = "3"
	}
	if len(r.Hops) == 0 {
		r.Hops = []ipHop{r.ipHop}
	}
	for i := range r.Hops {
		if h := &r.Hops[i]; h.Via.Host.IsValid() {
			h.Gateway = h.Via.Host
		}
	}
}

func (r *ipRoute) ours() bool      { return r.Protocol == "77" && r.Table != tableMain }
func (r *ipRoute) isDefault() bool { return r.prefix.Bits() == 0 }

// text is the rule without its protocol.
func (r *ipRule) text() string {
	s := fmt.Sprintf("%d: from %s", r.Priority, r.Src)
	if r.SrcLen != nil {
		s += "/" + strconv.Itoa(*r.SrcLen)
	}
	if r.Dst != "" {
		s += " to " + r.Dst
		if r.DstLen != nil {
			s += "/" + strconv.Itoa(*r.DstLen)
		}
	}
	if r.Mark != "" {
		s += " fwmark " + r.Mark
	}
	if r.Action != "" {
		s += " " + r.Action
	} else {
		s += " lookup " + r.Table
	}
	if r.Suppress != nil {
		s += " suppress_prefixlength " + strconv.Itoa(*r.Suppress)
	}
	return s
}

func (r *ipRule) ours() bool { return r.Protocol == "77" || r.Protocol == "78" }

// covers tells whether a selector of the rule, "all" or a prefix, holds an address.
func covers(net string, bits *int, a netip.Addr) bool {
	if net == "" || net == "all" {
		return true
	}
	n, err := netip.ParseAddr(net)
	if err != nil {
		return false
	}
	b := n.BitLen()
	if bits != nil {
		b = *bits
	}
	return netip.PrefixFrom(n, b).Contains(a)
}

func familyOf(a netip.Addr) string {
	if a.Is6() {
		return "-6"
	}
	return "-4"
}

// lookups asks `ip route get` for many pairs of destination and source at once; what is missing in the answer was
// refused.
func lookups(h *lab.Host, family string, pairs [][2]netip.Addr) map[[2]netip.Addr]string {
	found := make(map[[2]netip.Addr]string, len(pairs))
	var b strings.Builder
	for _, p := range pairs {
		fmt.Fprintf(&b, "route get %s from %s\n", p[0], p[1])
	}
	cmd := h.Command("ip", family, "-j", "-force", "-batch", "-")
	cmd.Stdin = strings.NewReader(b.String())
	var out []byte
	h.Do(func() {
		var err error
		out, err = cmd.Output()
		var refused *exec.ExitError
		if err != nil && !errors.As(err, &refused) {
			h.Lab.T.Errorf("ip route get: %v", err)
		}
	})
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var answers []struct {
			ipHop
			Type string     `json:"type"`
			Dst  netip.Addr `json:"dst"`
			From netip.Addr `json:"from"`
		}
		if dec.Decode(&answers) != nil {
			return found
		}
		for _, a := range answers {
			text := "dev " + a.Dev
			if a.Via.Host.IsValid() {
				a.Gateway = a.Via.Host
			}
			if a.Gateway.IsValid() {
				text += " via " + a.Gateway.String()
			}
			if a.Type != "" && a.Type != "unicast" {
				text = refusedText
			}
			found[[2]netip.Addr{a.Dst, a.From}] = text
		}
	}
}

const refusedText = "refused"
