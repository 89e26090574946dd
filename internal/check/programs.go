package check

import (
	"fmt"
	"slices"
	"time"

	"github.com/subflowd/subflowd/internal/plan"
)

// Program is a running program that meddles with what subflowd keeps.
type Program struct {
	Name string // of the process: "NetworkManager"
	PID  int
}

// daemon looks at subflowd itself.
func (l *looker) daemon() {
	if l.ConfigError != "" {
		l.find(plan.Error, "config-rejected", "configuration", l.ConfigError, "subflowd --check-config")
	}
	if l.HiddenPathManager && l.Sysctls["net/mptcp/enabled"] == "0" {
		l.find(plan.Error, "mptcp-disabled", "kernel", "has Multipath TCP switched off; connections use one path", "sysctl -w net.mptcp.enabled=1", "net.mptcp.enabled = 0")
	}
	if l.RecordError != "" {
		l.find(plan.Warning, "record-unusable", "state record", l.RecordError, "")
	}
	if l.Daemon == nil {
		l.absent()
		return
	}
	if n := l.Daemon.Overflows; n > 0 && l.Daemon.SinceOverflow < recent {
		l.find(plan.Info, "events-lost", "kernel", fmt.Sprintf("sent more notifications than could be taken, %d times, the last %s ago", n, l.Daemon.SinceOverflow.Round(time.Second)),
			"subflowctl -o json status (counters.overflows; a fault only where it grows for long)", fmt.Sprintf("overflows %d", n))
	}
}

// recent is how long a loss that was made up for is worth a word.
const recent = time.Hour

// absent reports that no daemon runs, where there is something for it to do. One
// that runs and does not answer is no such case.
func (l *looker) absent() {
	changes := len(l.Changes.Up) + len(l.Changes.Down)
	if l.NoPolicyRouting || changes == 0 || l.Runs(Subflowd) {
		return
	}
	first := l.Changes.Down
	if len(l.Changes.Up) > 0 {
		first = l.Changes.Up
	}
	text := "does not run here, and 1 change would be needed"
	if changes > 1 {
		text = fmt.Sprintf("does not run here, and %d changes would be needed", changes)
	}
	l.find(plan.Warning, "daemon-absent", "subflowd", text, "systemctl enable --now subflowd", "subflowctl plan: "+first[0].Text(l.names))
}

// Runs tells whether a program of that name runs in the network namespace.
func (f *Facts) Runs(name string) bool {
	return slices.ContainsFunc(f.Programs, func(p Program) bool { return p.Name == name })
}

// Names of processes, as the kernel cuts them to 15 characters.
const (
	NetworkManager = "NetworkManager"
	Networkd       = "systemd-network"
	Subflowd       = "subflowd"
	mptcpd         = "mptcpd"
)

// Watched are the names of the processes to look for.
var Watched = []string{NetworkManager, Networkd, Subflowd, mptcpd}

func (l *looker) programs() {
	for _, p := range l.Programs {
		seen := fmt.Sprintf("process %d, %s", p.PID, p.Name)
		switch {
		case p.Name == NetworkManager && !l.NetworkManagerOff:
			l.find(plan.Warning, "networkmanager-endpoints", NetworkManager, "makes endpoints of its own by default",
				`printf '[connection-90-subflowd]\nconnection.mptcp-flags=1\n' >/etc/NetworkManager/conf.d/90-subflowd.conf && systemctl reload NetworkManager`,
				seen, "no connection.mptcp-flags=1 in its configuration")
		case p.Name == Networkd && !l.NetworkdKeepsRules:
			l.find(plan.Warning, "networkd-rules", "systemd-networkd", "deletes rules that it did not make",
				`mkdir -p /etc/systemd/networkd.conf.d && printf '[Network]\nManageForeignRoutingPolicyRules=no\n' >/etc/systemd/networkd.conf.d/90-subflowd.conf && systemctl restart systemd-networkd`,
				seen, "no ManageForeignRoutingPolicyRules=no in its configuration")
		case p.Name == mptcpd:
			l.find(plan.Warning, "mptcpd-endpoints", mptcpd, "makes endpoints too", "systemctl disable --now mptcp.service", seen)
		}
	}
}
