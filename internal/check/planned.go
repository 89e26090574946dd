package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/subflowd/subflowd/internal/netstate"
	"github.com/subflowd/subflowd/internal/plan"
)

// planned takes over what the daemon says; where none runs, what plan and diff
// find.
func (l *looker) planned() {
	found := slices.Concat(l.Plan.Findings, l.Changes.Findings)
	if l.Daemon != nil {
		found = l.switches(l.Daemon.Conditions)
	} else {
		for _, c := range l.Conflicts {
			l.find(plan.Error, "numbers-in-use", "configuration", c, "choose others in the configuration, then: subflowd --check-config", "ip rule; ip route show table all")
		}
	}
	for _, f := range found {
		switch {
		case f.Code == "foreign-endpoint" && f.Severity == plan.Info:
			continue // who made an endpoint that does its work is no fault
		case f.Code == "mptcp-absent" && l.HiddenPathManager:
			continue
		}
		out := Finding{Finding: f}
		if explain, ok := details[f.Code]; ok {
			evidence, remedy := explain(l, f)
			out.Evidence, out.Remedy = evidence, cmp.Or(remedy, f.Remedy)
		}
		l.report(out)
	}
}

// switches puts what was read just now in the place of what the daemon says of
// the kernel's switches: to turn one sends no event, and the daemon may see it as
// late as at its next resync.
func (l *looker) switches(conditions []plan.Finding) []plan.Finding {
	if l.HiddenPathManager {
		return conditions
	}
	isSwitch := func(f plan.Finding) bool {
		return slices.Contains([]string{"mptcp-absent", "mptcp-disabled", "mptcp-userspace-pm"}, f.Code)
	}
	out := slices.DeleteFunc(slices.Clone(conditions), isSwitch)
	for _, f := range l.Plan.Findings {
		if isSwitch(f) {
			out = append(out, f)
		}
	}
	return out
}

// details say where a finding of plan or diff can be seen, and which command
// helps, where the finding itself names none.
var details = map[string]func(*looker, plan.Finding) (evidence []string, remedy string){
	"mptcp-absent": func(*looker, plan.Finding) ([]string, string) {
		return []string{"generic netlink has no family mptcp_pm"}, ""
	},
	"mptcp-disabled":     func(*looker, plan.Finding) ([]string, string) { return []string{"net.mptcp.enabled = 0"}, "" },
	"mptcp-userspace-pm": (*looker).userspace,
	"limits-capped":      (*looker).capped,
	"local-rule-behind":  (*looker).localBehind,
	"error-default":      (*looker).errorDefault,
	"same-address":       (*looker).sameAddress,
	"too-many-routes":    (*looker).manyRoutes,
	"table-in-use":       (*looker).tableInUse,
	"foreign-rule":       (*looker).rulesOf,
	"foreign-route":      (*looker).tableShown,
	"no-slot":            (*looker).slots,
	"no-fullmesh":        (*looker).linkExplained,
	"foreign-endpoint":   (*looker).endpointShown,
	"lingering":          (*looker).endpointShown,
	"vpn-guard":          (*looker).tunnel,
	"vpn-backup":         (*looker).tunnel,
	"vpn-ignored":        (*looker).tunnel,
}

func (l *looker) userspace(plan.Finding) ([]string, string) {
	seen := "net.mptcp.pm_type = " + l.Sysctls["net/mptcp/pm_type"]
	if name := l.Sysctls["net/mptcp/path_manager"]; name != "" {
		seen += ", net.mptcp.path_manager = " + name
	}
	remedy := ""
	for _, p := range l.Programs {
		if p.Name == mptcpd {
			seen += fmt.Sprintf("; mptcpd runs (process %d)", p.PID)
			remedy = "systemctl disable --now mptcp.service; sysctl -w net.mptcp.pm_type=0"
		}
	}
	return []string{seen}, remedy
}

func (l *looker) capped(plan.Finding) ([]string, string) {
	return []string{fmt.Sprintf("the kernel refuses limits above %d", l.Snapshot.MPTCP.HighestLimit())},
		fmt.Sprintf("limits of at most %d in the configuration, then: subflowctl reload", l.Snapshot.MPTCP.HighestLimit())
}

func (l *looker) localBehind(f plan.Finding) ([]string, string) {
	for _, family := range netstate.Families {
		if family.String() == f.Object {
			return l.ruleLines(func(r netstate.Rule) bool { return r.Family == family && r.Table == netstate.TableLocal }),
				"ip " + family.Flag() + " rule add priority 0 lookup local"
		}
	}
	return nil, ""
}

func (l *looker) errorDefault(plan.Finding) ([]string, string) {
	return l.routeLines(func(r netstate.Route) bool { return r.Table == netstate.TableMain && r.Default() && r.Type.Error() })
}

func (l *looker) sameAddress(f plan.Finding) (evidence []string, remedy string) {
	for _, a := range l.Snapshot.Addrs {
		if a.IP().String() == f.Object {
			evidence = append(evidence, "ip address: "+a.Text(l.names))
			remedy = "ip address del " + a.Local.String() + " dev " + l.names.Name(a.Link)
		}
	}
	return evidence, remedy + " (or on the other link)"
}

func (l *looker) manyRoutes(f plan.Finding) ([]string, string) {
	n := 0
	for _, r := range l.Snapshot.Routes {
		if r.Table == netstate.TableMain && l.names.Name(r.Link) == f.Object && r.Gateway.IsValid() {
			n++
		}
	}
	return []string{fmt.Sprintf("ip route show dev %s: %d with a gateway", f.Object, n)}, ""
}

// tableInUse lists what lies in the path table of a link and is not ours.
func (l *looker) tableInUse(f plan.Finding) ([]string, string) {
	return l.routeLines(func(r netstate.Route) bool {
		link, ok := l.Snapshot.LinkByIndex(int(r.Table) - int(l.Config.Routing.TableBase))
		return ok && link.Name == f.Object && !netstate.OwnsRoute(l.Config.Routing.Protocol, r)
	})
}

func (l *looker) rulesOf(f plan.Finding) ([]string, string) {
	return l.ruleLines(func(r netstate.Rule) bool {
		return r.From.IsValid() && r.From.Addr().String() == f.Object && r.Priority == l.Config.Routing.Priority
	}), ""
}

func (l *looker) tableShown(f plan.Finding) ([]string, string) {
	return []string{"ip route show " + f.Object}, ""
}

func (l *looker) slots(plan.Finding) ([]string, string) {
	return []string{fmt.Sprintf("ip mptcp endpoint: %d of %d", len(l.Snapshot.Endpoints), l.Snapshot.MPTCP.Slots())},
		"ip mptcp endpoint delete id ID (of one that nothing needs)"
}

func (l *looker) linkExplained(f plan.Finding) ([]string, string) {
	return []string{"subflowctl explain " + f.Object}, ""
}

func (l *looker) endpointShown(f plan.Finding) ([]string, string) {
	for _, e := range l.Snapshot.Endpoints {
		if e.Addr.String() != f.Object {
			continue
		}
		remedy := ""
		if f.Code == "foreign-endpoint" {
			remedy = l.replace(e)
		}
		return []string{"ip mptcp endpoint: " + e.Text(l.names)}, remedy
	}
	return nil, ""
}

// tunnel shows by which link unbound traffic leaves.
func (l *looker) tunnel(f plan.Finding) (evidence []string, remedy string) {
	for _, family := range netstate.Families {
		for _, link := range l.Snapshot.Outbound[family] {
			if s := family.String() + " traffic to anywhere leaves by " + f.Object; l.names.Name(link) == f.Object && !slices.Contains(evidence, s) {
				evidence = append(evidence, s)
			}
		}
	}
	return evidence, ""
}

func (l *looker) ruleLines(keep func(netstate.Rule) bool) (lines []string) {
	for _, r := range l.Snapshot.Rules {
		if keep(r) {
			lines = append(lines, "ip "+r.Family.Flag()+" rule: "+r.Text())
		}
	}
	return lines
}

// routeLines shows the routes, at most three, and how to delete the first.
func (l *looker) routeLines(keep func(netstate.Route) bool) (lines []string, remedy string) {
	for _, r := range l.Snapshot.Routes {
		if !keep(r) || len(lines) == 3 {
			continue
		}
		text := r.Text(l.names)
		if remedy == "" {
			remedy = "ip " + r.Family.Flag() + " route del " + text
		}
		lines = append(lines, "ip "+r.Family.Flag()+" route: "+strings.TrimSpace(text))
	}
	return lines, remedy
}
