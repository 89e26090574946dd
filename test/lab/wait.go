package lab

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Patient makes a wait longer by the factor in SUBFLOW_PATIENCE, for machines that are slow: an emulated processor.
func Patient(d time.Duration) time.Duration {
	if f, err := strconv.ParseFloat(os.Getenv("SUBFLOW_PATIENCE"), 64); err == nil && f > 1 {
		return time.Duration(f * float64(d))
	}
	return d
}

// Eventually calls f until it returns nil, every 10 ms at first and more rarely later. When the time is over the test
// ends with f's last error, and with the state of every host of the test.
func Eventually(t testing.TB, timeout time.Duration, what string, f func() error) {
	t.Helper()
	timeout = Patient(timeout)
	start := time.Now()
	pause := 10 * time.Millisecond
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Since(start) > timeout {
			dumpFor(t)
			t.Fatalf("%s: not within %v: %v", what, timeout, err)
		}
		time.Sleep(pause)
		pause = min(pause*5/4, 250*time.Millisecond)
	}
}

// Never calls f for the given time, every 20 ms, and ends the test as soon as f returns an error: what f checks holds
// all along.
func Never(t testing.TB, during time.Duration, what string, f func() error) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if err := f(); err != nil {
			dumpFor(t)
			t.Fatalf("%s: failed after %v: %v", what, time.Since(start).Round(time.Millisecond), err)
		}
		if time.Since(start) > during {
			return
		}
	}
}

// dumpFor dumps the labs of a test and of the tests that it is part of.
func dumpFor(t testing.TB) {
	t.Helper()
	labsMu.Lock()
	all := append([]*Lab(nil), labs...)
	labsMu.Unlock()
	for _, l := range all {
		if n := l.T.Name(); n == t.Name() || strings.HasPrefix(t.Name(), n+"/") {
			l.Dump()
		}
	}
}
