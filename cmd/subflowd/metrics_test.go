package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/subflowd/subflowd/pkg/status"
	"github.com/subflowd/subflowd/test/lab"
)

const metricsAddr = "127.0.0.1:9477"

// scrape asks from the host's namespace; network is unix or tcp.
func scrape(h *lab.Host, network, addr, path string) (int, string, error) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (c net.Conn, err error) {
		// The request would look like one of the connections that are counted.
		var d net.Dialer
		d.SetMultipathTCP(false)
		h.Do(func() { c, err = d.DialContext(ctx, network, addr) })
		return c, err
	}}
	client := http.Client{Timeout: soon, Transport: transport}
	resp, err := client.Get("http://subflowd" + path)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// checkScrape wants an answer that has the lines and nothing that promlint minds.
func checkScrape(h *lab.Host, network, addr string, lines ...string) error {
	code, text, err := scrape(h, network, addr, "/metrics")
	if err != nil || code != http.StatusOK {
		return fmt.Errorf("scrape %s: %d %w", addr, code, err)
	}
	if problems, err := promlint.New(strings.NewReader(text)).Lint(); err != nil || len(problems) > 0 {
		return fmt.Errorf("promlint: %w %v", err, problems)
	}
	for _, line := range lines {
		if !strings.Contains(text, line+"\n") {
			return fmt.Errorf("no %q in\n%s", line, text)
		}
	}
	return nil
}

// value is that of one sample.
func value(t *testing.T, text, sample string) float64 {
	t.Helper()
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, sample+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("no %s in\n%s", sample, text)
	return 0
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	d := n.Client.DaemonConfig("[metrics]\nlisten = \"" + metricsAddr + "\"\n")
	right(n)
	d.WaitSocket()
	n.Server.Listen(n.ServerAddr + ":5001")
	c := n.Client.Dial(n.ServerAddr + ":5001")
	c.WantEcho(soon)
	c.WantSubflows(n.A.Addr, n.B.Addr)
	want := []string{
		`subflowd_state{state="converged"} 1`,
		`subflowd_path_state{link="eth0",family="ipv4",state="live"} 1`,
		`subflowd_path_state{link="eth1",family="ipv4",state="live"} 1`,
		`subflowd_wanted_endpoints 2`,
		`subflowd_changes_total{kind="endpoint_add",result="made"} 2`,
		`subflowd_overflows_total 0`,
		`subflowd_guard_tunnel 0`,
		`subflowd_mptcp_ext_total{name="MPJoinSynAckRx"} 1`,
		`subflowd_connections{protocol="mptcp"} 1`,
		`subflowd_connections{protocol="tcp"} 0`,
		`subflowd_path_connections{link="eth0",family="ipv4"} 1`,
		`subflowd_path_subflows{link="eth1",family="ipv4"} 1`,
		`subflowd_read_failed{source="mptcp_ext"} 0`,
		`subflowd_read_failed{source="connections"} 0`,
	}
	lab.Eventually(t, soon, "scrape of the socket", func() error { return checkScrape(n.Client, "unix", d.Socket, want...) })
	lab.Eventually(t, soon, "scrape of the port", func() error { return checkScrape(n.Client, "tcp", metricsAddr, want...) })
	const events, rounds = "subflowd_events_total", "subflowd_reconcile_duration_seconds_count"
	_, before, err := scrape(n.Client, "tcp", metricsAddr, "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	n.Client.IP("addr add 10.1.1.77/24 dev eth0")
	lab.Eventually(t, soon, "an event and a round", func() error {
		_, text, err := scrape(n.Client, "tcp", metricsAddr, "/metrics")
		if err == nil && (value(t, text, events) <= value(t, before, events) || value(t, text, rounds) <= value(t, before, rounds)) {
			err = errors.New(text)
		}
		return err
	})
	if code, text, err := scrape(n.Client, "tcp", metricsAddr, "/v1/status"); err != nil || code != http.StatusNotFound {
		t.Errorf("the port serves the status: %d %v %s", code, err, text)
	}
	if out := n.Client.Run("ss", "-HlnM"); strings.Contains(out, "9477") {
		t.Errorf("the port is an MPTCP socket:\n%s", out)
	}
	d.Stop()
}

func TestMetricsPortMoves(t *testing.T) {
	t.Parallel()
	n := lab.TwoSubnets(t)
	d := n.Client.Daemon()
	right(n)
	d.WaitSocket()
	listens := func(addr string) string { return "[metrics]\nlisten = \"" + addr + "\"\n" }
	silent := func(addr string) {
		t.Helper()
		lab.Eventually(t, soon, "silence on "+addr, func() error {
			if _, _, err := scrape(n.Client, "tcp", addr, "/metrics"); err == nil {
				return fmt.Errorf("%s answers", addr)
			}
			return nil
		})
	}
	answers := func(addr string) {
		t.Helper()
		lab.Eventually(t, 2*soon, "answer on "+addr, func() error { return checkScrape(n.Client, "tcp", addr) })
	}
	conditions := func() (codes []string) {
		var s status.Document
		n.Client.CtlJSON(&s, "status")
		for _, c := range s.Conditions {
			codes = append(codes, c.Code)
		}
		return codes
	}
	silent(metricsAddr)
	d.Configure(listens(metricsAddr))
	answers(metricsAddr)
	d.Configure(listens("127.0.0.1:9478"))
	answers("127.0.0.1:9478")
	silent(metricsAddr)

	var busy net.Listener
	var err error
	n.Client.Do(func() { busy, err = net.Listen("tcp", "127.0.0.1:9479") })
	if err != nil {
		t.Fatal(err)
	}
	d.Configure("role = \"both\"\n" + listens("127.0.0.1:9479"))
	lab.Eventually(t, soon, "condition", func() error {
		if c := fmt.Sprint(conditions()); !strings.Contains(c, "no-metrics") {
			return fmt.Errorf("conditions %s", c)
		}
		return nil
	})
	silent("127.0.0.1:9478")
	// The rest of the configuration has come into effect.
	lab.Eventually(t, soon, "endpoints of the other role", func() error { return n.CheckUplinks("subflow signal", n.A, n.B) })
	if err := busy.Close(); err != nil {
		t.Fatal(err)
	}
	answers("127.0.0.1:9479")
	lab.Eventually(t, soon, "no condition", func() error {
		if c := fmt.Sprint(conditions()); strings.Contains(c, "no-metrics") {
			return fmt.Errorf("conditions %s", c)
		}
		return nil
	})
	d.Configure("")
	silent("127.0.0.1:9479")
	d.Stop()
}

func TestMemoryWithMetrics(t *testing.T) {
	if os.Getenv("SUBFLOW_RACE") == "1" {
		t.Skip("the race detector takes memory of its own")
	}
	t.Parallel()
	n := lab.TwoSubnets(t)
	d := n.Client.DaemonConfig("resync = \"1h\"\n[metrics]\nlisten = \"" + metricsAddr + "\"\n")
	right(n)
	lab.Eventually(t, soon, "port", func() error { return checkScrape(n.Client, "tcp", metricsAddr) })
	for range 50 {
		if err := checkScrape(n.Client, "tcp", metricsAddr); err != nil {
			t.Fatal(err)
		}
	}
	lab.Never(t, time.Second, "memory", func() error {
		if rss := procStatus(t, d.Pid, "VmRSS"); rss > maxRSS {
			return fmt.Errorf("VmRSS %d kB", rss)
		}
		return nil
	})
	t.Logf("VmRSS %d kB after 50 scrapes", procStatus(t, d.Pid, "VmRSS"))
}
