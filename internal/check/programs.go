package check

import (
	"fmt"
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
	if l.RecordError != "" {
		l.find(plan.Warning, "record-unusable", "state record", l.RecordError, "")
	}
	if l.Daemon == nil {
		l.absent()
		return
	}
	if n := l.Daemon.Overflows; n > 0 {
		l.find(plan.Info, "events-lost", "kernel", fmt.Sprintf("sent more notifications than could be taken, %d times, the last %s ago", n, l.Daemon.SinceOverflow.Round(time.Second)),
			"", fmt.Sprintf("subflowctl -o json status: overflows %d", n))
	}
}

// absent reports that no daemon runs, where there is something for it to do.
func (l *looker) absent() {
	changes := len(l.Changes.Up) + len(l.Changes.Down)
	if l.NoPolicyRouting || changes == 0 {
		return
	}
	first := l.Changes.Down
	if len(l.Changes.Up) > 0 {
		first = l.Changes.Up
	}
	l.find(plan.Warning, "daemon-absent", "subflowd", fmt.Sprintf("does not run here, and %d changes would be needed", changes),
		"systemctl enable --now subflowd", "subflowctl plan: "+first[0].Text(l.names))
}

// Names of processes, as the kernel cuts them to 15 characters.
const (
	NetworkManager = "NetworkManager"
	Networkd       = "systemd-network"
	mptcpd         = "mptcpd"
)

// Watched are the names of the processes to look for.
var Watched = []string{NetworkManager, Networkd, mptcpd}

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
