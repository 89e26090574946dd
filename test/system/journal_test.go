package system

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/subflowd/subflowd/test/lab"
)

// checkJournal searches the journal by the fields that lines have.
func checkJournal(m *machine) {
	m.t.Helper()
	out := m.run("journalctl", "-u", "subflowd", "--no-pager", "-o", "json", "SUBFLOWD_LINK=eth0")
	line, _, _ := strings.Cut(out, "\n")
	var entry map[string]any
	if err := json.Unmarshal([]byte(line), &entry); err != nil {
		m.t.Fatalf("journal: %v\n%s", err, out)
	}
	for _, field := range []string{"MESSAGE", "SUBFLOWD_TABLE", "SUBFLOWD_REASON", "SUBFLOWD_TRIGGER"} {
		if entry[field] == nil || entry[field] == "" {
			m.t.Errorf("a line about eth0 has no %s: %v", field, entry)
		}
	}
	if entry["SYSLOG_IDENTIFIER"] != "subflowd" || entry["PRIORITY"] != "6" {
		m.t.Errorf("a line about eth0: %v", entry)
	}
}

// checkJournalStands has a journal that takes no line, as when it waits for its disk: the daemon works on, and the lines
// come when they can.
func checkJournalStands(m *machine, n *lab.Net) {
	m.t.Helper()
	const addresses = 120 // two lines each; the journal's socket takes some 170
	m.run("journalctl", "--sync")
	journald := strings.TrimSpace(m.run("systemctl", "show", "--value", "-p", "MainPID", "systemd-journald"))
	var add, del []string
	for i := range addresses {
		a := fmt.Sprintf("10.1.1.%d/24 dev eth0", 100+i)
		add, del = append(add, "addr add "+a), append(del, "addr del "+a)
	}
	m.run("kill", "-STOP", journald)
	n.Client.IP(add...)
	lab.Eventually(m.t, soon, "rules for every address", func() error {
		if rules := n.Client.Rules("-4"); len(rules) < 2*addresses {
			return fmt.Errorf("%d rules: %v", len(rules), rules)
		}
		return nil
	})
	m.run("kill", "-CONT", journald)
	lab.Eventually(m.t, soon, "every line in the journal", func() error {
		s := m.journal()
		for i := range addresses {
			if a := fmt.Sprintf("ip -4 rule add from 10.1.1.%d lookup 100002 ", 100+i); !strings.Contains(s, a) {
				return fmt.Errorf("no %q:\n%s", a, s)
			}
		}
		return nil
	})
	n.Client.IP(del...)
	m.complete(n, "subflow")
}
