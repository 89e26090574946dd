package netstate

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Metric is one of the route metrics that subflowd carries from a route to its
// copy and uses for nothing: RTA_METRICS in rtnetlink(7), words of
// ip-route(8).
type Metric struct {
	Number uint16 // RTAX_ number (linux/rtnetlink.h)
	Value  uint32 // rto_min: milliseconds
	Name   string // of RTAX_CC_ALGO, which has no value
	Lock   bool   // the bit of the number in RTAX_LOCK
}

// RTAX_ numbers whose values are not plain numbers in ip(8).
const (
	metricFeatures = 12
	metricRTOMin   = 13
	metricCongctl  = 16
)

// metricWords are the metrics that are carried over. rtt and rttvar are left
// out: they are guesses about one path that the kernel replaces by measuring.
var metricWords = map[uint16]string{
	3: "window", 6: "ssthresh", 7: "cwnd", 9: "reordering", 10: "hoplimit", metricFeatures: "features",
	metricRTOMin: "rto_min", 14: "initrwnd", 15: "quickack", metricCongctl: "congctl", 17: "fastopen_no_cookie",
}

var metricNumbers = func() map[string]uint16 {
	m := map[string]uint16{}
	for n, word := range metricWords {
		m[word] = n
	}
	return m
}()

// features are the bits of RTAX_FEATURES that can be set.
var features = []struct {
	bit  uint32
	word string
}{{1 << 0, "ecn"}, {1 << 4, "tcp_usec_ts"}}

// MetricsText writes metrics as the arguments of `ip route add`, in the order
// given. What is not carried over or is 0 is left out.
func MetricsText(metrics []Metric) string {
	var w []string
	for _, m := range metrics {
		word, known := metricWords[m.Number]
		value := m.text()
		if !known || value == "" {
			continue
		}
		w = append(w, word)
		if m.Lock && m.Number != metricRTOMin { // rto_min is always locked
			w = append(w, "lock")
		}
		w = append(w, value)
	}
	return strings.Join(w, " ")
}

func (m Metric) text() string {
	switch {
	case m.Number == metricCongctl:
		return m.Name
	case m.Value == 0:
		return ""
	case m.Number == metricRTOMin:
		return strconv.FormatUint(uint64(m.Value), 10) + "ms"
	case m.Number == metricFeatures:
		var set []string
		for _, f := range features {
			if m.Value&f.bit != 0 {
				set = append(set, f.word)
			}
		}
		return strings.Join(set, " ")
	}
	return strconv.FormatUint(uint64(m.Value), 10)
}

// ParseMetrics reads what MetricsText wrote.
func ParseMetrics(text string) ([]Metric, error) {
	var metrics []Metric
	w := strings.Fields(text)
	for len(w) > 0 {
		number, ok := metricNumbers[w[0]]
		if !ok {
			return nil, fmt.Errorf("unknown route metric %q", w[0])
		}
		m := Metric{Number: number, Lock: number == metricRTOMin}
		word := w[0]
		if w = w[1:]; len(w) > 0 && w[0] == "lock" {
			m.Lock, w = true, w[1:]
		}
		n, err := m.read(w)
		if err != nil {
			return nil, fmt.Errorf("route metric %s: %w", word, err)
		}
		metrics, w = append(metrics, m), w[n:]
	}
	return metrics, nil
}

// read takes the value from the first words and returns how many these were.
func (m *Metric) read(w []string) (int, error) {
	if len(w) == 0 {
		return 0, fmt.Errorf("needs a value")
	}
	switch m.Number {
	case metricCongctl:
		m.Name = w[0]
		return 1, nil
	case metricRTOMin:
		d, err := time.ParseDuration(w[0])
		m.Value = uint32(d.Milliseconds())
		return 1, err
	case metricFeatures:
		n := 0
		for _, f := range features {
			if n < len(w) && w[n] == f.word {
				m.Value |= f.bit
				n++
			}
		}
		if n == 0 {
			return 0, fmt.Errorf("unknown feature %q", w[0])
		}
		return n, nil
	}
	v, err := strconv.ParseUint(w[0], 10, 32)
	m.Value = uint32(v)
	return 1, err
}
