//go:build bench

package bench

import (
	"testing"
	"time"

	"github.com/subflowd/subflowd/test/lab"
)

// TestFights measures what the daemon computes while another program undoes what it does, fifty times a second for
// ever, once it has found out. What is not the daemon's is no fight, and has no bound: each such rule is looked at.
func TestFights(t *testing.T) {
	const warm, during = 20 * time.Second, 20 * time.Second
	fights := []struct {
		name     string
		limit    float64
		commands []string

		daemon *lab.Daemon
		other  *lab.Fighter
		used   time.Duration
	}{
		{name: "deletes our rules", limit: 1, commands: []string{
			"rule del from 10.1.1.2 lookup 100002 proto 77", "rule del from 10.1.1.2 lookup main proto 77",
		}},
		{name: "deletes our route", limit: 1, commands: []string{"route del default table 100002 proto 77"}},
		{name: "deletes our endpoints", limit: 1, commands: []string{"mptcp endpoint flush"}},
		{name: "adds a rule of ours of old", limit: 1, commands: []string{"rule add from 10.88.0.1 lookup 100002 pref 32765 protocol 77"}},
		{name: "has rules of its own come and go", commands: []string{
			"rule add from 10.77.0.0/16 lookup 901 pref 32765", "rule del from 10.77.0.0/16 lookup 901 pref 32765",
			"rule add from 10.78.0.0/16 lookup 901 pref 32765", "rule del from 10.78.0.0/16 lookup 901 pref 32765",
		}},
	}
	for i := range fights {
		f, n := &fights[i], lab.TwoSubnets(t)
		f.daemon = n.Client.Daemon("--log-level", "error")
		lab.Eventually(t, giveUp, "both uplinks", func() error { return n.CheckUplinks("subflow", n.A, n.B) })
		f.other = lab.Fight(n.Client, 20*time.Millisecond, f.commands...)
	}
	time.Sleep(warm)
	begun := time.Now()
	for i := range fights {
		fights[i].used = -cpuOf(t, fights[i].daemon.Pid)
	}
	time.Sleep(during)
	for i := range fights {
		fights[i].used += cpuOf(t, fights[i].daemon.Pid)
	}
	percent := time.Since(begun) / 100
	for i := range fights {
		f := &fights[i]
		t.Logf("%s: %d times", f.name, f.other.Stop())
		report(t, "processor time while another program "+f.name+" for ever: 1 % of the time", short(f.used), short(percent), ofTimes(f.used, percent), f.limit)
	}
}
