package netstate

import "testing"

func TestMetrics(t *testing.T) {
	for _, text := range []string{
		"", "hoplimit 64", "window lock 5000 ssthresh 3 cwnd 4 reordering 5 hoplimit lock 33 features ecn tcp_usec_ts rto_min 50ms initrwnd 30 quickack 1 congctl lock bbr fastopen_no_cookie 1",
	} {
		m, err := ParseMetrics(text)
		if got := MetricsText(m); err != nil || got != text {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	if got := MetricsText([]Metric{{Number: 4, Value: 80}, {Number: 10}, {Number: 12, Value: 2}, {Number: 16}, {Number: 99, Value: 1}}); got != "" {
		t.Errorf("metrics that are not carried over: %q", got)
	}
	for _, text := range []string{"hoplimit", "hoplimit lock", "hoplimit x", "rtt 5ms", "features sack", "rto_min 5", "congctl"} {
		if m, err := ParseMetrics(text); err == nil {
			t.Errorf("%q: %v", text, m)
		}
	}
}
