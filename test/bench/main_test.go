//go:build bench

package bench

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// roleEnv makes this program a reference instead of a test: it runs as a process of its own, as the daemon does.
const roleEnv = "SUBFLOW_BENCH_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(roleEnv) != "" {
		if err := bareLoop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if err := prefer(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	printTable()
	os.Exit(code)
}

// prefer starts this program again at a high priority, which all subjects inherit alike: what else runs on the machine
// is no part of the comparison.
func prefer() error {
	const niceness = -15
	if now, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0); os.Geteuid() != 0 || err == nil && 20-now <= niceness {
		return nil // the system call gives 20 less the nice value
	}
	nice, err := exec.LookPath("nice")
	if err != nil {
		return fmt.Errorf("the program nice is missing (apt-get install coreutils): %w", err)
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	return syscall.Exec(nice, append([]string{"nice", "-n", strconv.Itoa(niceness), exe}, os.Args[1:]...), os.Environ())
}

// repetitions is n, or what SUBFLOW_BENCH_N says: less for a first look, more for a quiet machine.
func repetitions(n int) int {
	if v, err := strconv.Atoi(os.Getenv("SUBFLOW_BENCH_N")); err == nil && v > 0 {
		return v
	}
	return n
}

// samples are repetitions of one figure.
type samples []time.Duration

// quantile is the sample that a share q of all samples do not exceed.
func (s samples) quantile(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	s = slices.Sorted(slices.Values(s))
	return s[min(len(s)-1, int(q*float64(len(s))))]
}

func (s samples) median() time.Duration { return s.quantile(0.5) }

func ratio[T cmp.Ordered](a, b T, f func(T) float64) float64 {
	if f(b) == 0 {
		return 0
	}
	return f(a) / f(b)
}

func ofTimes(a, b time.Duration) float64 { return ratio(a, b, time.Duration.Seconds) }

// row is one line of the table.
type row struct{ figure, measured, reference, ratio, wanted, verdict string }

var (
	rowsMu sync.Mutex
	rows   []row
)

// report adds a line to the table, and fails the test when the ratio is beyond the limit; a limit of 0 only shows it.
func report(t *testing.T, figure, measured, reference string, value, limit float64) {
	t.Helper()
	r := row{figure: figure, measured: measured, reference: reference, ratio: fmt.Sprintf("%.2f", value), wanted: "-", verdict: "-"}
	if limit > 0 {
		r.wanted, r.verdict = fmt.Sprintf("<= %.4g", limit), "met"
		if value > limit {
			r.verdict = "MISSED"
			t.Errorf("%s: %s beside %s is a ratio of %.2f, wanted at most %.4g", figure, measured, reference, value, limit)
		}
	}
	rowsMu.Lock()
	rows = append(rows, r)
	rowsMu.Unlock()
}

// reportBound adds a line whose limit is a duration and no ratio.
func reportBound(t *testing.T, figure string, measured, limit time.Duration) {
	t.Helper()
	report(t, figure, short(measured), short(limit), ofTimes(measured, limit), 1)
}

func short(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.3f ms", d.Seconds()*1e3)
	case d < time.Second:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1e3)
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

func printTable() {
	if len(rows) == 0 {
		return
	}
	fmt.Println("\n| figure | measured | reference | ratio | wanted | |\n|---|---|---|---|---|---|")
	for _, r := range rows {
		fmt.Printf("| %s | %s | %s | %s | %s | %s |\n", r.figure, r.measured, r.reference, r.ratio, r.wanted, r.verdict)
	}
}
