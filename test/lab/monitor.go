package lab

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Monitor collects every change that the kernel reports in a namespace.
type Monitor struct {
	h     *Host
	proc  *Proc
	stop  chan struct{}
	done  chan struct{}
	mu    sync.Mutex
	mptcp []string // changes of endpoints and limits
}

// Monitor starts `ip monitor` for links, addresses, routes, rules and nexthops, and looks at the MPTCP endpoints and
// limits ten times a second, for the kernel reports no change of them. It returns when the subscription stands.
func (h *Host) Monitor() *Monitor {
	h.Lab.T.Helper()
	m := &Monitor{h: h, stop: make(chan struct{}), done: make(chan struct{})}
	m.proc = h.Start("ip", "-o", "monitor", "link", "address", "route", "rule", "nexthop")
	Eventually(h.Lab.T, 20*time.Second, "ip monitor", func() error {
		if !h.listens(m.proc.Pid) {
			return fmt.Errorf("pid %d has no subscription: %s", m.proc.Pid, m.proc.Log())
		}
		return nil
	})
	first := h.mptcpState()
	go m.poll(first)
	h.Lab.onClose(func() { m.Stop() })
	return m
}

// listens reports whether a process has a netlink socket with groups; /proc/net/netlink has the columns
// sk Eth Pid Groups.
func (h *Host) listens(pid int) bool {
	found := false
	h.do(func() {
		f, err := os.Open("/proc/thread-self/net/netlink")
		if err != nil {
			return
		}
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			w := strings.Fields(s.Text())
			if len(w) > 3 && w[2] == fmt.Sprint(pid) && strings.Trim(w[3], "0") != "" {
				found = true
			}
		}
	})
	return found
}

func (h *Host) mptcpState() []string {
	out, err := h.TryIP("mptcp endpoint show", "mptcp limits show")
	if err != nil {
		return []string{err.Error()}
	}
	var r []string
	for _, l := range strings.Split(out, "\n") {
		if l = strings.Join(words(l), " "); l != "" {
			r = append(r, "mptcp "+l)
		}
	}
	return r
}

func (m *Monitor) poll(before []string) {
	defer close(m.done)
	for last := false; !last; {
		select {
		case <-m.stop:
			last = true
		case <-time.After(100 * time.Millisecond):
		}
		now := m.h.mptcpState()
		m.mu.Lock()
		for _, l := range strings.Split(Diff(strings.Join(before, "\n"), strings.Join(now, "\n")), "\n") {
			if l != "" {
				m.mptcp = append(m.mptcp, l)
			}
		}
		m.mu.Unlock()
		before = now
	}
}

// Lines returns the changes so far: lines of ip monitor ("Deleted ..." for what went), then those of MPTCP, such as
// "+ mptcp 10.1.1.2 id 1 subflow dev eth0".
func (m *Monitor) Lines() []string {
	var r []string
	for _, l := range strings.Split(m.proc.Log(), "\n") {
		// ip looks at all named namespaces when it starts, and says this of one that another test is making or deleting.
		if l = strings.Join(strings.Fields(l), " "); l != "" && l != "Error: Peer netns reference is invalid." {
			r = append(r, l)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return append(r, m.mptcp...)
}

// Check returns an error that lists all changes but those with one of the given parts, such as "2001:db8:1::" for the
// lifetimes that each router advertisement renews.
func (m *Monitor) Check(ignore ...string) error {
	var r []string
next:
	for _, l := range m.Lines() {
		for _, i := range ignore {
			if strings.Contains(l, i) {
				continue next
			}
		}
		r = append(r, l)
	}
	if len(r) == 0 {
		return nil
	}
	return fmt.Errorf("[%s] %d changes, wanted none:\n  %s", m.h.Name, len(r), strings.Join(r, "\n  "))
}

// WantNone stops the monitor and ends the test if there was any change but those to ignore.
func (m *Monitor) WantNone(ignore ...string) {
	m.h.Lab.T.Helper()
	m.Stop()
	m.h.must(m.Check(ignore...))
}

// Stop ends the monitor and returns all changes. What was done before Stop is among them.
func (m *Monitor) Stop() []string {
	select {
	case <-m.stop:
		return m.Lines()
	default:
	}
	close(m.stop)
	<-m.done
	m.settle()
	_ = m.proc.Signal(syscall.SIGTERM)
	<-m.proc.done
	return m.Lines()
}

// settle waits until ip monitor has read what the kernel had queued for it: /proc/net/netlink shows Rmem in its fifth column.
func (m *Monitor) settle() {
	for range 200 {
		queued := false
		m.h.do(func() {
			b, _ := os.ReadFile("/proc/thread-self/net/netlink")
			for _, l := range strings.Split(string(b), "\n") {
				w := strings.Fields(l)
				if len(w) > 4 && w[2] == fmt.Sprint(m.proc.Pid) && w[4] != "0" {
					queued = true
				}
			}
		})
		if !queued {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}
